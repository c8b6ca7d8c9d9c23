"""The tests of actors/, one folder an actor."""
