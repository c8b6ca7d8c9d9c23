"""Leases: who is an evaluator's one owner, decided among processes that do not see each other, and kept up."""
