"""Backbones, students, teachers, and the files that hold their weights."""
