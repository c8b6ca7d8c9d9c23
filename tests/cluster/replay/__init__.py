"""Tests of cluster.replay."""
