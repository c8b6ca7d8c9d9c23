"""Replay: the same engine over files."""
