"""Braze: membership as an attribute of a profile, or entries and exits as events, over `/users/track`."""
