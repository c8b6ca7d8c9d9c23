"""Segment as a destination."""
