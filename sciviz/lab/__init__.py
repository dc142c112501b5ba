"""The bench that all wings share: runs, claims, data, training, figures and the base of every explorer.

Modules are imported by name (`from sciviz.lab import theme`), so that a wing loads only what it uses.
"""
