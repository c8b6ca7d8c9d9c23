"""Programs that run under a peer's own Python: standard library and the peer's packages, nothing of Usher's."""
