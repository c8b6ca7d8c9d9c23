"""The HTTP edge: accepts connections, reads events, serves membership and administration."""
