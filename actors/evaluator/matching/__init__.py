"""From the columns of a batch to, for each hit, the filters that match: an index from values to filters."""
