"""Wire formats: from request bodies to envelopes."""
