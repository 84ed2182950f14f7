"""`build_approximate`: an approximate index of a teacher's index, trained on a sample and filled in blocks.

Rows are read from the memory-mapped index, so memory holds FAISS's structure, the sample and a block. The sample is
seeded and bounded: FAISS takes at most 256 rows for each cluster that it makes and warns below 39. Both files are
written into a folder with another name, which then gets its own: there is a whole one or none. What FAISS builds with
several threads, or on another processor, may differ in bits.

Source: Douze, Guzhva, Deng et al., "The Faiss library", 2024; FAISS's `ClusteringParameters` for the two numbers.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_edge.approximate.approximate_index import ApproximateIndex, open_approximate
from aml_edge.approximate.faiss_engine import (
    Problem,
    empty_structure,
    faiss_module,
    largest_clustering,
    reason,
    write_structure,
)
from aml_edge.approximate.record import (
    RECORD_FILE,
    STRUCTURE_FILE,
    ApproximateRecord,
    approximate_path,
    embeddings_sha256,
)
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.file_lock import locked
from aml_edge.files import file_sha256, write_text_atomically, written_atomically
from aml_edge.index import TeacherIndex
from aml_edge.native_output import output_discarded
from aml_edge.progress import Progress, SilentProgress

MOST_ROWS_A_CLUSTER, LEAST_ROWS_A_CLUSTER = 256, 39
LEAST_CLUSTERS = 256
"""What a sample is enough for at least: the clusters of a code of 8 bits, and rotations, which FAISS gives as many."""
TRAINING_BYTES = 1 << 31
"""Of a sample, unless 39 rows a cluster are more."""
BLOCK_BYTES = 1 << 26
"""Of the rows that are added at once."""


@dataclass(frozen=True)
class ApproximateOptions:
    """How an approximate index is built.

    Args:
        training_rows: of the sample; None for 256 a cluster within 2 GiB.
        seed: draws the sample.
        restart: make it again where there is one, be it damaged.
    """

    training_rows: int | None = None
    seed: int = 0
    restart: bool = False

    def __post_init__(self) -> None:
        if self.training_rows is not None and self.training_rows < 1:
            raise UsageError(f"`training_rows` is {self.training_rows}; it must be at least 1.")


def build_approximate(
    index: TeacherIndex,
    spec: ApproximateSpec,
    options: ApproximateOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ApproximateIndex:
    """Returns an approximate index after it was written into the index's folder; one that is there is opened.

    Args:
        index: whose rows are used; they stay what they are.
        spec: the factory, and the parameters of a search that names none.
        options: how to build it.
        progress: where the work is announced, one step a row.

    Raises:
        UsageError: FAISS does not know the factory or the parameters, or cannot train it on these rows.
        TeacherIndexError: a row cannot be right; another process is at work; or the one that is there is damaged or
            made from other embeddings.
        MissingExtraError: FAISS is not installed.
    """
    options, quiet = options or ApproximateOptions(), progress or SilentProgress()
    structure = empty_structure(spec, index.space.dimension, len(index.ids))
    folder = approximate_path(index.path, spec.factory)
    try:
        with locked(folder.with_name(f".{folder.name}.lock"), lambda: _refuse_second(folder)):
            if (folder / RECORD_FILE).is_file() and not options.restart:
                return _remembering(open_approximate(index, replace(spec, parameters="")), spec)
            _remove_left_over(folder)
            clusters = largest_clustering(structure)
            sample = 0 if structure.is_trained else sample_rows(clusters, index.embeddings.shape, options)
            if sample:
                _train(structure, index, spec, _drawn(sample, len(index.ids), options.seed), quiet)
            _add(structure, index, spec, quiet)
            record = ApproximateRecord(
                factory=spec.factory,
                parameters=spec.parameters,
                count=len(index.ids),
                dimension=index.space.dimension,
                embeddings_sha256=embeddings_sha256(index),
                space_fingerprint=index.space.fingerprint,
                clusters=clusters,
                training_rows=sample,
                seed=options.seed,
                faiss_version=str(faiss_module().__version__),
            )
            _write(structure, record, folder)
            return open_approximate(index, spec)
    finally:
        with suppress(OSError):
            folder.parent.rmdir()  # where nothing came of it


def require_factory(spec: ApproximateSpec, dimension: int, count: int) -> None:
    """Raises `UsageError` or `MissingExtraError` where such an index of so many rows could not be begun.

    For whoever has hours of other work before it.
    """
    empty_structure(spec, dimension, count)


def sample_rows(clusters: int, shape: tuple[int, ...], options: ApproximateOptions) -> int:
    """Returns how many of (N, D) rows a structure is trained on that makes so many clusters."""
    (count, dimension), clusters = shape, max(clusters, LEAST_CLUSTERS)
    within = max(LEAST_ROWS_A_CLUSTER * clusters, TRAINING_BYTES // (4 * dimension))
    return min(count, options.training_rows or min(MOST_ROWS_A_CLUSTER * clusters, within))


def _drawn(sample: int, count: int, seed: int) -> npt.NDArray[np.intp]:
    """Returns the rows of the sample, ascending, as they are best read."""
    return np.sort(np.random.default_rng(seed).choice(count, sample, replace=False)).astype(np.intp)


def _train(
    structure: Any, index: TeacherIndex, spec: ApproximateSpec, rows: npt.NDArray[np.intp], progress: Progress
) -> None:
    with progress.task(f"training {spec.factory}", len(rows)) as task:
        sample = np.ascontiguousarray(index.checked_embeddings[rows])
        try:
            with output_discarded():  # the warnings, of which FAISS prints one for each part of a code
                structure.train(sample)
        except Problem as problem:
            raise UsageError(
                f"`ann` is '{spec.factory}', which FAISS cannot train on {len(rows)} of the {len(index.ids)} rows of "
                f"{index.path}: {reason(problem)}; name one with fewer lists or shorter codes."
            ) from None
        task.advance(len(rows))


def _add(structure: Any, index: TeacherIndex, spec: ApproximateSpec, progress: Progress) -> None:
    """Adds every row, and searches for the first one, which shows what cannot be searched at all."""
    count, rows = len(index.ids), index.checked_embeddings
    at_once = max(1, BLOCK_BYTES // (4 * index.space.dimension))
    with progress.task(f"adding to {spec.factory}", count) as task:
        try:
            for start in range(0, count, at_once):
                block = np.ascontiguousarray(rows[start : start + at_once])
                structure.add(block)
                task.advance(len(block))
            structure.search(block[:1], 1)
        except Problem as problem:
            raise UsageError(
                f"`ann` is '{spec}', to which FAISS cannot add rows and search them: {reason(problem)}; "
                "name another factory, e.g. IVF256,SQ8."
            ) from None


def _write(structure: Any, record: ApproximateRecord, folder: Path) -> None:
    with written_atomically(folder) as partial:
        partial.mkdir()
        with (partial / STRUCTURE_FILE).open("wb") as stream:
            write_structure(structure, stream)
            stream.flush()
            os.fsync(stream.fileno())
        size, sha256 = (partial / STRUCTURE_FILE).stat().st_size, file_sha256(partial / STRUCTURE_FILE)
        (partial / RECORD_FILE).write_text(replace(record, size_bytes=size, sha256=sha256).dumps(), encoding="utf-8")


def _remembering(found: ApproximateIndex, spec: ApproximateSpec) -> ApproximateIndex:
    """Returns what is there, with the spec's parameters from now on where it has some."""
    if spec.parameters in ("", found.record.parameters):
        return found
    record = replace(found.record, parameters=spec.parameters)
    write_text_atomically(approximate_path(found.index.path, spec.factory) / RECORD_FILE, record.dumps())
    return open_approximate(found.index, spec)


def _remove_left_over(folder: Path) -> None:
    """Removes what a build that was killed has left."""
    for pattern in (f".{folder.name}.*.partial", f".{folder.name}.*.replaced"):
        for left in folder.parent.glob(pattern):
            shutil.rmtree(left)


def _refuse_second(folder: Path) -> None:
    raise TeacherIndexError(f"{folder} is being built by another process; wait for it.")
