"""Properties: what must hold for every document and every stream, against the reference evaluator."""
