"""Small model files whose output has a closed form: channel means plus one, L2-normalised."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

SIDE = 40
Images = list[npt.NDArray[np.uint8]]


def manifest(model_format: Format) -> Manifest:
    return Manifest(
        space=EmbeddingSpace("toy", "0" * 64, 3),
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student="channel means",
        backbone="none",
        weights_sha256="1" * 64,
        format=model_format,
        precision=Precision.FP32,
        target="test",
    )


@pytest.fixture
def tflite_artifact(tmp_path: Path) -> Artifact:
    path = tmp_path / "channel_means.tflite"
    shutil.copy(Path(__file__).parents[1] / "data" / "channel_means.tflite", path)
    write_manifest(Artifact(path, manifest(Format.TFLITE)))
    return read_artifact(path)


@pytest.fixture
def onnx_artifact(write_channel_means: Callable[..., None], tmp_path: Path) -> Artifact:
    path = tmp_path / "channel_means.onnx"
    write_channel_means(path, SIDE)
    write_manifest(Artifact(path, manifest(Format.ONNX)))
    return read_artifact(path)


@pytest.fixture(scope="session")
def channel_means() -> Callable[[Any, Any], Any]:
    """Writes the same as an ML program: takes coremltools' builder and a variable of (1, 3, H, W)."""

    def build(mb: Any, image: Any) -> Any:
        rows = mb.add(x=mb.reduce_mean(x=image, axes=[2, 3]), y=np.float32(1))
        return mb.real_div(x=rows, y=mb.reduce_l2_norm(x=rows, axes=[1], keep_dims=True), name="embedding")

    return build


@pytest.fixture(scope="session")
def channel_means_package(mil_package: Callable[..., Path], channel_means: Callable[[Any, Any], Any]) -> Path:
    return mil_package(channel_means, {"image": (1, 3, SIDE, SIDE)}, colours="RGB")


@pytest.fixture
def coreml_artifact(tmp_path: Path, channel_means_package: Path) -> Artifact:
    path = tmp_path / "channel_means.mlpackage"
    shutil.copytree(channel_means_package, path)
    write_manifest(Artifact(path, manifest(Format.COREML)))
    return read_artifact(path)


@pytest.fixture
def images() -> Images:
    generator = np.random.default_rng(0)
    return [generator.integers(0, high, (SIDE, SIDE, 3), dtype=np.uint8) for high in (256, 17, 90)]


@pytest.fixture
def expected(images: Images) -> npt.NDArray[np.float64]:
    """What the files compute, in float64."""
    rows = np.stack([image.astype(np.float64).mean(axis=(0, 1)) + 1 for image in images])
    normalised: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised
