"""Events from files to a running Usher: read, shaped, sent, and gone on with where it was left."""
