"""Asymmetric mAP of real queries against a database whose ranking is worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aml_edge.artifact import Artifact, Format, Manifest
from aml_edge.benchmarks.retrieval import AsymmetricMap, GroundTruth, measure_asymmetric_map, open_row
from aml_edge.benchmarks.rows import Group, Row
from aml_edge.embedder import Embeddings
from aml_edge.errors import ImageBatchError, ImageError, SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.whitening import Whitening
from aml_edge.progress import SilentProgress
from aml_edge.protocol import Protocol
from aml_edge.runtimes import open_artifact
from aml_edge.space import EmbeddingSpace

OnnxFile = Callable[..., Artifact]


def measured(artifact: Artifact, truth: GroundTruth) -> AsymmetricMap:
    embedder = open_artifact(artifact, "onnxruntime", threads=1)
    try:
        return measure_asymmetric_map(embedder, truth, SilentProgress(), "onnx")
    finally:
        embedder.close()


def test_is_the_map_of_the_revisited_protocol(onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path) -> None:
    found = measured(onnx_file(tmp_path / "a.onnx"), truth)
    assert (found.runtime, found.dataset, found.queries, found.non_finite) == ("onnxruntime cpu", "colours", 2, 0)
    assert found.easy == 1
    assert (found.medium, found.hard) == pytest.approx(((1 + 1 / 6) / 2, (1 + 1 / 6) / 2))


def test_a_database_in_another_order_is_met_by_its_ids(onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path) -> None:
    order = (2, 0, 3, 1)
    index = replace(
        truth.index,
        ids=tuple(truth.index.ids[row] for row in order),
        embeddings=np.ascontiguousarray(truth.index.embeddings[list(order)]),
    )
    artifact = onnx_file(tmp_path / "a.onnx")
    assert measured(artifact, GroundTruth(index, truth.dataset)) == measured(artifact, truth)


@pytest.mark.parametrize("offset", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_counted_and_give_no_map(
    onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path, offset: float
) -> None:
    found = measured(onnx_file(tmp_path / "a.onnx", offset=offset), truth)
    assert (found.queries, found.non_finite) == (2, 2)
    assert all(math.isnan(value) for value in (found.easy, found.medium, found.hard))


def test_another_mistake_is_no_result(
    onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Embeddings:
        raise UsageError("something else.")

    monkeypatch.setattr("aml_edge.runtimes.onnx_runtime.OnnxEmbedder.embed", fail)
    with pytest.raises(UsageError, match="something else"):
        measured(onnx_file(tmp_path / "a.onnx"), truth)


def test_another_space_is_refused_with_both_sides_named(
    onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path
) -> None:
    artifact = onnx_file(tmp_path / "a.onnx", space=EmbeddingSpace("another teacher", "b" * 64, 3))
    with pytest.raises(SpaceMismatchError, match=r"onnx lives in another teacher .* but the index .* in toy teacher"):
        measured(artifact, truth)


def test_an_index_without_the_database_is_refused(onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path) -> None:
    index = replace(truth.index, ids=("0", "1", "2", "3"))
    with pytest.raises(TeacherIndexError, match="lacks 4 of 4 images"):
        measured(onnx_file(tmp_path / "a.onnx"), GroundTruth(index, truth.dataset))


def test_queries_that_cannot_be_read_are_named(onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path) -> None:
    (tmp_path / "first.png").write_bytes(b"no image")
    with pytest.raises((ImageBatchError, ImageError), match=r"first\.png"):
        measured(onnx_file(tmp_path / "a.onnx"), truth)


def torch_row(device: str = "cpu") -> Row:
    return Row("PyTorch eager", "torch", device, None, ())


def test_a_file_s_row_is_asked_in_its_runtime(onnx_file: OnnxFile, truth: GroundTruth, tmp_path: Path) -> None:
    artifact = onnx_file(tmp_path / "a.onnx")
    row = Row("onnx", "onnxruntime", "cpu", artifact, ())
    embedder = open_row(row, Group((artifact,), None), truth.index, refused=False)
    assert embedder is not None and embedder.name == "onnxruntime cpu"
    embedder.close()
    assert open_row(row, Group((artifact,), None), truth.index, refused=True) is None


def test_a_refused_row_is_asked_in_a_simulation_where_there_is_one(
    manifest: Manifest, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[Artifact, str]] = []
    monkeypatch.setattr(
        "aml_edge.benchmarks.retrieval.open_artifact", lambda artifact, runtime: opened.append((artifact, runtime))
    )
    package = Artifact(Path("a.mlpackage"), replace(manifest, format=Format.COREML))
    row = Row("coreml", "coreml", "cpu", package, ())
    for refused in (False, True):
        open_row(row, Group((package,), None), truth.index, refused=refused)
    assert opened == [(package, "coreml"), (package, "mil")]


def test_the_student_s_row_is_the_student_on_the_pixels_of_the_files(
    checkpoint: StudentCheckpoint, manifest: Manifest, truth: GroundTruth
) -> None:
    group = Group((Artifact(Path("a.onnx"), manifest),), checkpoint)
    embedder = open_row(torch_row(), group, truth.index, refused=False)
    assert embedder is not None
    assert (embedder.name, embedder.space) == ("torch eager cpu", truth.index.space)
    assert embedder.preprocessing == manifest.preprocessing
    assert open_row(torch_row(), group, truth.index, refused=True) is None
    assert open_row(torch_row(), Group(group.artifacts, None), truth.index, refused=False) is None


def test_the_student_s_queries_are_whitened_as_the_index_is(
    checkpoint: StudentCheckpoint, manifest: Manifest, truth: GroundTruth
) -> None:
    mean, projection = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    whitening = Whitening(mean, projection)
    space = replace(checkpoint.space, dimension=2, whitening_sha256=whitening.sha256)
    embeddings = truth.index.embeddings[:, :2].copy()
    index = replace(truth.index, space=space, whitening=whitening, embeddings=embeddings)
    group = Group((Artifact(Path("a.onnx"), replace(manifest, space=space)),), checkpoint)
    plain = open_row(torch_row(), group, truth.index, refused=False)
    whitened = open_row(torch_row(), group, index, refused=False)
    assert plain is not None and whitened is not None
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    rows = (plain.embed([image]).astype(np.float64) - mean.numpy()) @ projection.numpy().T
    np.testing.assert_allclose(whitened.embed([image]), rows / np.linalg.norm(rows), atol=1e-5)


def test_a_student_of_another_teacher_is_refused(
    checkpoint: StudentCheckpoint, manifest: Manifest, truth: GroundTruth
) -> None:
    index = replace(truth.index, space=EmbeddingSpace("another teacher", "b" * 64, 3))
    group = Group((Artifact(Path("a.onnx"), manifest),), checkpoint)
    with pytest.raises(SpaceMismatchError, match=r"student 'toy' lives in toy teacher .* in another teacher"):
        open_row(torch_row(), group, index, refused=False)


def test_a_data_set_without_settings_is_refused(truth: GroundTruth) -> None:
    dataset = replace(truth.dataset, protocol=Protocol.LANDMARKS)
    with pytest.raises(UsageError, match=r"published as mAP@100, .* measure it with `aml-edge eval`"):
        GroundTruth(truth.index, dataset)
