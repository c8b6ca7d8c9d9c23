"""Tests of actors.evaluator."""
