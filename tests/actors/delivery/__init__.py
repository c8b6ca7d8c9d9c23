"""Tests of actors.delivery."""
