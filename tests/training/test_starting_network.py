"""The network that a training starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, weights_sha256
from aml_edge.networks.imagenet import imagenet_classifier
from aml_edge.preprocessing import IMAGENET_MEAN, Fit
from aml_edge.space import EmbeddingSpace
from aml_edge.training.settings import Mode, Network, TrainingSettings
from aml_edge.training.starting_network import starting_network

SPACE = EmbeddingSpace("toy", "0" * 64, 24)
SMALL = TrainingSettings(backbone="mobilenetv2_035", image_side_px=96)
TEACHER = replace(SMALL, network=Network.TEACHER, mode=Mode.SYMMETRIC, warm_start=False)


def student_of(settings: TrainingSettings, space: EmbeddingSpace | None = SPACE) -> StudentCheckpoint:
    start = starting_network(settings, space)
    assert isinstance(start, StudentCheckpoint)
    return start


def teacher_of(settings: TrainingSettings) -> TeacherCheckpoint:
    start = starting_network(settings, None)
    assert isinstance(start, TeacherCheckpoint)
    return start


def test_has_the_dimension_and_claims_the_space_of_the_teacher() -> None:
    start = student_of(SMALL)
    assert start.space == SPACE
    assert start.student.spec.dimension == 24
    assert start.student.adaptor.weight.shape == (24, 1280, 1, 1)
    assert start.preprocessing.image_side_px == 96
    assert start.preprocessing.fit is Fit.NATIVE
    assert start.name == "mobilenetv2_035-untrained"
    assert not start.trained
    assert not start.student.training


def test_the_fit_is_that_of_the_settings() -> None:
    for network in (SMALL, TEACHER):
        assert starting_network(replace(network, fit=Fit.LETTERBOX), SPACE).preprocessing.fit is Fit.LETTERBOX


def test_a_student_alone_has_the_dimension_of_the_settings_and_no_teachers_space() -> None:
    start = student_of(replace(SMALL, dimension=40), None)
    assert start.student.dimension == start.space.dimension == 40
    assert start.space != SPACE
    assert not start.trained


def test_the_settings_may_repeat_the_dimension_of_the_index() -> None:
    assert student_of(replace(SMALL, dimension=24)).student.dimension == 24


def test_a_teacher_gives_its_trunks_channels() -> None:
    start = teacher_of(TEACHER)
    assert start.name == "mobilenetv2_035-untrained"
    assert start.teacher.dimension == 1280
    assert {name.split(".")[0] for name, _ in start.teacher.named_parameters()} == {"backbone", "pool"}
    assert (start.preprocessing.image_side_px, start.preprocessing.fit) == (96, Fit.NATIVE)
    assert not start.teacher.training
    assert teacher_of(replace(TEACHER, dimension=1280)).teacher.dimension == 1280


def test_the_trunk_has_imagenet_weights_where_they_are_asked_for() -> None:
    stem = imagenet_classifier("efficientnet_lite0").conv_stem.weight
    start = student_of(replace(SMALL, backbone="imagenet:efficientnet_lite0"))
    assert torch.equal(start.student.backbone.trunk.conv_stem.weight, stem)
    assert start.student.spec.backbone == "efficientnet_lite0"
    assert start.preprocessing.mean == (0.5, 0.5, 0.5)
    assert start.name == "efficientnet_lite0-untrained"
    assert not start.student.training
    teacher = teacher_of(replace(TEACHER, backbone="imagenet:efficientnet_lite0"))
    assert torch.equal(teacher.teacher.backbone.trunk.conv_stem.weight, stem)
    assert not teacher.teacher.training
    plain = student_of(replace(SMALL, backbone="efficientnet_lite0"))
    assert not torch.equal(plain.student.backbone.trunk.conv_stem.weight, stem)


def test_another_backbone_has_random_weights_and_its_own_normalisation() -> None:
    assert student_of(replace(SMALL, backbone="mobilenet_v2")).preprocessing.mean == IMAGENET_MEAN


def test_the_seed_decides_the_weights() -> None:
    students = [student_of(replace(SMALL, seed=seed)).weights_sha256 for seed in (0, 0, 1)]
    assert students[0] == students[1] != students[2]
    teachers = [weights_sha256(teacher_of(replace(TEACHER, seed=seed)).teacher) for seed in (0, 0, 1)]
    assert teachers[0] == teachers[1] != teachers[2]


def test_the_seed_decides_the_adaptor_on_an_imagenet_trunk() -> None:
    settings = replace(SMALL, backbone="imagenet:efficientnet_lite0")
    adaptors = [student_of(replace(settings, seed=seed)).student.adaptor.weight for seed in (0, 0, 1)]
    assert torch.equal(adaptors[0], adaptors[1])
    assert not torch.equal(adaptors[0], adaptors[2])


def test_a_student_alone_needs_a_dimension() -> None:
    with pytest.raises(UsageError) as caught:
        starting_network(SMALL, None)
    assert str(caught.value) == "`dimension` is 0, but no index says how many values an embedding has; set it."


def test_another_dimension_than_the_indexs_is_refused() -> None:
    with pytest.raises(TeacherIndexError) as caught:
        starting_network(replace(SMALL, dimension=2048), SPACE)
    assert str(caught.value) == (
        "`dimension` is 2048, but the teacher's index has 24; set it to 0, or give an index of the teacher that the "
        "recipe is for."
    )


def test_another_dimension_than_a_teachers_channels_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        starting_network(replace(TEACHER, dimension=512), None)
    assert str(caught.value) == (
        "`dimension` is 512, but a teacher has no adaptor and mobilenetv2_035 gives 1280 values; set it to 0."
    )


@pytest.mark.parametrize("settings", [SMALL, TEACHER])
def test_a_backbone_without_imagenet_weights_is_refused(settings: TrainingSettings) -> None:
    with pytest.raises(UsageError, match="`backbone` is 'imagenet:mobilenetv2_035', but timm publishes no weights"):
        starting_network(replace(settings, backbone="imagenet:mobilenetv2_035"), SPACE)


def test_nothing_is_downloaded_for_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("aml_edge.training.starting_network.load_imagenet_backbone", never)
    with pytest.raises(TeacherIndexError, match="`dimension` is 2048"):
        starting_network(replace(SMALL, backbone="imagenet:mobilenetv2_035", dimension=2048), SPACE)
    with pytest.raises(UsageError, match="`dimension` is 512"):
        starting_network(replace(TEACHER, backbone="imagenet:mobilenetv2_035", dimension=512), None)


@pytest.mark.parametrize("settings", [SMALL, TEACHER])
def test_an_unknown_backbone_is_refused(settings: TrainingSettings) -> None:
    with pytest.raises(UsageError, match="`backbone` is 'resnet1001'"):
        starting_network(replace(settings, backbone="resnet1001"), SPACE)
