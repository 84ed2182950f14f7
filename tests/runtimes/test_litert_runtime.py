"""LiteRT on a file whose output has a closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.artifact import Artifact
from aml_edge.errors import ArtifactError, UsageError
from aml_edge.runtimes.litert_runtime import LiteRtEmbedder

pytest.importorskip("ai_edge_litert", reason="the extra 'tflite' is not installed")

SINGLE_PRECISION = 1e-6
"""A mean of 1600 pixels up to 255 in float32 carries a relative error of about 1e-7."""


@pytest.mark.parametrize("threads", [1, 2, None])
def test_embeds_each_image(
    tflite_artifact: Artifact,
    images: list[npt.NDArray[np.uint8]],
    expected: npt.NDArray[np.float64],
    threads: int | None,
) -> None:
    embedder = LiteRtEmbedder(tflite_artifact, threads)
    embeddings = embedder.embed(images)
    embedder.close()
    embedder.close()
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - expected).max() < SINGLE_PRECISION


def test_claims_what_the_manifest_says(tflite_artifact: Artifact) -> None:
    embedder = LiteRtEmbedder(tflite_artifact)
    assert embedder.name == "litert cpu"
    assert embedder.space == tflite_artifact.manifest.space
    assert embedder.preprocessing == tflite_artifact.manifest.preprocessing


def test_no_image_gives_no_row(tflite_artifact: Artifact) -> None:
    assert LiteRtEmbedder(tflite_artifact).embed([]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(40, 39, 3), (40, 40), (40, 40, 4), (1, 40, 40, 3)])
def test_an_image_of_another_shape_is_refused(tflite_artifact: Artifact, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"takes \(40, 40, 3\) uint8; use aml_edge.pixels.fit_image"):
        LiteRtEmbedder(tflite_artifact).embed([np.zeros(shape, np.uint8)])


def test_an_image_of_another_dtype_is_refused(tflite_artifact: Artifact) -> None:
    with pytest.raises(UsageError, match=r"one of shape \(40, 40, 3\) and float32"):
        LiteRtEmbedder(tflite_artifact).embed([np.zeros((40, 40, 3), np.float32)])


def test_a_file_that_cannot_be_loaded_is_named(tflite_artifact: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    tflite_artifact.path.write_bytes(b"\x10\x00\x00\x00TFL3" + b"\x12" * 200)
    with pytest.raises(ArtifactError, match=r"channel_means\.tflite cannot be loaded by litert cpu: ") as caught:
        LiteRtEmbedder(tflite_artifact)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_another_dimension_than_the_manifest_s_is_refused(
    tflite_artifact: Artifact, images: list[npt.NDArray[np.uint8]]
) -> None:
    wrong = replace(tflite_artifact.manifest, space=replace(tflite_artifact.manifest.space, dimension=4))
    with pytest.raises(UsageError, match=r"shape \(1, 3\), its manifest says \(1, 4\)"):
        LiteRtEmbedder(Artifact(tflite_artifact.path, wrong)).embed(images)


def test_another_side_than_the_manifest_s_is_refused(tflite_artifact: Artifact) -> None:
    side = tflite_artifact.manifest.preprocessing.image_side_px
    preprocessing = replace(tflite_artifact.manifest.preprocessing, image_side_px=side + 1)
    changed = Artifact(tflite_artifact.path, replace(tflite_artifact.manifest, preprocessing=preprocessing))
    found = rf"takes \(1, {side}, {side}, 3\) uint8, but its manifest says \(1, {side + 1}, {side + 1}, 3\) uint8"
    with pytest.raises(ArtifactError, match=found):
        LiteRtEmbedder(changed)


def test_says_nothing(
    tflite_artifact: Artifact, images: list[npt.NDArray[np.uint8]], capfd: pytest.CaptureFixture[str]
) -> None:
    LiteRtEmbedder(tflite_artifact).embed(images)
    assert capfd.readouterr() == ("", "")
