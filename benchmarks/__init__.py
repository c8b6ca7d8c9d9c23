"""Load tests and benchmarks: `usher bench [NAME...]`. What is measured and how: benchmarks/README.md."""
