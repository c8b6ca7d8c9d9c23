"""Laws of trait snapshots: typed as semantics.md §2 says, taken whole or not at all."""
