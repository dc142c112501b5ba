"""The workloads, one module a method."""
