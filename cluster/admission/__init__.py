"""From envelopes to hits: what definitions ask of events, read as columns."""
