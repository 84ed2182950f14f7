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
    return TorchEmbedder(
        _network(checkpoint.teacher, scales, whitening),
        space=checkpoint.space(whitening),
        preprocessing=preprocessing,
        name=teacher_embedder_name(threads, device),
        threads=threads,
        device=device,
    )


def teacher_embedder_name(threads: int, device: str) -> str:
    """Returns the name of a teacher's embedder, known without opening it."""
    return f"torch {torch.__version__}, {f'{threads} threads' if device == 'cpu' else device}"


def student_embedder(
    checkpoint: StudentCheckpoint,
    preprocessing: Preprocessing,
    *,
    whitening: Whitening | None = None,
    scales: Scales = SINGLE_SCALE,
    device: str = "cpu",
) -> TorchEmbedder:
    """Returns a student that embeds into its own space, or into that space after its teacher's whitening."""
    space = checkpoint.space
    if whitening is not None:
        space = replace(space, dimension=whitening.dimension, whitening_sha256=whitening.sha256)
    network = _network(checkpoint.student, scales, whitening)
    name = f"student {checkpoint.name}"
    return TorchEmbedder(network, space=space, preprocessing=preprocessing, name=name, device=device)


def _network(network: Student | Teacher, scales: Scales, whitening: Whitening | None) -> nn.Module:
    embedding = network if scales == SINGLE_SCALE else MultiScale(network, scales)
    return embedding if whitening is None else nn.Sequential(embedding, whitening)
