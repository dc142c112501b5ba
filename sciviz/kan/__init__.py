"""Kolmogorov-Arnold networks: learnt functions on the edges, sums at the nodes."""
