"""Live chaos: a real Usher under load whose processes are killed and stopped at random, and what must hold of it."""
