# The generator needs an environment of its own (see its first lines), so pytest must not import it for doctests.
collect_ignore = ["make_neural_tangents.py"]
