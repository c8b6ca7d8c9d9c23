"""Delivery: changes of audiences to destinations, in order per user, nothing lost, nothing under a new id."""
