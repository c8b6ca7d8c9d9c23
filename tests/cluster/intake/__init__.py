"""Events that Usher fetches itself."""
