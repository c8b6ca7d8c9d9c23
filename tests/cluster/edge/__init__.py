"""The tests of cluster/edge: a real server on a loopback port, fakes only behind the protocols."""
