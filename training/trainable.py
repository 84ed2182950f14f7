"""`Trainable`: what a training needs of a network: a trunk, a head, and GeM's power."""

from __future__ import annotations

from aml_edge.networks.student import Student
from aml_edge.networks.teacher import Teacher
from aml_edge.training.quantization_aware import QuantizationAwareStudent

Trainable = Student | Teacher | QuantizationAwareStudent
"""All have `backbone` (images → feature map), `head` (feature map → embeddings) and `pool`."""
