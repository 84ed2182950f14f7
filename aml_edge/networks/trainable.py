"""`Trainable`: what a training needs of a network: a trunk, a head, and GeM's power."""

from __future__ import annotations

from aml_edge.networks.student import Student
from aml_edge.networks.teacher import Teacher

Trainable = Student | Teacher
"""Both have `backbone` (images → feature map), `head` (feature map → embeddings) and `pool`."""
