"""Amplitude: members of a cohort, or entries and exits as events."""
