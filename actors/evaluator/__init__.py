"""The evaluator: a user's events, traits and time in, transitions out."""
