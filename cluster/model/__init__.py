"""Values, partitions and transitions: what every part means by them."""
