"""`verify_index`: whether an index still is what was built, read from its first byte to its last.

Opening an index checks its record, ids and whitening, and must stay instant; embeddings and images are checked here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index.checked_rows import unsound_rows
from aml_edge.index.images import compare_images, listed, read_image_hashes
from aml_edge.index.record import RECORD_FILE, IndexRecord
from aml_edge.index.teacher_index import EMBEDDINGS_FILE, TeacherIndex, open_index
from aml_edge.progress import Progress, SilentProgress

BLOCK_BYTES = 1 << 24
"""Of the embeddings, read at once."""
OLDER = "not known: an older index does not say it"
IMPORTED = "not known: an imported index does not say it"


@dataclass(frozen=True)
class IndexCheck:
    """One thing that was looked at.

    Args:
        name: of what, in a word.
        holds: whether it is what was built; None where nothing says what that was.
        found: what was found, in words.
    """

    name: str
    holds: bool | None
    found: str


@dataclass(frozen=True)
class IndexVerification:
    """What came out.

    Args:
        path: folder of the index.
        images: folder of the images that were compared, or None.
        checks: what was looked at.
    """

    path: Path
    images: Path | None
    checks: tuple[IndexCheck, ...]


def verify_index(path: Path, images: Path | None = None, *, progress: Progress | None = None) -> IndexVerification:
    """Returns whether each part of an index is what was built.

    Args:
        path: its folder.
        images: folder of the images that it was built from, to be compared with it too.
        progress: where the work is announced.

    Raises:
        TeacherIndexError: it cannot be opened; the file that is damaged is named.
        UsageError: `images` is no folder.
    """
    if images is not None and not images.is_dir():
        raise UsageError(f"`images` is {images}, which is no folder; give the one that the index was built from.")
    quiet = progress or SilentProgress()
    index = open_index(path)
    whitening = "none" if index.whitening is None else f"{index.whitening.sha256[:8]}, as recorded"
    checks = [
        IndexCheck("ids", True, f"{len(index.ids)}, as recorded"),
        IndexCheck("whitening", True, whitening),
        *_embedding_checks(index, quiet),
        *_image_checks(index, images, quiet),
    ]
    return IndexVerification(path, images, tuple(checks))


def require_verified(verification: IndexVerification) -> None:
    """Raises `TeacherIndexError` that names what is not what was built."""
    different = [check.name for check in verification.checks if check.holds is False]
    if different:
        raise TeacherIndexError(
            f"the index {verification.path} is not what was built ({', '.join(different)}), for the reasons above; "
            "copy it again, or build it again: `aml-edge index build`."
        )


def _embedding_checks(index: TeacherIndex, progress: Progress) -> tuple[IndexCheck, IndexCheck]:
    record = IndexRecord.loads((index.path / RECORD_FILE).read_text(encoding="utf-8"))
    (count, dimension), dtype = index.embeddings.shape, np.dtype(record.dtype)
    row_bytes = dtype.itemsize * dimension
    at_once = max(1, BLOCK_BYTES // row_bytes)
    digest, unsound = hashlib.sha256(), np.empty(0, np.intp)
    with (index.path / EMBEDDINGS_FILE).open("rb") as stream, progress.task("checking embeddings", count) as task:
        digest.update(stream.read(os.fstat(stream.fileno()).st_size - row_bytes * count))
        for first in range(0, count, at_once):
            content = stream.read(row_bytes * min(at_once, count - first))
            digest.update(content)
            rows = np.frombuffer(content, dtype).reshape(-1, dimension).astype(np.float32, copy=False)
            unsound = np.append(unsound, unsound_rows(rows) + first)
            task.advance(len(rows))
    sha256 = record.embeddings_sha256
    same = None if sha256 is None else digest.hexdigest() == sha256
    said = {None: OLDER, True: "as recorded", False: f"another one than {RECORD_FILE} says"}[same]
    sound = "all finite and of unit length"
    if len(unsound):
        ids = listed([index.ids[row] for row in unsound])
        sound = f"{len(unsound)} of {count} are not finite or not of unit length ({ids})"
    return IndexCheck("embeddings' SHA-256", same, said), IndexCheck("embeddings", not len(unsound), sound)


def _image_checks(index: TeacherIndex, images: Path | None, progress: Progress) -> list[IndexCheck]:
    name = "images' SHA-256"
    try:
        hashes = read_image_hashes(index)
    except TeacherIndexError as problem:
        return [IndexCheck(name, False, str(problem))]
    if hashes is None:
        return [IndexCheck(name, None, OLDER if index.imported is None else IMPORTED)]
    recorded = IndexCheck(name, True, f"{len(hashes)}, as recorded")
    return [recorded] if images is None else [recorded, _compared(index, images, hashes, progress)]


def _compared(index: TeacherIndex, images: Path, hashes: tuple[str, ...], progress: Progress) -> IndexCheck:
    inside = [row for row, one in enumerate(index.ids) if _stays_inside(one)]
    outside = [one for one in index.ids if not _stays_inside(one)]
    ids = [index.ids[row] for row in inside]
    found = compare_images(ids, [ImageItem(images / one) for one in ids], [hashes[row] for row in inside], progress)
    problems = []
    if found.different:
        problems.append(f"{len(found.different)} have other bytes ({listed(found.different)})")
    if found.unreadable:
        unreadable = [f"{path.relative_to(images).as_posix()}: {reason}" for path, reason in found.unreadable]
        problems.append(f"{len(unreadable)} cannot be read ({listed(unreadable)})")
    if outside:
        problems.append(f"{len(outside)} would lie outside of the folder ({listed(outside)})")
    if not problems:
        return IndexCheck("images", True, f"all {len(hashes)} files are the same")
    return IndexCheck("images", False, f"of {len(hashes)} files {' and '.join(problems)}")


def _stays_inside(one: str) -> bool:
    path = PurePosixPath(one)
    return not path.is_absolute() and ".." not in path.parts
