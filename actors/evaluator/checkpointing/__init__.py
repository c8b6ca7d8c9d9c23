"""Checkpoints of an evaluator: its state as arrays, when one is due, how it is taken, written and used."""
