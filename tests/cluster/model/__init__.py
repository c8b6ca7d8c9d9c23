"""Tests of cluster.model."""
