"""Where evaluators' checkpoints are kept: the file of one (container), and the folder or bucket of all (store)."""
