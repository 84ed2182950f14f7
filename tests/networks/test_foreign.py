"""Published files: read by content, checked against networks wired from torchvision's and timm's parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aml_edge.errors import CheckpointError, UnsafePickleError
from aml_edge.networks.foreign import read_published_student, read_published_teacher, read_published_whitening
from aml_edge.networks.student import StudentSpec
from aml_edge.networks.teacher import TeacherSpec

Published = Callable[[str], Any]
RANDOM = np.random.default_rng(0)


def lw(dimension: int) -> dict[str, Any]:
    """A learned whitening as the files hold it: columns, float64, by training set and scales."""
    parts = {
        scales: {"m": RANDOM.normal(size=(dimension, 1)), "P": RANDOM.normal(size=(dimension, dimension))}
        for scales in ("ss", "ms")
    }
    return {"retrieval-SfM-120k": parts}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("backbone", ["resnet50", "vgg16"])
def test_teacher_equals_the_network_it_was_saved_from(
    published: Published, tmp_path: Path, backbone: str, zipped: bool
) -> None:
    file = published(backbone)
    read = read_published_teacher(file.save(tmp_path / "x", zipped=zipped))
    assert read.teacher.spec == TeacherSpec(backbone)
    assert read.name == f"{backbone}-gem"
    assert not read.teacher.training
    with torch.inference_mode():
        torch.testing.assert_close(read.teacher(file.images), file.embeddings, rtol=0, atol=1e-6)


def test_resnet101_teacher_equals_the_network_it_was_saved_from(published: Published) -> None:
    file = published("resnet101")
    read = read_published_teacher(file.path)
    assert read.teacher.spec == TeacherSpec("resnet101")
    with torch.inference_mode():
        torch.testing.assert_close(read.teacher(file.images), file.embeddings, rtol=0, atol=1e-6)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("backbone", ["efficientnet_b3", "mobilenet_v2"])
def test_student_equals_the_network_it_was_saved_from(
    published: Published, tmp_path: Path, backbone: str, zipped: bool
) -> None:
    file = published(backbone)
    read = read_published_student(file.save(tmp_path / "x", zipped=zipped))
    assert read.student.spec == StudentSpec(backbone, 32)
    assert read.name == f"{backbone}-gem"
    assert not read.student.training
    with torch.inference_mode():
        torch.testing.assert_close(read.student(file.images), file.embeddings, rtol=0, atol=1e-6)


def test_files_without_counters_of_batches_are_read(published: Published, tmp_path: Path) -> None:
    file = published("mobilenet_v2")
    counters = {key: None for key in file.state if key.endswith("num_batches_tracked")}
    assert counters
    read = read_published_student(file.save(tmp_path / "x", **counters))
    with torch.inference_mode():
        torch.testing.assert_close(read.student(file.images), file.embeddings, rtol=0, atol=1e-6)


def test_order_of_the_keys_does_not_matter(published: Published, tmp_path: Path) -> None:
    file = published("mobilenet_v2")
    state = dict(sorted(file.state.items(), reverse=True))
    torch.save({"state_dict": state}, tmp_path / "x")
    read = read_published_student(tmp_path / "x")
    with torch.inference_mode():
        torch.testing.assert_close(read.student(file.images), file.embeddings, rtol=0, atol=1e-6)


def test_flat_blocks_of_the_oldest_torchvision_are_read(published: Published, tmp_path: Path) -> None:
    file = published("mobilenet_v2")

    def flat(key: str) -> str:
        """Before torchvision 0.3 a block was one sequence: convolution, norm, activation, convolution, …"""
        found = re.fullmatch(r"(features\.0\.\d+\.conv)\.(\d)\.(\d)\.(\w+)", key)
        if found:
            return f"{found[1]}.{3 * int(found[2]) + int(found[3])}.{found[4]}"
        found = re.fullmatch(r"(features\.0\.(\d+)\.conv)\.(\d)\.(\w+)", key)
        return f"{found[1]}.{int(found[3]) + (2 if found[2] == '1' else 4)}.{found[4]}" if found else key

    state = {flat(key): value for key, value in file.state.items()}
    assert "features.0.2.conv.6.weight" in state
    torch.save({"state_dict": state}, tmp_path / "x")
    with torch.inference_mode():
        embeddings = read_published_student(tmp_path / "x").student(file.images)
    torch.testing.assert_close(embeddings, file.embeddings, rtol=0, atol=1e-6)


def test_learned_linear_layers_are_read(published: Published, tmp_path: Path) -> None:
    file = published("vgg16")
    torch.manual_seed(1)
    local, final = nn.Linear(512, 512), nn.Linear(512, 96)
    layers = {f"{name}.{key}": value for name, layer in (("lwhiten", local), ("whiten", final))
              for key, value in layer.state_dict().items()}  # fmt: skip
    read = read_published_teacher(file.save(tmp_path / "x", **layers))
    assert read.teacher.spec == TeacherSpec("vgg16", local_whitening=True, whitening_dimension=96)
    assert read.name == "vgg16-gem-lw-w"
    assert read.teacher.dimension == 96
    with torch.inference_mode():
        features = read.teacher.backbone(file.images)
        whitened = torch.einsum("oc,bchw->bohw", local.weight, features) + local.bias[:, None, None]
        pooled = (whitened.clamp(min=1e-6) ** 2.7).mean((2, 3)) ** (1 / 2.7)
        rows = final(pooled / (pooled.norm(dim=1, keepdim=True) + 1e-6))
        expected = rows / (rows.norm(dim=1, keepdim=True) + 1e-6)
        torch.testing.assert_close(read.teacher(file.images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whitenings_inside_a_teachers_file_are_read(published: Published, tmp_path: Path, zipped: bool) -> None:
    learned = lw(512)
    read = read_published_teacher(published("vgg16").save(tmp_path / "x", zipped=zipped, meta={"Lw": learned}))
    assert list(read.whitenings) == ["retrieval-SfM-120k/ss", "retrieval-SfM-120k/ms"]
    rows = RANDOM.normal(size=(4, 512))
    parts = learned["retrieval-SfM-120k"]["ms"]
    expected = parts["P"] @ (rows.T - parts["m"])  # (512, 4)
    expected = expected / (np.linalg.norm(expected, axis=0, keepdims=True) + 1e-6)
    whitened = read.whitenings["retrieval-SfM-120k/ms"](torch.from_numpy(rows).float())
    np.testing.assert_allclose(whitened.numpy(), expected.T, rtol=0, atol=1e-5)  # float32 sums of 512 products


def test_mean_and_std_come_from_the_file(published: Published, tmp_path: Path) -> None:
    file = published("vgg16")
    meta = {"mean": [0.1, 0.2, 0.3], "std": np.array([0.4, 0.5, 0.6])}
    read = read_published_teacher(file.save(tmp_path / "x", meta=meta))
    assert read.preprocessing.mean == (0.1, 0.2, 0.3)
    assert read.preprocessing.std == (0.4, 0.5, 0.6)
    assert read_published_teacher(file.path).preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("order", ["C", "F"])
def test_whitening_file_is_read(tmp_path: Path, order: Any) -> None:
    mean, projection = RANDOM.normal(size=(8, 1)), np.asarray(RANDOM.normal(size=(5, 8)), order=order)
    torch.save({"m": mean, "P": projection}, tmp_path / "x_whitening.pth")
    read = read_published_whitening(tmp_path / "x_whitening.pth")
    np.testing.assert_array_equal(read.mean.numpy(), mean[:, 0].astype(np.float32))
    np.testing.assert_array_equal(read.projection.numpy(), projection.astype(np.float32))


def test_whitening_of_tensors_is_read(tmp_path: Path) -> None:
    torch.save({"m": torch.ones(4), "P": torch.eye(4)}, tmp_path / "x")
    assert read_published_whitening(tmp_path / "x").dimension == 4


BROKEN_WHITENINGS: list[tuple[object, str]] = [
    ({"m": np.zeros((8, 1))}, "holds no whitening: it must be a dictionary of m and P."),
    ({"m": np.zeros((7, 1)), "P": np.eye(8)}, "a whitening has a mean (D,) and a projection (D_out, D)."),
    ({"m": np.zeros((8, 1)), "P": np.full((8, 8), np.nan)}, "a whitening holds NaN or Inf; learn it again."),
    ({"m": "zeros", "P": np.eye(8)}, "holds m or P as something else than numbers."),
    ([1, 2], "holds no whitening: it must be a dictionary of m and P."),
]


@pytest.mark.parametrize(("content", "message"), BROKEN_WHITENINGS)
def test_broken_whitening_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x")
    with pytest.raises(CheckpointError, match=re.escape(message)):
        read_published_whitening(tmp_path / "x")


def test_missing_and_left_over_keys_are_listed(published: Published, tmp_path: Path) -> None:
    file = published("vgg16")
    path = file.save(tmp_path / "x", **{"features.5.weight": None, "classifier.0.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError) as caught:
        read_published_teacher(path)
    assert str(caught.value) == (
        f"{path} does not fit the network: missing 1 (backbone.trunk.features.5.weight); "
        "left over 1 (classifier.0.weight)."
    )


def test_a_wrong_shape_is_named(published: Published, tmp_path: Path) -> None:
    path = published("vgg16").save(tmp_path / "x", **{"features.0.bias": torch.zeros(63)})
    with pytest.raises(CheckpointError, match=r"backbone\.trunk\.features\.0\.bias is \(63,\), it must be \(64,\)\."):
        read_published_teacher(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(published: Published, tmp_path: Path, value: float) -> None:
    path = published("vgg16").save(tmp_path / "x", **{"features.0.bias": torch.full((64,), value)})
    with pytest.raises(CheckpointError, match=r"holds NaN or Inf in backbone\.trunk\.features\.0\.bias"):
        read_published_teacher(path)


def test_a_tensor_that_repeats_one_number_is_refused(published: Published, tmp_path: Path) -> None:
    """A hostile file of a few bytes could otherwise ask for a layer of any size."""
    huge = torch.zeros(1).expand(10**12, 512)
    path = published("vgg16").save(tmp_path / "x", **{"whiten.weight": huge})
    with pytest.raises(CheckpointError, match=r"holds whiten\.weight as something else than plain numbers"):
        read_published_teacher(path)


def test_two_names_for_one_layer_are_refused(published: Published, tmp_path: Path) -> None:
    path = published("vgg16").save(tmp_path / "x", **{"backbone.trunk.features.0.bias": torch.zeros(64)})
    with pytest.raises(CheckpointError, match=r"holds backbone\.trunk\.features\.0\.bias twice"):
        read_published_teacher(path)


def test_student_and_teacher_are_told_apart(published: Published, tmp_path: Path) -> None:
    student, teacher = published("mobilenet_v2").path, published("vgg16").path
    with pytest.raises(CheckpointError, match=r"holds a student \(mobilenet_v2 with an adaptor\), not a teacher\."):
        read_published_teacher(student)
    with pytest.raises(CheckpointError, match=r"holds a teacher \(vgg16 without an adaptor\), not a student\."):
        read_published_student(teacher)
    torch.save({"m": np.zeros((8, 1)), "P": np.eye(8)}, tmp_path / "whitening")
    with pytest.raises(CheckpointError, match=r"holds a whitening, not a network\."):
        read_published_teacher(tmp_path / "whitening")


STRANGE_CONTENTS: list[tuple[object, str]] = [
    ({"state_dict": {}}, "holds weights of an unknown network (first keys: none)"),
    ({"state_dict": {"a.weight": torch.zeros(1)}}, "holds weights of an unknown network (first keys: a.weight)"),
    ({"state_dict": {"features.28.weight": 3}}, "holds no state_dict of tensors"),
    ({"state_dict": {5: torch.zeros(1)}}, "holds no state_dict of tensors"),
    ({"model": {}}, "holds no state_dict of tensors"),
    (torch.zeros(3), "holds no state_dict of tensors"),
    ({"state_dict": {"features.28.weight": torch.zeros(1)}, "meta": 1}, "has a meta that is no dictionary"),
    ({"state_dict": {}, "meta": {"pooling": "mac"}}, "pools with 'mac'; only GeM over the whole map is read."),
    ({"state_dict": {}, "meta": {"pooling": "gem", "regional": True}}, "pools with 'gem' by region; only GeM"),
    ({"state_dict": {"features.4.0.conv1.weight": torch.zeros(1)}}, "a ResNet of unknown depth: 0 blocks"),
    (
        {"state_dict": {"features.0.18.0.weight": torch.zeros(1), "features.1.weight": torch.zeros(1)}},
        "holds a MobileNetV2 of 1 layers; it must have 104.",
    ),
    (
        {"state_dict": {"features.3.0.0.conv_dw.weight": torch.zeros(1), "features.7.weight": torch.zeros(())}},
        "holds an adaptor without outputs",
    ),
]


@pytest.mark.parametrize(("content", "message"), STRANGE_CONTENTS, ids=[message for _, message in STRANGE_CONTENTS])
def test_other_contents_are_refused_in_words(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x")
    with pytest.raises(CheckpointError, match=re.escape(message)):
        read_published_student(tmp_path / "x")


STRANGE_META: list[tuple[dict[str, Any], str]] = [
    ({"mean": [0.1, 0.2]}, "[0.1, 0.2] must be three numbers, one a channel."),
    ({"std": [0.1, 0.2, 0.0]}, "a standard deviation is positive."),
    ({"Lw": 3}, "has an Lw that is no dictionary"),
    ({"Lw": {"a": 3}}, "has an Lw for 'a' that is no dictionary"),
    ({"Lw": {"a": {"ss": 3}}}, "Lw a/ss holds no whitening"),
    ({"Lw": lw(8)}, "Lw retrieval-SfM-120k/ss takes 8 values; the network gives 512."),
]


@pytest.mark.parametrize(("meta", "message"), STRANGE_META, ids=[message for _, message in STRANGE_META])
def test_other_meta_is_refused_in_words(
    published: Published, tmp_path: Path, meta: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        read_published_teacher(published("vgg16").save(tmp_path / "x", meta=meta))


def test_a_meta_that_wants_code_is_refused(published: Published, tmp_path: Path) -> None:
    path = published("vgg16").save(tmp_path / "x", meta={"criterion": nn.ReLU()})
    with pytest.raises(UnsafePickleError, match=r"asks for torch\.nn\.modules\.activation\.ReLU"):
        read_published_teacher(path)
