"""`ApproximateIndex`: FAISS's structure of an index's rows, opened, checked against the index, and searched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aml_edge.approximate.faiss_engine import (
    Problem,
    inverted_lists,
    read_structure,
    reason,
    set_parameters,
    similarities_of,
)
from aml_edge.approximate.record import (
    RECORD_FILE,
    STRUCTURE_FILE,
    ApproximateRecord,
    approximate_path,
    damaged_approximate,
    read_record,
    read_records,
    require_made_from,
)
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.files import file_sha256
from aml_edge.index import TeacherIndex
from aml_edge.search import TopK

QUERIES_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """An approximate index in memory.

    Args:
        index: whose rows it finds.
        spec: what it is, and with which parameters it is searched.
        record: what is known of it.
        structure: FAISS's.
    """

    index: TeacherIndex
    spec: ApproximateSpec
    record: ApproximateRecord
    structure: Any

    @property
    def description(self) -> str:
        """The factory and the parameters, among them how many lists are probed where nobody said it."""
        lists = inverted_lists(self.structure)
        said = [part for part in self.spec.parameters.split(",") if part]
        if lists is None or any(part.startswith("nprobe=") for part in said):
            return str(self.spec)
        return str(ApproximateSpec(self.spec.factory, ",".join([*said, f"nprobe={lists.nprobe}"])))

    def search(self, query_embeddings: Embeddings, k: int) -> TopK:
        """Returns the k rows that FAISS finds for each query, by what it takes their similarities for.

        Args:
            query_embeddings: (Q, D).
            k: at least 1; as many as there are rows where it is larger.

        Returns:
            (Q, K) rows of the index, −1 with a similarity of −∞ after the last one where FAISS found fewer.

        Raises:
            UsageError: k or the shape cannot be, or a row is not finite.
            TeacherIndexError: the structure is damaged.
        """
        queries = np.ascontiguousarray(query_embeddings, np.float32)
        _require_search(queries, self.record.dimension, k)
        width = min(k, self.record.count)
        rows = np.full((len(queries), width), -1, np.int64)
        similarities = np.full((len(queries), width), -np.inf, np.float32)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            block = slice(start, start + QUERIES_AT_ONCE)
            try:
                values, rows[block] = self.structure.search(queries[block], width)
            except Problem as problem:
                raise UsageError(
                    f"`ann` is '{self.spec}', with which FAISS cannot search: {reason(problem)}; "
                    "change its parameters, or name another factory."
                ) from None
            similarities[block] = np.where(rows[block] < 0, -np.inf, similarities_of(self.structure, values))
        if len(rows) and not (-1 <= rows.min() and rows.max() < self.record.count):
            raise damaged_approximate(self._folder / STRUCTURE_FILE, "finds rows that the index does not have")
        return TopK(rows, similarities)

    @property
    def _folder(self) -> Path:
        return approximate_path(self.index.path, self.spec.factory)


def open_approximate(index: TeacherIndex, spec: ApproximateSpec) -> ApproximateIndex:
    """Returns an approximate index that lies beside an index's rows, in memory.

    Args:
        index: whose rows were used.
        spec: the factory that it was built with; parameters that replace all it was built with, where some are given.

    Raises:
        UsageError: there is none, or FAISS does not take the parameters.
        TeacherIndexError: it is damaged, or made from other embeddings.
        MissingExtraError: FAISS is not installed.
    """
    folder = approximate_path(index.path, spec.factory)
    if not (folder / RECORD_FILE).is_file():
        present = "; ".join(one.factory for one in read_records(index.path)) or "none"
        raise UsageError(
            f"`ann` is '{spec.factory}', which the index {index.path} does not have (it has {present}); make it: "
            f'`aml-edge index approximate {index.path} --ann "{spec.factory}"`.'
        )
    record = read_record(folder)
    require_made_from(record, index)
    structure = _read(folder / STRUCTURE_FILE, record)
    spec = spec if spec.parameters else replace(spec, parameters=record.parameters)
    set_parameters(structure, spec)
    return ApproximateIndex(index, spec, record, structure)


def _read(file: Path, record: ApproximateRecord) -> Any:
    try:
        if file.stat().st_size != record.size_bytes or file_sha256(file) != record.sha256:
            raise ValueError(f"it is not the one that {RECORD_FILE} was written for")
        structure = read_structure(file)
    except (OSError, ValueError) as problem:
        raise damaged_approximate(file, f"cannot be read: {problem}") from None
    held, said = (int(structure.ntotal), int(structure.d)), (record.count, record.dimension)
    if held != said:
        raise damaged_approximate(
            file, f"holds {held[0]} × {held[1]} rows, but {RECORD_FILE} says {said[0]} × {said[1]}"
        )
    return structure


def _require_search(queries: Embeddings, dimension: int, k: int) -> None:
    if k < 1:
        raise UsageError(f"`k` is {k}; a search finds at least one image.")
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UsageError(f"`query_embeddings` has shape {queries.shape}; it must be (queries, {dimension}).")
    broken = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(broken):
        raise UsageError(f"row {broken[0]} of `query_embeddings` is not finite; embed that image again.")
