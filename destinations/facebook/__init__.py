"""Facebook (Meta) Custom Audiences: hashed identifiers added to and removed from a list of an ad account."""
