"""Labelled experiments with the wing `snn`, one module a paper; each claim's criterion is a function here."""
