"""The oracle: semantics.md as slowly and plainly as it can be written, importing nothing of Usher."""
