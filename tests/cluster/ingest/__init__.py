"""Tests of sending event files."""
