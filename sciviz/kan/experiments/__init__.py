"""Labelled experiments with the wing `kan`, one module a paper; each claim's criterion is a function here."""
