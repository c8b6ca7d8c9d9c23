"""One folder an actor: its pure core, and a thin shell that gives it clock, files and network."""
