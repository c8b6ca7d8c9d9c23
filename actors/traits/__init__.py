"""Trait snapshots: read, checked and typed once, given to every evaluator whole or not at all."""
