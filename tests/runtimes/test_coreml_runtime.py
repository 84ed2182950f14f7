"""What surrounds Core ML, with a stand-in for its model; and on a Mac the framework itself."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from aml_edge.artifact import Artifact
from aml_edge.errors import ArtifactError, MissingExtraError, RuntimeUnavailableError, UsageError
from aml_edge.runtimes.coreml_runtime import CoreMlEmbedder, CoreMlModel
from aml_edge.runtimes.mil_runtime import MilEmbedder

Images = list[npt.NDArray[np.uint8]]


class StandIn:
    """Plays coremltools' model of a package that embeds by channel means plus one."""

    def predict(self, data: dict[str, Any]) -> Mapping[str, Any]:
        (image,) = data.values()
        assert list(data) == ["image"]
        assert isinstance(image, Image.Image)
        assert image.mode == "RGB"
        row = np.asarray(image, np.float64).mean(axis=(0, 1)) + 1
        return {"embedding": (row / np.linalg.norm(row))[None].astype(np.float32)}


def stand_in(package: Path) -> CoreMlModel:
    assert package.suffix == ".mlpackage"
    print("a greeting")
    warnings.warn("untested version", RuntimeWarning, stacklevel=1)
    return StandIn()


def test_hands_images_over_and_takes_embeddings_back(
    coreml_artifact: Artifact,
    images: Images,
    expected: npt.NDArray[np.float64],
    capfd: pytest.CaptureFixture[str],
) -> None:
    embedder = CoreMlEmbedder(coreml_artifact, load=stand_in)
    embeddings = embedder.embed(images)
    embedder.close()
    embedder.close()
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - expected).max() < 1e-6
    assert capfd.readouterr() == ("", "")


def test_claims_what_the_manifest_says(coreml_artifact: Artifact) -> None:
    embedder = CoreMlEmbedder(coreml_artifact, load=stand_in)
    assert embedder.name == "coreml all units"
    assert embedder.space == coreml_artifact.manifest.space
    assert embedder.preprocessing == coreml_artifact.manifest.preprocessing
    assert embedder.embed([]).shape == (0, 3)


def test_an_image_of_another_shape_is_refused(coreml_artifact: Artifact) -> None:
    with pytest.raises(UsageError, match=r"takes \(40, 40, 3\) uint8"):
        CoreMlEmbedder(coreml_artifact, load=stand_in).embed([np.zeros((40, 39, 3), np.uint8)])


def test_another_dimension_than_the_manifest_s_is_refused(coreml_artifact: Artifact, images: Images) -> None:
    wrong = replace(coreml_artifact.manifest, space=replace(coreml_artifact.manifest.space, dimension=4))
    with pytest.raises(UsageError, match=r"shape \(1, 3\), its manifest says \(1, 4\)"):
        CoreMlEmbedder(Artifact(coreml_artifact.path, wrong), load=stand_in).embed(images)


def test_threads_cannot_be_asked_for(coreml_artifact: Artifact) -> None:
    with pytest.raises(UsageError) as caught:
        CoreMlEmbedder(coreml_artifact, 1, load=stand_in)
    assert str(caught.value) == "`threads` is 1, but Core ML chooses its threads itself; leave it out."


def test_what_core_ml_refuses_to_load_is_named(coreml_artifact: Artifact) -> None:
    def refuse(package: Path) -> CoreMlModel:
        raise RuntimeError("Error compiling model\nat line 3")

    with pytest.raises(ArtifactError) as caught:
        CoreMlEmbedder(coreml_artifact, load=refuse)
    assert str(caught.value) == f"{coreml_artifact.path} cannot be run by Core ML: Error compiling model"


def test_what_core_ml_refuses_to_predict_is_named(coreml_artifact: Artifact, images: Images) -> None:
    class Refusing(StandIn):
        def predict(self, data: dict[str, Any]) -> Mapping[str, Any]:
            raise ValueError

    embedder = CoreMlEmbedder(coreml_artifact, load=lambda package: Refusing())
    with pytest.raises(ArtifactError, match=r"channel_means\.mlpackage cannot be run by Core ML: ValueError"):
        embedder.embed(images)


def test_a_package_without_embedding_is_named(coreml_artifact: Artifact, images: Images) -> None:
    class Other(StandIn):
        def predict(self, data: dict[str, Any]) -> Mapping[str, Any]:
            return {"logits": np.zeros((1, 3))}

    embedder = CoreMlEmbedder(coreml_artifact, load=lambda package: Other())
    with pytest.raises(ArtifactError, match="cannot be run by Core ML: it gave 'logits' and no 'embedding'"):
        embedder.embed(images)


def test_elsewhere_it_is_not_available(coreml_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(RuntimeUnavailableError) as caught:
        CoreMlEmbedder(coreml_artifact)
    assert str(caught.value) == "the Core ML runtime needs macOS, and this is Linux; use the runtime 'mil' here."


def test_a_mac_without_coremltools_is_told_what_to_install(
    coreml_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError) as caught:
        CoreMlEmbedder(coreml_artifact)
    assert str(caught.value) == (
        "the Core ML runtime needs coremltools, which is not installed: pip install 'aml-edge[coreml]'"
    )


@pytest.mark.needs_coreml_framework
@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML needs a Mac")
def test_the_framework_agrees_with_the_evaluator(
    coreml_artifact: Artifact, images: Images, expected: npt.NDArray[np.float64]
) -> None:
    embeddings = CoreMlEmbedder(coreml_artifact).embed(images)
    assert np.abs(embeddings - expected).max() < 1e-3
    assert np.abs(embeddings - MilEmbedder(coreml_artifact).embed(images)).max() < 1e-3
