"""`usher demo`: a shop with simulated customers, a running Usher, and the webhooks that it sends."""
