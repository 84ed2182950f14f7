"""TensorFlow's interpreter, where it is installed; and what is said where it is not."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.artifact import Artifact
from aml_edge.errors import MissingExtraError
from aml_edge.runtimes.litert_runtime import LiteRtEmbedder
from aml_edge.runtimes.tensorflow_runtime import TensorFlowEmbedder


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="the extra 'tensorflow' is not installed")
def test_agrees_with_litert(
    tflite_artifact: Artifact,
    images: list[npt.NDArray[np.uint8]],
    expected: npt.NDArray[np.float64],
    capfd: pytest.CaptureFixture[str],
) -> None:
    embeddings = TensorFlowEmbedder(tflite_artifact, 1).embed(images)
    assert np.abs(embeddings - expected).max() < 1e-6
    assert np.abs(embeddings - LiteRtEmbedder(tflite_artifact, 1).embed(images)).max() < 1e-6
    assert capfd.readouterr() == ("", "")


def test_absence_gives_the_pip_command(tflite_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError) as caught:
        TensorFlowEmbedder(tflite_artifact)
    assert str(caught.value) == (
        "the TensorFlow runtime needs tensorflow, which is not installed: pip install 'aml-edge[tensorflow]'"
    )
