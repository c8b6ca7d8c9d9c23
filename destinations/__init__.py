"""Kinds of destination: pure functions from changes to requests and from answers to outcomes."""
