"""The Python client and the condition builder."""
