"""Queries and indexes of any size for measuring evaluation: random rows, in which what answers a query is planted.

The first index is as large as Oxford's, the second one holds distractors, as R1M does. Each block of rows has a seed of
its own, so that an index of either dtype is made in one pass and is the same on every machine with this numpy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.index import TeacherIndex, encode_ids, open_index
from aml_edge.index.joined import JoinedIndex, join_indexes
from aml_edge.index.record import RECORD_FILE, IndexDtype, IndexRecord
from aml_edge.index.teacher_index import IDS_FILE
from aml_edge.index.writing import write_embeddings
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress
from aml_edge.ranking import QueryGroundTruth
from aml_edge.space import EmbeddingSpace

SEED = 0
LANDMARKS, QUERIES_EACH = 14, 5
"""70 queries, as Oxford has; those of a landmark have the same ground truth."""
FIRST_ROWS = 4993
EASY, HARD, JUNK = 43, 36, 19
"""Images a query, which Oxford has on average."""
NEAR = {"easy": (0.3, 0.8), "hard": (0.03, 0.4), "junk": (0.03, 0.6)}
"""Cosines of an image to its landmark; two random rows of 2048 values have one of ± 0.02."""
BLOCK_ROWS = 10_000


@dataclass(frozen=True)
class EvaluationSize:
    """How much is evaluated.

    Args:
        rows: of both indexes together, more than the first one has.
        dimension: of an embedding.
    """

    rows: int = 1_000_000
    dimension: int = 2048

    @property
    def first_rows(self) -> int:
        """Rows of the first index: Oxford's, or half of a small database."""
        return min(FIRST_ROWS, self.rows // 2)


def queries_of(size: EvaluationSize) -> Embeddings:
    """Returns (70, D) queries, rows L2-normalised."""
    return _near(np.repeat(_landmarks(size), QUERIES_EACH, axis=0), (0.6, 0.9), np.random.default_rng([SEED, 1]))


def ground_truth_of(size: EvaluationSize) -> tuple[QueryGroundTruth, ...]:
    """Returns which rows of the first index answer each query."""
    counts = [min(count, size.first_rows // LANDMARKS // 3) for count in (EASY, HARD, JUNK)]
    shuffled = np.random.default_rng([SEED, 2]).permutation(size.first_rows)
    truths = []
    for landmark in range(LANDMARKS):
        mine = shuffled[landmark * sum(counts) : (landmark + 1) * sum(counts)].tolist()
        easy, hard = mine[: counts[0]], mine[counts[0] : sum(counts[:2])]
        truths += [QueryGroundTruth(tuple(easy), tuple(hard), tuple(mine[sum(counts[:2]) :]))] * QUERIES_EACH
    return tuple(truths)


def open_or_make(folder: Path, size: EvaluationSize, dtype: IndexDtype, progress: Progress) -> JoinedIndex:
    """Returns both indexes as one; what is not in the folder yet is made there."""
    first, rest = (folder / f"{name}-{size.rows}x{size.dimension}-{dtype}" for name in ("first", "distractors"))
    for path, rows in ((first, range(size.first_rows)), (rest, range(size.first_rows, size.rows))):
        if not path.exists():
            _make(path, rows, size, dtype, progress)
    return join_indexes(open_index(first), open_index(rest))


def files_of(index: JoinedIndex) -> tuple[Path, ...]:
    """Returns the files of the embeddings."""
    parts: tuple[TeacherIndex, ...] = (index.first, *index.others)
    return tuple(part.path / "embeddings.npy" for part in parts)


def _make(path: Path, rows: range, size: EvaluationSize, dtype: IndexDtype, progress: Progress) -> None:
    partial = Path(f"{path}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    ids = encode_ids([f"{path.name}/{row}.jpg" for row in rows])
    (partial / IDS_FILE).write_bytes(ids)
    with progress.task(f"making {path.name}", len(rows)) as task:

        def blocks() -> Iterator[Embeddings]:
            for start in range(rows.start, rows.stop, BLOCK_ROWS):
                block = _block(range(start, min(start + BLOCK_ROWS, rows.stop)), size)
                yield block
                task.advance(len(block))

        embeddings_sha256 = write_embeddings(partial, (len(rows), size.dimension), blocks(), dtype=dtype)
    record = IndexRecord(
        space=EmbeddingSpace("random", "0" * 64, size.dimension),
        preprocessing=Preprocessing(),
        count=len(rows),
        ids_sha256=hashlib.sha256(ids).hexdigest(),
        embeddings_sha256=embeddings_sha256,
        dtype=dtype,
    )
    (partial / RECORD_FILE).write_text(record.dumps(), encoding="utf-8")
    os.rename(partial, path)


def _block(rows: range, size: EvaluationSize) -> Embeddings:
    generator = np.random.default_rng([SEED, 3, rows.start])
    block = _unit(generator.standard_normal((len(rows), size.dimension), np.float32))
    if rows.start < size.first_rows:
        landmarks = _landmarks(size)
        for landmark, truth in enumerate(ground_truth_of(size)[::QUERIES_EACH]):
            for name, cosines in NEAR.items():
                labelled = np.array([row for row in getattr(truth, name) if row in rows], np.intp)
                centres = np.repeat(landmarks[landmark : landmark + 1], len(labelled), axis=0)
                block[labelled - rows.start] = _near(centres, cosines, generator)
    return block


def _landmarks(size: EvaluationSize) -> Embeddings:
    return _unit(np.random.default_rng([SEED, 0]).standard_normal((LANDMARKS, size.dimension), np.float32))


def _near(centres: Embeddings, cosines: tuple[float, float], generator: np.random.Generator) -> Embeddings:
    """Returns rows whose cosine to each centre lies, but for chance, between two values."""
    cosine = generator.uniform(*cosines, (len(centres), 1)).astype(np.float32)
    noise = _unit(generator.standard_normal(centres.shape, np.float32))
    return _unit(cosine * centres + np.sqrt(1 - cosine**2) * noise)


def _unit(rows: npt.NDArray[np.floating]) -> Embeddings:
    unit: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32, copy=False)
    return unit
