"""The MIL evaluator as an Embedder, on a package whose output has a closed form."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.artifact import Artifact
from aml_edge.errors import ArtifactError, UnknownOperatorError, UsageError
from aml_edge.formats.coreml_messages import dump_model
from aml_edge.formats.mlpackage import load_model, model_file
from aml_edge.runtimes.mil_runtime import MilEmbedder

SINGLE_PRECISION = 1e-6
"""A mean of 1600 pixels up to 255 in float32 carries a relative error of about 1e-7."""

Images = list[npt.NDArray[np.uint8]]


@pytest.mark.parametrize("threads", [1, 2, None])
def test_embeds_each_image(
    coreml_artifact: Artifact, images: Images, expected: npt.NDArray[np.float64], threads: int | None
) -> None:
    before = torch.get_num_threads()
    embedder = MilEmbedder(coreml_artifact, threads)
    embeddings = embedder.embed(images)
    embedder.close()
    embedder.close()
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - expected).max() < SINGLE_PRECISION
    assert torch.get_num_threads() == before


def test_needs_no_coremltools(
    coreml_artifact: Artifact,
    images: Images,
    expected: npt.NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert np.abs(MilEmbedder(coreml_artifact, 1).embed(images) - expected).max() < SINGLE_PRECISION
    assert capfd.readouterr() == ("", "")


def test_claims_what_the_manifest_says(coreml_artifact: Artifact) -> None:
    embedder = MilEmbedder(coreml_artifact)
    assert embedder.name == "mil evaluator cpu"
    assert embedder.space == coreml_artifact.manifest.space
    assert embedder.preprocessing == coreml_artifact.manifest.preprocessing


def test_no_image_gives_no_row(coreml_artifact: Artifact) -> None:
    assert MilEmbedder(coreml_artifact).embed([]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(40, 39, 3), (40, 40), (40, 40, 4), (1, 40, 40, 3)])
def test_an_image_of_another_shape_is_refused(coreml_artifact: Artifact, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"takes \(40, 40, 3\) uint8; use aml_edge.pixels.fit_image"):
        MilEmbedder(coreml_artifact).embed([np.zeros(shape, np.uint8)])


def test_another_dimension_than_the_manifest_s_is_refused(coreml_artifact: Artifact, images: Images) -> None:
    wrong = replace(coreml_artifact.manifest, space=replace(coreml_artifact.manifest.space, dimension=4))
    with pytest.raises(UsageError, match=r"shape \(1, 3\), its manifest says \(1, 4\)"):
        MilEmbedder(Artifact(coreml_artifact.path, wrong)).embed(images)


def test_an_operator_that_is_not_known_is_named(
    mil_package: Callable[..., Path], channel_means: Callable[[Any, Any], Any], coreml_artifact: Artifact
) -> None:
    package = mil_package(
        lambda mb, image: mb.cumsum(x=channel_means(mb, image)), {"image": (1, 3, 40, 40)}, colours="RGB"
    )
    with pytest.raises(UnknownOperatorError, match=r"program\.mlpackage uses operators .* does not know: cumsum;"):
        MilEmbedder(Artifact(package, coreml_artifact.manifest))


def test_a_package_that_cannot_be_read_is_named(coreml_artifact: Artifact) -> None:
    model_file(coreml_artifact.path).write_bytes(b"\x08\x0a" + b"\x12" * 200)
    with pytest.raises(ArtifactError, match=r"channel_means\.mlpackage is not a Core ML package that can be read: "):
        MilEmbedder(coreml_artifact)


@pytest.mark.parametrize(
    ("shape", "colours"), [((1, 3, 40, 40), "BGR"), ((1, 3, 40, 41), "RGB"), ((1, 3, 40, 40), None)]
)
def test_what_takes_no_such_image_is_refused(
    mil_package: Callable[..., Path],
    channel_means: Callable[[Any, Any], Any],
    coreml_artifact: Artifact,
    shape: tuple[int, ...],
    colours: str | None,
) -> None:
    package = mil_package(channel_means, {"image": shape}, colours=colours)
    with pytest.raises(ArtifactError) as caught:
        MilEmbedder(Artifact(package, coreml_artifact.manifest))
    assert str(caught.value) == (
        f"{package} does not take one RGB image of 40×40 px to one embedding, as its manifest says; export it again."
    )


def test_the_image_must_be_what_the_program_takes(coreml_artifact: Artifact) -> None:
    model = load_model(coreml_artifact.path)
    function = model.mlProgram.functions["main"]
    function.inputs[0].type.tensorType.dimensions[2].constant.size = 80
    model_file(coreml_artifact.path).write_bytes(dump_model(model))
    with pytest.raises(ArtifactError, match="does not take one RGB image of 40×40 px to one embedding"):
        MilEmbedder(coreml_artifact)
