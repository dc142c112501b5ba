"""Rectified flow: velocities regressed on lines between two laws, and what straightening them buys."""
