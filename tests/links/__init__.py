"""Simulated destinations, one a YAML file, and delivery's own machine and limits against them in virtual time."""
