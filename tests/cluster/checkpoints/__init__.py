"""Laws of stored checkpoints: whole or not there at all, wherever they are kept."""
