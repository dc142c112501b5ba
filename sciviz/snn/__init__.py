"""Spiking networks: membranes that fire, learnt through surrogate gradients, delays and local rules."""
