"""Anonymous ids that join users: which, their events that wait, and how a machine joins them (docs/stitching.md)."""
