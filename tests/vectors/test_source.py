"""What sources share: sizes of blocks, the SHA-256 of their files, and which of them a location is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from aml_edge.progress import SilentProgress
from aml_edge.vectors.source import HASHED_BYTES, files_sha256, rows_at_once


@pytest.mark.parametrize(("dimension", "itemsize", "rows"), [(2048, 4, 2048), (4096, 8, 512), (1 << 24, 4, 1)])
def test_a_block_is_16_mib_or_one_row(dimension: int, itemsize: int, rows: int) -> None:
    assert rows_at_once(dimension, itemsize) == rows


def test_files_are_hashed_one_after_the_other(tmp_path: Path, progress: Any) -> None:
    contents = [b"a" * (HASHED_BYTES + 3), b"", b"b" * 5]
    files = [tmp_path / str(number) for number in range(3)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert files_sha256(files, progress) == hashlib.sha256(b"".join(contents)).hexdigest()
    assert progress.announced == [("hashing, MiB", 17)]
    assert progress.done == 17


def test_a_database_has_no_hash() -> None:
    assert files_sha256([], SilentProgress()) is None
