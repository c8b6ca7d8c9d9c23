"""Iterable: subscribers of a static list."""
