"""A whitening by its training set alone is the one that was learned at as many scales."""

from __future__ import annotations

import pytest
import torch

from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_names import whitening_name
from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import PUBLISHED_SCALES, SINGLE_SCALE


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    layer = Whitening(torch.zeros(1280), torch.eye(2, 1280))
    both = {"retrieval-SfM-120k/ss": layer, "retrieval-SfM-120k/ms": layer, "alone": layer, "half/ms": layer}
    return TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035")).eval(), "tiny", Preprocessing(64), both)


@pytest.mark.parametrize(
    ("name", "at_one_scale", "at_several"),
    [
        ("retrieval-SfM-120k", "retrieval-SfM-120k/ss", "retrieval-SfM-120k/ms"),
        ("retrieval-SfM-120k/ss", "retrieval-SfM-120k/ss", "retrieval-SfM-120k/ss"),  # asked for by its whole name
        ("alone", "alone", "alone"),
        ("half", "half", "half/ms"),
        ("file.pth", "file.pth", "file.pth"),
    ],
)
def test_a_training_set_stands_for_the_one_of_the_scales(
    teacher: TeacherCheckpoint, name: str, at_one_scale: str, at_several: str
) -> None:
    assert whitening_name(name, teacher, SINGLE_SCALE) == at_one_scale
    assert whitening_name(name, teacher, (0.5,)) == at_one_scale
    assert whitening_name(name, teacher, PUBLISHED_SCALES) == at_several
