"""Data dirs as earlier releases left them, with who must be in what: later releases must still read them.

A folder a release: `evaluator-0.db.zst` (the log), `checkpoints/`, `traits/`, `expected.json`. None is ever changed.
Made by `python -m tests.histories.make NAME`, once, before a release that changes what is stored.
"""
