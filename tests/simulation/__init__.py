"""The deterministic simulation: Usher's own parts in one thread under virtual time, from a seed, with faults.

docs/reliability.md ("The simulation") says what runs, what is faked, and how to read a story.
"""
