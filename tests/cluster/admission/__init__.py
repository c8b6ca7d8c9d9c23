"""Tests of cluster.admission."""
