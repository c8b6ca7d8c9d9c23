"""Readers of trait sources, one file a kind: each gives Arrow batches of the needed columns, and tells a change."""
