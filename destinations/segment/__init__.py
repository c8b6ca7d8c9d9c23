"""Segment: entries and exits as identify and track calls, in the convention of Segment's own audiences."""
