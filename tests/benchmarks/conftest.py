"""A small student, files that claim to be made from it, and workers that tell their own times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.retrieval import GroundTruth
from aml_edge.benchmarks.worker import FreshStart, Throughput
from aml_edge.datasets.revisited import RevisitedDataset
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.ranking import QueryGroundTruth
from aml_edge.space import EmbeddingSpace

SIDE = 32
SPACE = EmbeddingSpace("toy teacher", "a" * 64, 3)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint() -> StudentCheckpoint:
    """A student of three dimensions that counts as trained."""
    student = Student(StudentSpec("mobilenetv2_035", SPACE.dimension)).eval()
    return StudentCheckpoint(student, "toy", SPACE, Preprocessing(image_side_px=SIDE), trained=True)


@pytest.fixture(scope="session")
def manifest(checkpoint: StudentCheckpoint) -> Manifest:
    """Of an ONNX file made from the student."""
    return Manifest(
        space=SPACE,
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student=checkpoint.name,
        backbone=checkpoint.student.spec.backbone,
        weights_sha256=checkpoint.weights_sha256,
        format=Format.ONNX,
        precision=Precision.FP32,
        target="test",
    )


OnnxFile = Callable[..., Artifact]


@pytest.fixture
def onnx_file(manifest: Manifest) -> OnnxFile:
    """Returns a function that writes a file which gives channel means plus one, L2-normalised, on any manifest."""

    def write(path: Path, *, offset: float = 1.0, **changes: Any) -> Artifact:
        """Writes it.

        Args:
            path: where; ends in .onnx.
            offset: what is added to the means; NaN or infinity leads to embeddings that are not finite.
            changes: of the manifest.
        """
        changed = replace(manifest, **changes)
        side = changed.preprocessing.image_side_px
        nodes = [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
            helper.make_node("Add", ["means", "offset"], ["rows"]),
            helper.make_node("LpNormalization", ["rows"], ["embedding"], axis=1, p=2),
        ]
        graph = helper.make_graph(
            nodes,
            "channel means",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, side, side, 3])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 3])],
            initializer=[
                helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
                helper.make_tensor("offset", TensorProto.FLOAT, [], [offset]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(model.SerializeToString())
        write_manifest(Artifact(path, changed))
        return read_artifact(path)

    return write


@dataclass(frozen=True)
class StandInSubject:
    """Something that only `StandInWorker` runs."""

    name: str


class StandInWorker:
    """A Worker whose turns are given beforehand; it notes what is asked of it.

    Args:
        turns: nanoseconds of the calls of each turn, the last one for ever.
        throughput: of batches; None for a runtime that takes one image a call.
        warm_ms: of its warm-up.
        log: where turns, batches and the end are noted, under `name`.
    """

    def __init__(
        self,
        name: str,
        turns: Iterable[Sequence[int]],
        *,
        throughput: float | None = None,
        warm_ms: float = 1.0,
        log: list[tuple[str, str]] | None = None,
    ) -> None:
        self.fresh_start = FreshStart(10.0, 5.0, warm_ms, 1000, None)
        self._name, self._turns, self._throughput = name, [tuple(turn) for turn in turns], throughput
        self._log = [] if log is None else log
        self._taken = 0

    def take_turn(self, plan: LatencyPlan) -> tuple[int, ...]:
        self._log.append((self._name, "turn"))
        self._taken += 1
        return self._turns[min(self._taken, len(self._turns)) - 1]

    def measure_throughput(self, batch_images: int) -> Throughput | None:
        self._log.append((self._name, f"batch of {batch_images}"))
        return None if self._throughput is None else Throughput(self._throughput, batch_images, 3)

    def close(self) -> None:
        self._log.append((self._name, "closed"))


@pytest.fixture
def stand_in_worker() -> type[StandInWorker]:
    return StandInWorker


@pytest.fixture
def stand_in_subject() -> type[StandInSubject]:
    return StandInSubject


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    """Two queries and four database images, whose order by channel means is plain.

    The first query is (200, 100, 0) and ranks the database 0, 1, 2, 3; the second is (0, 100, 200) and ranks it
    2, 1, 0, 3. Easy: 1 of the first query alone. Medium and hard: 1 of the first; for the second the one positive
    comes third, of which the trapezoid is (0 + 1/3) / 2.
    """
    items = []
    for name, colour in (("first", (200, 100, 0)), ("second", (0, 100, 200))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.png")
        items.append(ImageItem(tmp_path / f"{name}.png", (5, 5, 35, 25)))
    ids = tuple(f"jpg/{number}.jpg" for number in range(4))
    dataset = RevisitedDataset(
        name="colours",
        root=tmp_path,
        query_items=tuple(items),
        database_items=tuple(ImageItem(tmp_path / one) for one in ids),
        database_ids=ids,
        ground_truth=(QueryGroundTruth((0,), (2,), (1,)), QueryGroundTruth((), (0,), ())),
    )
    database = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], np.float32)
    index = TeacherIndex(tmp_path / "index", SPACE, Preprocessing(SIDE), ids, database, None)
    return GroundTruth(index, dataset)
