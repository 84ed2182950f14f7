"""Fixtures for tests of several folders.

A Progress that remembers; an index of rows that a test makes up; a few landmarks to train and to test with; ONNX files
whose output has a closed form. Larger ones are in `fixtures/`, a folder that only pytest finds modules in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.index import TeacherIndex, encode_ids, open_index
from aml_edge.index.record import IndexRecord
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.space import EmbeddingSpace

pytest_plugins = ("lively_students", "mil_packages", "web_servers")


class RecordingProgress:
    """Remembers what was announced and how far it went.

    Args:
        announced: (description, total) of each task, in order.
        done: steps of all tasks together.
    """

    def __init__(self) -> None:
        self.announced: list[tuple[str, int]] = []
        self.done = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        """Yields itself."""
        self.announced.append((description, total))
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        """Counts."""
        self.done += steps

    def say(self, line: str) -> None:
        """Fails: none of the work that it watches has anything to say."""
        raise AssertionError(line)


@pytest.fixture
def progress() -> RecordingProgress:
    """A Progress to which nothing has been announced yet."""
    return RecordingProgress()


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., TeacherIndex]:
    """Returns a function that writes an index of unit rows, and opens it."""

    def write(
        folder: Path, rows: npt.NDArray[np.floating], *, teacher: str = "teacher", hashed: bool = True
    ) -> TeacherIndex:
        """Writes it.

        Args:
            folder: of the index.
            rows: (N, D) float32 or float16.
            teacher: name of its space's.
            hashed: whether it says which bytes its embeddings have, as older ones do not.
        """
        folder.mkdir()
        ids = encode_ids([f"{row}.jpg" for row in range(len(rows))])
        (folder / "ids.txt").write_bytes(ids)
        np.save(folder / "embeddings.npy", rows)
        embeddings = hashlib.sha256((folder / "embeddings.npy").read_bytes()).hexdigest()
        record = IndexRecord(
            space=EmbeddingSpace(teacher, "a" * 64, rows.shape[1]),
            preprocessing=Preprocessing(64),
            count=len(rows),
            ids_sha256=hashlib.sha256(ids).hexdigest(),
            embeddings_sha256=embeddings if hashed else None,
            dtype="float32" if rows.dtype == np.float32 else "float16",
        )
        (folder / "index.json").write_text(record.dumps())
        return open_index(folder)

    return write


@pytest.fixture(scope="session")
def few_landmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set of four landmarks to learn, three to judge by, two to test with; no test may change it."""
    root = tmp_path_factory.mktemp("landmarks")
    spec = SyntheticSpec(
        image_side_px=64,
        landmarks_train=4,
        landmarks_val=3,
        views_train=2,
        landmarks_test=2,
        easy=1,
        hard=1,
        junk=0,
        distractors=2,
    )
    write_synthetic(root, spec, workers=1)
    return root


@pytest.fixture(scope="session")
def write_channel_means() -> Callable[..., None]:
    """Returns a function that writes an ONNX file which gives channel means plus one, L2-normalised."""
    from onnx import TensorProto, helper

    def write(path: Path, side: int, *, offset: float = 1.0) -> None:
        """Writes it.

        Args:
            path: where; ends in .onnx.
            side: of the (1, side, side, 3) uint8 pixels that it takes.
            offset: what is added to the means; NaN or infinity leads to embeddings that are not finite.
        """
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

    return write
