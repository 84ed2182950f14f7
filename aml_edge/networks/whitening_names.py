"""Which of a published teacher's whitenings goes with so many scales."""

from __future__ import annotations

from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.scales import Scales

LEARNED_AT_ONE_SCALE, LEARNED_AT_SEVERAL = "ss", "ms"


def whitening_name(name: str, teacher: TeacherCheckpoint, scales: Scales) -> str:
    """Returns a whitening's whole name where only its training set is named, and any other name as it is.

    A published teacher has two for a training set: ``"retrieval-SfM-120k"`` is ``"retrieval-SfM-120k/ss"`` for
    embeddings at one scale, ``"retrieval-SfM-120k/ms"`` for those at several.
    """
    whole = f"{name}/{LEARNED_AT_ONE_SCALE if len(scales) == 1 else LEARNED_AT_SEVERAL}"
    return whole if whole in teacher.whitenings else name
