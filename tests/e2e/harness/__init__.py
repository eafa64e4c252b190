"""What the end-to-end tests, the demos and the benchmarks stand on: the real server, the cluster, the node, the researcher."""
