"""Laws of the logs: what was acknowledged is there, whole, and nothing else is."""
