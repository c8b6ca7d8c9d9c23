"""The tests of cluster/, package by package."""
