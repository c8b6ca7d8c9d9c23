"""Checkpoints: whatever befalls them, an evaluator comes back as it was."""
