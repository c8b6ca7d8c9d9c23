"""Tests of destinations.webhook."""
