"""Which bytes an index's images had: the file is sha256sum's, and images are compared with it by name."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml_edge.errors import ImageBatchError, TeacherIndexError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.index.images import compare_images, encode_image_hashes, read_image_hashes, require_same_images
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

NAMES = ("a.jpg", "sub/größer, 1.jpg", "back\\slash.png", "re\rturn.png", " space .png", "last.png", "z.png")
NEXT_STEP = "; copy the index again, or build it again: `aml-edge index build`."


def content(name: str) -> bytes:
    return f"bytes of {name}".encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(name))
    return tmp_path / "images"


@pytest.fixture
def index(tmp_path: Path) -> TeacherIndex:
    """An index of the images, of which only what is asked of it here is written."""
    written = encode_image_hashes(NAMES, [hashlib.sha256(content(name)).hexdigest() for name in NAMES])
    (tmp_path / "ix").mkdir()
    (tmp_path / "ix" / "images.sha256").write_bytes(written)
    rows = np.eye(len(NAMES), 8, dtype=np.float32)
    space = EmbeddingSpace("toy", "0" * 64, 8)
    sha256 = hashlib.sha256(written).hexdigest()
    return TeacherIndex(tmp_path / "ix", space, Preprocessing(), NAMES, rows, None, images_sha256=sha256)


def items(folder: Path, names: tuple[str, ...] = NAMES) -> list[ImageItem]:
    return [ImageItem(folder / name) for name in names]


def test_each_image_has_the_line_that_the_format_says() -> None:
    """By hand, from the documentation of sha256sum: an escaped name's line begins with a backslash."""
    assert encode_image_hashes(["a b", "c\\d", "e\nf", "g\rh"], ["1" * 64, "2" * 64, "3" * 64, "4" * 64]) == (
        b"%b  a b\n\\%b  c\\\\d\n\\%b  e\\nf\n\\%b  g\\rh\n" % (b"1" * 64, b"2" * 64, b"3" * 64, b"4" * 64)
    )


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not there")
def test_sha256sum_checks_the_images_and_finds_the_changed_one(folder: Path, index: TeacherIndex) -> None:
    names = tuple(name for name in NAMES if "\r" not in name)  # which only newer ones escape
    hashes = dict(zip(NAMES, read_image_hashes(index) or (), strict=True))
    listing = encode_image_hashes(names, [hashes[name] for name in names])
    command = ["sha256sum", "--check", "--strict", "-"]
    assert subprocess.run(command, cwd=folder, input=listing, capture_output=True).returncode == 0
    (folder / "back\\slash.png").write_bytes(b"other")
    done = subprocess.run(command, cwd=folder, input=listing, capture_output=True, text=False)
    assert done.returncode == 1
    assert b"back\\slash.png: FAILED" in done.stdout.replace(b"\\\\", b"\\")


def test_hashes_come_back_in_row_order(index: TeacherIndex) -> None:
    assert read_image_hashes(index) == tuple(hashlib.sha256(content(name)).hexdigest() for name in NAMES)


def test_an_older_index_says_nothing_of_its_images(folder: Path, index: TeacherIndex, progress: Any) -> None:
    older = replace(index, images_sha256=None)
    assert read_image_hashes(older) is None
    (folder / "a.jpg").write_bytes(b"other")
    require_same_images(older, NAMES, items(folder), progress=progress)
    assert progress.announced == []


def other_bytes(file: Path) -> str:
    file.write_bytes(file.read_bytes().replace(b"a.jpg", b"b.jpg"))
    return "is not the one that index.json was written for (another SHA-256)"


def gone(file: Path) -> str:
    file.unlink()
    return f"cannot be read: [Errno 2] No such file or directory: '{file}'"


@pytest.mark.parametrize("damage", [other_bytes, gone])
def test_a_damaged_file_is_named(index: TeacherIndex, damage: Callable[[Path], str]) -> None:
    file = index.path / "images.sha256"
    what = damage(file)
    with pytest.raises(TeacherIndexError) as caught:
        read_image_hashes(index)
    assert str(caught.value) == f"{file} {what}{NEXT_STEP}"


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"\xff" * 70 + b"\n",
        encode_image_hashes(NAMES[:-1], ["0" * 64] * (len(NAMES) - 1)),
        encode_image_hashes(NAMES[::-1], ["0" * 64] * len(NAMES)),
        encode_image_hashes(NAMES, ["0" * 64] * len(NAMES))[:-1],
        encode_image_hashes(NAMES, ["0" * 63] * len(NAMES)),
        encode_image_hashes(NAMES, ["0" * 64] * len(NAMES)).replace(b"\\\\", b"\\"),
    ],
)
def test_a_file_that_contradicts_the_ids_is_refused(index: TeacherIndex, written: bytes) -> None:
    """The record vouches for it, so whoever wrote both was wrong."""
    file = index.path / "images.sha256"
    file.write_bytes(written)
    with pytest.raises(TeacherIndexError) as caught:
        read_image_hashes(replace(index, images_sha256=hashlib.sha256(written).hexdigest()))
    assert str(caught.value) == f"{file} does not have a line for each id, in their order{NEXT_STEP}"


def test_the_same_images_in_any_order_are_taken(folder: Path, index: TeacherIndex, progress: Any) -> None:
    some = NAMES[4:1:-1]
    require_same_images(index, some, items(folder, some), progress=progress)
    assert (progress.announced, progress.done) == ([("checking images", 3)], 3)


def test_an_image_with_other_bytes_is_refused_by_name(folder: Path, index: TeacherIndex) -> None:
    (folder / "last.png").write_bytes(content("last.png")[:-1] + b"?")  # of the same length
    (folder / "z.png").write_bytes(b"not asked about")
    with pytest.raises(TeacherIndexError) as caught:
        require_same_images(index, NAMES[:-1], items(folder, NAMES[:-1]))
    assert str(caught.value) == (
        f"the index {index.path} was built from other images: 1 of 6 have other bytes now (last.png); "
        "build it again from these, or give those that it was built from."
    )


def test_of_many_changed_images_five_are_named(folder: Path, index: TeacherIndex) -> None:
    for name in NAMES[:6]:
        (folder / name).write_bytes(b"other")
    with pytest.raises(TeacherIndexError) as caught:
        require_same_images(index, NAMES, items(folder))
    assert f"6 of 7 have other bytes now ({', '.join(NAMES[:5])}, …); build" in str(caught.value)


def test_exchanged_images_are_both_other_ones(folder: Path, index: TeacherIndex) -> None:
    (folder / "a.jpg").write_bytes(content("z.png"))
    (folder / "z.png").write_bytes(content("a.jpg"))
    hashes = read_image_hashes(index)
    assert hashes is not None
    assert compare_images(NAMES, items(folder), hashes).different == ("a.jpg", "z.png")


def test_images_that_cannot_be_read_are_all_listed(folder: Path, index: TeacherIndex) -> None:
    (folder / "a.jpg").unlink()
    (folder / "z.png").unlink()
    (folder / "z.png").mkdir()
    (folder / "last.png").write_bytes(b"other")
    with pytest.raises(ImageBatchError) as caught:
        require_same_images(index, NAMES, items(folder))
    assert caught.value.failures == (
        (folder / "a.jpg", "there is no such file"),
        (folder / "z.png", "Is a directory"),
    )
    assert caught.value.total == 7


def test_images_that_the_index_lacks_are_refused_before_any_is_read(
    folder: Path, index: TeacherIndex, progress: Any
) -> None:
    with pytest.raises(TeacherIndexError, match=rf"index {index.path} lacks 1 of 2 images \(new\.png\)"):
        require_same_images(index, ("a.jpg", "new.png"), items(folder, ("a.jpg", "new.png")), progress=progress)
    assert progress.announced == []
