"""Iterable lists."""
