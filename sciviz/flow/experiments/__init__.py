"""Labelled experiments with the wing `flow`, one module a paper; each claim's criterion is a function here."""
