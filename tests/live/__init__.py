"""Tests on a real embedded Ray: the slowest, run last."""
