"""Files that are whole or not there: written beside their name, then renamed into place."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or folder to; on success it replaces `path`, else it is removed.

    The temporary name keeps the suffix of `path`, since converters look at it. A file never replaces a folder, nor a
    folder a file: that is an `OSError`, and what stood there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    _remove(partial)
    try:
        yield partial
        if partial.is_dir() and path.is_dir() and not path.is_symlink():
            _replace_folder(partial, path)
        else:
            partial.replace(path)
    except OSError as problem:
        if problem.filename == str(partial):
            problem.filename = str(path)  # the name that the caller knows
        raise
    finally:
        _remove(partial)


def write_text_atomically(path: Path, text: str) -> None:
    """Writes UTF-8 text; a reader sees the old file or the new one, never half."""
    with written_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _replace_folder(partial: Path, path: Path) -> None:
    """Exchanges a folder for another in two renames, as folders need; the old one comes back where the second fails."""
    replaced = path.with_name(f".{path.stem}.{os.getpid()}.replaced{path.suffix}")
    path.rename(replaced)
    try:
        partial.rename(path)
    except BaseException:
        replaced.rename(path)
        raise
    _remove(replaced)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
