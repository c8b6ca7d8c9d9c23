"""Stitching: which ids join whom, and the events that wait to."""
