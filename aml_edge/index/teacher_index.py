"""`TeacherIndex`: a teacher's embeddings of a database on disk, which is what students are made to fit.

A folder of `index.json` (the record), `embeddings.npy` (N, D), `ids.txt` (one id a line, in row order),
`images.sha256` (which bytes each image had) and, where the space has a whitening, `whitening.safetensors` (m and P).
Embeddings stay on disk and are memory-mapped. `aml_edge.index.building` makes one; nothing changes one.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from aml_edge.errors import TeacherIndexError, UsageError, unusable_path
from aml_edge.index.checked_rows import CheckedRows
from aml_edge.index.import_record import ImportRecord
from aml_edge.index.record import RECORD_FILE, IndexRecord, damaged
from aml_edge.index.row_views import IndexRows
from aml_edge.index.whitened_rows import WhitenedRows
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import read_tensors
from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import SINGLE_SCALE, Scales
from aml_edge.space import EmbeddingSpace, require_same_space

EMBEDDINGS_FILE = "embeddings.npy"
IDS_FILE = "ids.txt"
WHITENING_FILE = "whitening.safetensors"
_LISTED = 5


@dataclass(frozen=True, eq=False)
class TeacherIndex:
    """An opened index.

    Args:
        path: its folder.
        space: the space its embeddings live in, whitening included.
        preprocessing: what the teacher's images went through.
        ids: (N,) names of the images, each once; paths relative to the images' folder where they come from one.
        embeddings: (N, D) float32 or float16, rows L2-normalised, memory-mapped; `checked_embeddings` gives float32.
        whitening: the last layer of the teacher's embeddings, where the space has one; queries need it too.
        skipped: ids that were left out, since their images could not be read or gave no embedding of unit length.
        scales: at which the teacher saw each image; they belong to it as its preprocessing does, not to the space.
        images_sha256: of the file that says which bytes each image had (`aml_edge.index.images`); None where an older
            index has none.
        imported: where its rows came from, where the teacher did not embed them here (`aml_edge.index.importing`).
        whitened_as_read: whether the embeddings on disk are those before the whitening.
    """

    path: Path
    space: EmbeddingSpace
    preprocessing: Preprocessing
    ids: tuple[str, ...]
    embeddings: npt.NDArray[np.floating]
    whitening: Whitening | None
    skipped: tuple[str, ...] = ()
    scales: Scales = SINGLE_SCALE
    images_sha256: str | None = None
    imported: ImportRecord | None = None
    whitened_as_read: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(part.stat().st_size for part in self.path.iterdir() if part.is_file())

    @property
    def space_before_whitening(self) -> EmbeddingSpace:
        """The space of the teacher's own embeddings, which is the index's where it has no whitening."""
        if self.whitening is None:
            return self.space
        return replace(self.space, dimension=self.whitening.projection.shape[1], whitening_sha256=None)

    @property
    def checked_embeddings(self) -> IndexRows:
        """The embeddings in the index's space as float32, of which none is read that cannot be one.

        A row is checked when it is read first: what is opened does not change.
        """
        if self.whitening is None or not self.whitened_as_read:
            return self._checked
        return WhitenedRows(self._checked, self.whitening)

    def rows_of(self, ids: Sequence[str]) -> npt.NDArray[np.intp]:
        """Returns the row of each id; raises `TeacherIndexError` that names what the index does not hold."""
        missing = [one for one in ids if one not in self._rows]
        if missing:
            shown = ", ".join(missing[:_LISTED]) + (", …" if len(missing) > _LISTED else "")
            step = "build it from the folder that holds all of them: `aml-edge index build`"
            if self.imported is not None:
                step = f"its first id is {self.ids[0]!r}: import it with ids like theirs: `aml-edge index import`"
            raise TeacherIndexError(f"index {self.path} lacks {len(missing)} of {len(ids)} images ({shown}); {step}.")
        return np.fromiter((self._rows[one] for one in ids), np.intp, len(ids))

    def whitening_for(self, space: EmbeddingSpace, *, name: str) -> Whitening | None:
        """Returns what leads from an embedder's space to the index's: the index's whitening, or None for nothing.

        A student learns the teacher's embeddings before whitening, so its own space may be that one.

        Args:
            space: of the embedder.
            name: of the embedder, for the message, e.g. ``"student 'demo'"``.

        Raises:
            SpaceMismatchError: the embedder belongs to another teacher, dimension or whitening; both sides are named.
        """
        if self.whitening is None or space.fingerprint == self.space.fingerprint:
            require_same_space(space, self.space, left_name=name, right_name=f"the index {self.path}")
            return None
        before = self.space_before_whitening
        require_same_space(space, before, left_name=name, right_name=f"the index {self.path} before its whitening")
        return self.whitening

    @cached_property
    def _checked(self) -> CheckedRows:
        return CheckedRows(self.path, self.ids, self.embeddings)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {one: row for row, one in enumerate(self.ids)}


def open_index(path: Path | str) -> TeacherIndex:
    """Returns the index in a folder, its embeddings memory-mapped.

    Raises:
        TeacherIndexError: it holds none, or its files contradict each other; the message names which and what to do.
        UsageError: there is no such folder.
    """
    path = Path(path)
    if not (path / RECORD_FILE).is_file():
        message = f"{path} holds no index ({RECORD_FILE} is not there); make one: `aml-edge index build`."
        raise unusable_path(path, message, TeacherIndexError)
    try:
        record = IndexRecord.loads((path / RECORD_FILE).read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError, RecursionError, OSError, UsageError) as problem:
        raise damaged(path / RECORD_FILE, f"cannot be read: {problem}") from None
    ids = _read_ids(path / IDS_FILE, record)
    embeddings = _map_embeddings(path / EMBEDDINGS_FILE, record)
    whitening = _read_whitening(path / WHITENING_FILE, record.space)
    return TeacherIndex(
        path=path,
        space=record.space,
        preprocessing=record.preprocessing,
        ids=ids,
        embeddings=embeddings,
        whitening=whitening,
        skipped=record.skipped,
        scales=record.scales,
        images_sha256=record.images_sha256,
        imported=record.imported,
    )


def encode_ids(ids: Sequence[str]) -> bytes:
    """Returns the bytes of `ids.txt`, one id a line.

    Raises:
        TeacherIndexError: there is none, one is empty, cannot be a line of UTF-8 text, or comes twice.
    """
    if not ids:
        raise TeacherIndexError("an index of no images says nothing; give a folder with images in it.")
    seen: set[str] = set()
    for one in ids:
        if not one or "\n" in one or not _is_unicode(one):
            raise TeacherIndexError(f"the image id {one!r} cannot be a line of text; rename the file.")
        if one in seen:
            raise TeacherIndexError(f"the image id {one!r} comes twice; an index names each image once.")
        seen.add(one)
    return "".join(one + "\n" for one in ids).encode()


def _read_ids(file: Path, record: IndexRecord) -> tuple[str, ...]:
    try:
        content = file.read_bytes()
        ids = tuple(content.decode("utf-8").split("\n"))
    except (OSError, UnicodeDecodeError) as problem:
        raise damaged(file, f"cannot be read: {problem}") from None
    if ids[-1] != "" or len(ids) - 1 != record.count:
        raise damaged(file, f"holds {len(ids) - 1} whole lines, but {RECORD_FILE} says {record.count}")
    ids = ids[:-1]
    if len(set(ids)) < len(ids):
        raise damaged(file, "names an image twice")
    if hashlib.sha256(content).hexdigest() != record.ids_sha256:
        raise damaged(file, f"is not the one that {RECORD_FILE} was written for (another SHA-256)")
    return ids


def _map_embeddings(file: Path, record: IndexRecord) -> npt.NDArray[np.floating]:
    expected, of_record = (record.count, record.space.dimension), np.dtype(record.dtype)
    try:
        with file.open("rb") as stream:
            shape, fortran_order, dtype = _read_npy_header(stream)
            start, size = stream.tell(), os.fstat(stream.fileno()).st_size
    except (
        OSError,
        ValueError,
        TypeError,
        SyntaxError,
        TokenError,
        MemoryError,
        RecursionError,
        UserWarning,
    ) as problem:
        raise damaged(file, f"cannot be read: {problem}") from None
    if shape != expected or fortran_order or dtype != of_record:
        raise damaged(file, f"holds {shape} {dtype}, but {RECORD_FILE} says {expected} {record.dtype}, row by row")
    if size != start + of_record.itemsize * record.count * record.space.dimension:
        raise damaged(file, f"has {size} bytes, which {expected} {record.dtype} do not have")
    return np.memmap(file, of_record, "r", start, expected)


def _read_npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Returns shape, order and dtype; numpy evaluates the header as a literal and unpickles nothing."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("it is not of version 1.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a header that is no literal as it stands
        header: tuple[tuple[int, ...], bool, np.dtype[Any]] = np.lib.format.read_array_header_1_0(stream)
    return header


def _read_whitening(file: Path, space: EmbeddingSpace) -> Whitening | None:
    if space.whitening_sha256 is None:
        return None
    try:
        whitening, _ = read_tensors(file)
    except (OSError, ValueError) as problem:
        raise damaged(file, f"cannot be read: {problem}") from None
    if whitening.sha256 != space.whitening_sha256 or whitening.dimension != space.dimension:
        raise damaged(file, f"holds another whitening than {RECORD_FILE} says")
    return whitening


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
