"""`check_approximate`: whether the approximate indexes of an index still are what was built, read to the last byte."""

from __future__ import annotations

from pathlib import Path

from aml_edge.approximate.record import (
    APPROXIMATE_FOLDER,
    RECORD_FILE,
    STRUCTURE_FILE,
    read_record,
    require_made_from,
)
from aml_edge.errors import TeacherIndexError
from aml_edge.files import file_sha256
from aml_edge.index import TeacherIndex
from aml_edge.index.verification import IndexCheck


def check_approximate(index: TeacherIndex) -> tuple[IndexCheck, ...]:
    """Returns what was found of each approximate index, by name; FAISS is not needed, and reads none of them."""
    folders = sorted((index.path / APPROXIMATE_FOLDER).glob(f"*/{RECORD_FILE}"))
    return tuple(_check(record.parent, index) for record in folders if not record.parent.name.startswith("."))


def _check(folder: Path, index: TeacherIndex) -> IndexCheck:
    name = f"approximate {folder.name}"
    try:
        record = read_record(folder)
        require_made_from(record, index)
        same = file_sha256(folder / STRUCTURE_FILE) == record.sha256
    except (OSError, TeacherIndexError) as problem:
        return IndexCheck(name, False, str(problem))
    said = f"of these rows, {record.size_bytes / 1e6:.1f} MB, as recorded"
    return IndexCheck(name, same, said if same else f"another SHA-256 than {RECORD_FILE} says")
