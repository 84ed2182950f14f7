"""Blocks of rows are what is stored, whatever it is stored as, and mapped pages do not add up."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.row_reading import as_float32, fetch_pages, readable_tensor, release_pages, row_blocks

ROWS = np.random.default_rng(0).normal(size=(11, 6)).astype(np.float32)


@pytest.fixture(params=["float32", "float16", "float64"])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> npt.NDArray[np.floating]:
    np.save(tmp_path / "rows.npy", ROWS.astype(request.param))
    rows: npt.NDArray[np.floating] = np.load(tmp_path / "rows.npy", mmap_mode="r")
    return rows


@pytest.mark.parametrize("block_rows", [1, 4, 11, 20])
def test_blocks_are_the_rows(mapped: npt.NDArray[np.floating], block_rows: int) -> None:
    for database in (mapped, np.array(mapped)):
        starts = []
        for start, block in row_blocks(database, block_rows):
            starts.append(start)
            assert block.dtype == np.float32
            np.testing.assert_array_equal(block, database[start : start + block_rows].astype(np.float32))
        assert starts == list(range(0, 11, block_rows))


def test_only_the_blocks_that_are_wanted_are_read(mapped: npt.NDArray[np.floating]) -> None:
    found = {start: block.copy() for start, block in row_blocks(mapped, 4, [0, 8])}
    assert list(found) == [0, 8]
    np.testing.assert_array_equal(found[8], mapped[8:].astype(np.float32))
    assert list(row_blocks(mapped, 4, [])) == []


def test_float32_is_not_copied() -> None:
    buffer = np.zeros((11, 6), np.float32)
    assert as_float32(ROWS, buffer) is ROWS
    half = as_float32(ROWS.astype(np.float16)[2:5], buffer)
    assert np.shares_memory(half, buffer)
    np.testing.assert_array_equal(half, ROWS[2:5].astype(np.float16).astype(np.float32))
    every_second = as_float32(ROWS.astype(np.float16)[:, ::2], np.zeros((11, 3), np.float32))
    np.testing.assert_array_equal(every_second, ROWS[:, ::2].astype(np.float16).astype(np.float32))


def test_a_mapped_file_is_read_by_pytorch_without_a_copy_or_a_warning(mapped: npt.NDArray[np.floating]) -> None:
    tensor = readable_tensor(mapped[3:7])
    assert tensor.data_ptr() == mapped[3:7].ctypes.data
    assert torch.equal(tensor, torch.from_numpy(np.array(mapped[3:7])))


def resident_kib() -> int:
    found = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what is resident")
def test_pages_of_a_mapped_file_are_given_back(tmp_path: Path) -> None:
    rows = np.ones((4096, 4096), np.float32)  # 64 MiB
    np.save(tmp_path / "large.npy", rows)
    mapped, before = np.load(tmp_path / "large.npy", mmap_mode="r"), resident_kib()
    fetch_pages(mapped)
    assert resident_kib() - before > 60 << 10
    release_pages(mapped[:2048])
    assert resident_kib() - before < 40 << 10
    release_pages(mapped)
    assert mapped.sum(dtype=np.float64) == 4096 * 4096  # and is read again where it is wanted
    release_pages(mapped)
    for _, block in row_blocks(mapped, 128):
        assert block[0, 0] == 1
        assert resident_kib() - before < 16 << 10


def test_what_can_be_written_to_is_not_given_back(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    private = np.load(tmp_path / "rows.npy", mmap_mode="c")
    private[3] = 7
    release_pages(private)
    assert (private[3] == 7).all()
    for rows in (ROWS, ROWS[:0]):
        release_pages(rows)
        fetch_pages(rows)
