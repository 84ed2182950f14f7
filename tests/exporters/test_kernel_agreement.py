"""Two kinds of kernels on one file: which runtimes are compared, on which images, and what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.exporters import kernel_agreement
from aml_edge.exporters.agreement import centred_cosines
from aml_edge.exporters.kernel_agreement import measure_kernels
from aml_edge.exporters.verification_images import VerificationImages, images_of_folder
from aml_edge.image_loading import embed_items
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.progress import SilentProgress
from aml_edge.runtimes import open_artifact
from aml_edge.space import EmbeddingSpace

SIDE = 32
SPACE = EmbeddingSpace("toy", "0" * 64, 3)


@pytest.fixture
def artifact(write_channel_means: Callable[..., None], tmp_path: Path) -> Artifact:
    """Says that its activations are integers, which only the choice of kernels asks about."""
    path = tmp_path / "means.onnx"
    write_channel_means(path, SIDE)
    preprocessing = Preprocessing(SIDE, Fit.SQUASH)
    return Artifact(path, Manifest(SPACE, preprocessing, "s", "b", "1" * 64, Format.ONNX, Precision.INT8, "test"))


@pytest.fixture
def images(pictures: Path) -> VerificationImages:
    return images_of_folder(pictures)


@pytest.fixture
def saturating(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """A processor without VNNI: whatever kernels are opened beside give noisy embeddings. Lists what was opened."""
    opened: list[str | None] = []

    def noisy(artifact: Artifact, runtime: str | None = None, *, threads: int | None = None) -> Embedder:
        opened.append(runtime)
        return FakeEmbedder(artifact.manifest.space, artifact.manifest.preprocessing, noise=5.0)

    monkeypatch.setattr(kernel_agreement, "open_artifact", noisy)
    return opened


def test_kernels_that_do_the_same_agree(artifact: Artifact, images: VerificationImages) -> None:
    embedder = open_artifact(artifact, "onnxruntime-precise")
    found = measure_kernels(artifact, "onnxruntime-precise", embedder, images.items, SilentProgress())
    assert found is not None
    assert (found.verified, found.other) == ("onnxruntime cpu, precise kernels", "onnxruntime cpu, fast kernels")
    assert found.images == 16 and found.is_exact
    assert found.centred_cosine.smallest == pytest.approx(1, abs=1e-6)


def test_kernels_that_saturate_differ(
    artifact: Artifact, images: VerificationImages, saturating: list[str | None]
) -> None:
    exact = FakeEmbedder(SPACE, artifact.manifest.preprocessing)
    found = measure_kernels(artifact, "onnxruntime", exact, images.items, SilentProgress())
    assert found is not None and not found.is_exact
    assert saturating == ["onnxruntime-precise"]
    taken = [images.items[24 * number // 16] for number in range(16)]
    noisy = embed_items(FakeEmbedder(SPACE, artifact.manifest.preprocessing, noise=5.0), taken)
    expected = centred_cosines(embed_items(exact, taken), noisy)
    assert found.centred_cosine.smallest == pytest.approx(expected.min())
    assert found.centred_cosine.median == pytest.approx(np.median(expected))
    assert found.centred_cosine.smallest < 0.9


@pytest.mark.parametrize(
    ("runtime", "other"),
    [
        ("onnxruntime", "onnxruntime-precise"),
        ("onnxruntime-precise", "onnxruntime"),
        ("litert", "litert-reference"),
        ("litert-reference", "litert"),
        ("tensorflow", None),
        ("mil", None),
    ],
)
def test_which_runtimes_are_compared(
    artifact: Artifact, images: VerificationImages, saturating: list[str | None], runtime: str, other: str | None
) -> None:
    exact = FakeEmbedder(SPACE, artifact.manifest.preprocessing)
    found = measure_kernels(artifact, runtime, exact, images.items[:3], SilentProgress())
    assert saturating == ([] if other is None else [other])
    assert (found is None) == (other is None)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8_WEIGHTS])
def test_floats_have_one_kind_of_kernels(
    artifact: Artifact, images: VerificationImages, saturating: list[str | None], precision: Precision
) -> None:
    plain = replace(artifact, manifest=replace(artifact.manifest, precision=precision))
    exact = FakeEmbedder(SPACE, artifact.manifest.preprocessing)
    assert measure_kernels(plain, "onnxruntime", exact, images.items, SilentProgress()) is None
    assert saturating == []
