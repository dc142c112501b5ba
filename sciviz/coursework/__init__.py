"""Coursework: students' copies made from one source, and grades that the student's code cannot forge.

A student's notebook needs two names of it, and they load nothing else:

>>> from sciviz.coursework import check, seed_of
>>> seed_of("ada", "practice") == seed_of("ada", "practice")
True
"""

from sciviz.coursework.visible import check, seed_of

__all__ = ["check", "seed_of"]
