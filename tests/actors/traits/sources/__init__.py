"""Tests of the readers of trait sources."""
