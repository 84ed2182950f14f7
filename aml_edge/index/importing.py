"""`import_index`: an index made of vectors that another tool keeps, in the space that somebody declares.

The rows are copied, not embedded again: what a team's search meets today is what its files are evaluated against here.
One block is held at a time. The index is put together in `OUT.partial`, checked there, and appears as `OUT` by one
rename; an import that was killed leaves nothing else, and begins anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_edge.errors import ForeignIndexError, SpaceMismatchError, TeacherIndexError
from aml_edge.index.checked_rows import unsound_rows
from aml_edge.index.declared_space import DeclaredSpace
from aml_edge.index.images import listed
from aml_edge.index.import_check import CheckingImages, check_sample
from aml_edge.index.import_diagnosis import require_agreement
from aml_edge.index.import_ids import GivenIds, IdAssignment, require_ids
from aml_edge.index.import_record import ImageCheck, ImportRecord
from aml_edge.index.record import RECORD_FILE, IndexDtype, IndexRecord
from aml_edge.index.shards import LOCK_FILE, sole_builder
from aml_edge.index.teacher_index import IDS_FILE, WHITENING_FILE, TeacherIndex, encode_ids, open_index
from aml_edge.index.writing import write_embeddings
from aml_edge.networks.whitening_file import encode_whitening
from aml_edge.progress import Progress, ProgressTask, SilentProgress
from aml_edge.vectors.source import SourceDescription, VectorSource, files_sha256

IMPORT_FOLDER = "import"


@dataclass(frozen=True, eq=False)
class ImportOptions:
    """How vectors become an index.

    Args:
        ids: which row is whose; None for the source's own ids.
        normalise: scale rows to unit length; else one of another length is refused.
        images: to check the rows with, or None.
    """

    ids: GivenIds | None = None
    normalise: bool = False
    images: CheckingImages | None = None


def import_index(
    source: VectorSource,
    declared: DeclaredSpace,
    out: Path,
    options: ImportOptions | None = None,
    *,
    progress: Progress | None = None,
) -> TeacherIndex:
    """Returns the index of another tool's vectors, after it was written.

    Rows of float16 stay float16; those of float64 are rounded to float32.

    Args:
        source: the vectors.
        declared: whose they are.
        out: the index's folder, which must not hold anything yet.
        options: how.
        progress: where the work is announced.

    Raises:
        SpaceMismatchError: the source holds another dimension than was declared.
        ForeignIndexError: the source is damaged, a row cannot be an embedding, or images say that it is another's.
        TeacherIndexError: `out` is taken, or an id cannot be one or comes twice.
        UsageError: it is not known which row is whose, or no image is there to check with.
    """
    options, quiet, partial = options or ImportOptions(), progress or SilentProgress(), Path(f"{out}.partial")
    _require_free(out)
    _require_dimension(source.description, declared)
    require_ids(source.description, options.ids)
    with sole_builder(partial):
        folder = _emptied(partial)
        try:
            record = _copy(source, declared, folder, options, quiet)
            if options.images is not None:
                index = open_index(folder)
                sample = check_sample(index, declared, options.images, quiet)
                require_agreement(index, options.images, sample, quiet)
                _write_record(folder, _checked(record, sample.summary(options.images.least_cosine)))
            os.rename(folder, out)
        finally:
            shutil.rmtree(partial)
    return open_index(out)


class _CheckedRows:
    """The rows of a source on their way into an index: named, of unit length, or counted among those that are not."""

    def __init__(self, source: VectorSource, dtype: IndexDtype, options: ImportOptions) -> None:
        self.assignment = IdAssignment(source.description, options.ids)
        self._source, self._dtype, self._normalise = source, dtype, options.normalise
        self._broken: list[str] = []
        self._other_length: list[str] = []

    def blocks(self, task: ProgressTask) -> Iterator[npt.NDArray[np.floating]]:
        """Yields blocks until one holds an unsound row; goes on to the last row all the same, to count those."""
        described = self._source.description
        for block in self._source.blocks():
            ids = self.assignment.assign(block)
            rows = self._as_stored(block.rows)
            for row in unsound_rows(rows.astype(np.float32, copy=False)):
                kept = block.rows[row].astype(np.float64)
                broken = not np.isfinite(kept).all() or not kept.any()
                (self._broken if broken else self._other_length).append(ids[row])
            task.advance(len(rows))
            if not self._broken and not self._other_length:
                yield rows
        if len(self.assignment.ids) != described.count:
            raise ForeignIndexError(
                f"{described.name} gave {len(self.assignment.ids)} vectors after it had said {described.count}; "
                "import it when nothing else writes to it."
            )

    def require_sound(self) -> None:
        """Raises `ForeignIndexError` where rows cannot be embeddings; some are named."""
        described = self._source.description
        if self._broken:
            raise ForeignIndexError(
                f"{len(self._broken)} of {described.count} vectors of {described.name} are zero or not finite "
                f"({listed(self._broken)}); no image has such an embedding: leave them out, and their ids."
            )
        if self._other_length:
            kept = "FAISS kept only approximations of them: import what was added to it, or " * described.approximate
            raise ForeignIndexError(
                f"{len(self._other_length)} of {described.count} vectors of {described.name} are not of unit length "
                f"({listed(self._other_length)}); {kept}pass --normalise to have them scaled, which changes what an "
                "inner product ranks and nothing that a cosine does."
            )

    def _as_stored(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        with np.errstate(all="ignore"):  # what cannot be scaled is found after
            if self._normalise:
                precise = rows.astype(np.float64)
                rows = precise / np.linalg.norm(precise, axis=1, keepdims=True)
            return rows.astype(self._dtype, copy=False)


def _copy(
    source: VectorSource, declared: DeclaredSpace, folder: Path, options: ImportOptions, progress: Progress
) -> IndexRecord:
    """Returns the record of the index that was put into a folder: rows, ids, whitening and that record."""
    described = source.description
    folder.mkdir()
    dtype: IndexDtype = "float16" if described.dtype == "float16" else "float32"
    sha256 = files_sha256(source.files, progress)
    rows = _CheckedRows(source, dtype, options)
    with progress.task("importing", described.count) as task:
        shape = described.count, described.dimension
        embeddings_sha256 = write_embeddings(folder, shape, rows.blocks(task), dtype=dtype)
    rows.require_sound()
    ids = encode_ids(rows.assignment.ids)
    (folder / IDS_FILE).write_bytes(ids)
    if declared.whitening is not None:
        (folder / WHITENING_FILE).write_bytes(encode_whitening(declared.whitening))
    record = IndexRecord(
        space=declared.space,
        preprocessing=declared.preprocessing,
        count=described.count,
        ids_sha256=hashlib.sha256(ids).hexdigest(),
        scales=declared.scales,
        embeddings_sha256=embeddings_sha256,
        dtype=dtype,
        imported=_import_record(described, sha256, normalised=options.normalise or described.normalises),
    )
    _write_record(folder, record)
    return record


def _import_record(described: SourceDescription, sha256: str | None, *, normalised: bool) -> ImportRecord:
    return ImportRecord(
        source=described.kind,
        name=described.name,
        sha256=sha256,
        dtype=described.dtype,
        approximate=described.approximate,
        normalised=normalised,
    )


def _checked(record: IndexRecord, check: ImageCheck) -> IndexRecord:
    assert record.imported is not None
    return replace(record, imported=replace(record.imported, check=check))


def _write_record(folder: Path, record: IndexRecord) -> None:
    (folder / RECORD_FILE).write_text(record.dumps(), encoding="utf-8")


def _require_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise TeacherIndexError(
            f"{out} is there already, and an index is never written over; remove it to import again, or give another "
            "--out."
        )


def _require_dimension(source: SourceDescription, declared: DeclaredSpace) -> None:
    if source.dimension == declared.space.dimension:
        return
    step = "name the teacher that made them and, where they were whitened, the whitening"
    if source.count == declared.space.dimension:
        step = "it holds one vector a column: save its transpose"
    raise SpaceMismatchError(
        f"{source.name} holds vectors of {source.dimension} values, but the declared space is "
        f"{declared.space.describe()}; {step}."
    )


def _emptied(partial: Path) -> Path:
    """Returns the folder to put an index together in, after what a killed import left was removed."""
    strange = [part.name for part in partial.iterdir() if part.name not in (LOCK_FILE, IMPORT_FOLDER)]
    if strange:
        raise TeacherIndexError(
            f"{partial} is in the way, and no unfinished import ({listed(sorted(strange))} in it); finish or remove "
            "what it is, or give another --out."
        )
    if (partial / IMPORT_FOLDER).exists():
        shutil.rmtree(partial / IMPORT_FOLDER)
    return partial / IMPORT_FOLDER
