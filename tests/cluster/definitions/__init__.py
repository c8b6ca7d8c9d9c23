"""Laws of definitions documents: what is sound is parsed, what is not is named, all of it, where it stands."""
