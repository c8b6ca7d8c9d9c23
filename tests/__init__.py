"""The tests, package by package as the source; the reference evaluator is the oracle for all of them."""
