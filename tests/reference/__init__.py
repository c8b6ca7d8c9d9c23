"""The reference evaluator: semantics.md written as slowly and plainly as it can be. It imports nothing of Usher."""
