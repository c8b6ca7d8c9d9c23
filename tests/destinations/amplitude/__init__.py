"""Amplitude cohorts and events."""
