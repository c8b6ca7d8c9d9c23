"""Who owns what: one process at a time, whatever others do."""
