"""Teachers and students as embedders in PyTorch, at several scales, followed by a whitening where there is one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.multi_scale import MultiScale
from aml_edge.networks.student import Student
from aml_edge.networks.teacher import Teacher
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.torch_runtime import TorchEmbedder
from aml_edge.scales import SINGLE_SCALE, Scales


def teacher_embedder(
    checkpoint: TeacherCheckpoint,
    preprocessing: Preprocessing,
    *,
    whitening: Whitening | None = None,
    scales: Scales = SINGLE_SCALE,
    threads: int | None = None,
    device: str = "cpu",
) -> TorchEmbedder:
    """Returns a teacher that embeds into its space, whitened where a whitening is given; the scales come first.

    Its name says what the last bits of its embeddings depend on: PyTorch, device and number of threads.
    """
    threads = threads or torch.get_num_threads()
    place = f"{threads} threads" if device == "cpu" else device
    return TorchEmbedder(
        _network(checkpoint.teacher, scales, whitening),
        space=checkpoint.space(whitening),
        preprocessing=preprocessing,
        name=f"torch {torch.__version__}, {place}",
        threads=threads,
        device=device,
    )


def student_embedder(
    checkpoint: StudentCheckpoint,
    preprocessing: Preprocessing,
    *,
    whitening: Whitening | None = None,
    scales: Scales = SINGLE_SCALE,
) -> TorchEmbedder:
    """Returns a student that embeds into its own space, or into that space after its teacher's whitening."""
    space = checkpoint.space
    if whitening is not None:
        space = replace(space, dimension=whitening.dimension, whitening_sha256=whitening.sha256)
    network = _network(checkpoint.student, scales, whitening)
    return TorchEmbedder(network, space=space, preprocessing=preprocessing, name=f"student {checkpoint.name}")


def _network(network: Student | Teacher, scales: Scales, whitening: Whitening | None) -> nn.Module:
    embedding = network if scales == SINGLE_SCALE else MultiScale(network, scales)
    return embedding if whitening is None else nn.Sequential(embedding, whitening)
