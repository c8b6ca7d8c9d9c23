"""Other engines on the `engine` benchmark's workload: `python -m benchmarks.peers [NAME...]`; see benchmarks/README.md."""
