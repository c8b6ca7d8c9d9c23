"""Definitions documents: parsed, checked, versioned. `parsing` is the way in, `model` is what comes out."""
