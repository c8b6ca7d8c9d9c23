"""Tests of the benchmarks: a figure is worth what its generator, its checks and its arithmetic are worth."""
