"""Coursework: students' copies made from one source, and grades that the student's code cannot forge."""
