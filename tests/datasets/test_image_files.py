"""Whether the images that a data set names are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets import image_files
from aml_edge.datasets.image_files import require_files
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem


def test_images_that_are_there_are_enough(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    require_files(tmp_path, [ImageItem(tmp_path / "a.jpg"), ImageItem(tmp_path / "a.jpg", (0, 0, 1, 1))])
    require_files(tmp_path, [])


def test_a_file_counts_once_and_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "c.jpg").mkdir()
    names = ("a.jpg", "b.jpg", "c.jpg", "b.jpg")
    with pytest.raises(DatasetError) as caught:
        require_files(tmp_path, [ImageItem(tmp_path / name) for name in names])
    assert str(caught.value) == (
        f"2 of 3 images of {tmp_path} are missing, the first is {tmp_path / 'b.jpg'}; "
        "put them there, or get the data set again."
    )


def test_many_files_of_a_folder_are_found_by_listing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed once; a file is asked for by itself only where the listing does not show it."""
    items = [ImageItem(tmp_path / folder / f"{number}.jpg") for folder in "ab" for number in range(5)]
    for item in items:
        Path(item.path).parent.mkdir(exist_ok=True)
        Path(item.path).touch()
    (tmp_path / "a" / "1.jpg").unlink()
    (tmp_path / "a" / "1.jpg").symlink_to(tmp_path / "b" / "1.jpg")
    asked: list[str] = []
    is_file = os.path.isfile

    def asking(path: str) -> bool:
        asked.append(path)
        return is_file(path)

    monkeypatch.setattr(os.path, "isfile", asking)
    require_files(tmp_path, items)
    assert asked == []
    for name in ("a/2.jpg", "b/0.jpg", "b/4.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(DatasetError, match=r"3 of 10 images of .* are missing, the first is .*a/2\.jpg; put them"):
        require_files(tmp_path, items)
    assert asked == [str(tmp_path / name) for name in ("a/2.jpg", "b/0.jpg", "b/4.jpg")]
    with pytest.raises(DatasetError, match=r"5 of 5 images of .* are missing, the first is .*nowhere/4\.jpg"):
        require_files(tmp_path, [ImageItem(tmp_path / "nowhere" / f"{number}.jpg") for number in (4, 3, 2, 1, 0)])


def test_the_first_missing_file_is_the_first_item(tmp_path: Path) -> None:
    names = ("b/1.jpg", "a/0.jpg", "b/0.jpg")
    with pytest.raises(DatasetError, match=r"3 of 3 images of .* are missing, the first is .*b/1\.jpg"):
        require_files(tmp_path, [ImageItem(tmp_path / name) for name in names])


def test_only_a_long_search_is_announced(tmp_path: Path, progress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    items = [ImageItem(tmp_path / name) for name in "abc"]
    require_files(tmp_path, items, progress=progress)
    assert progress.announced == []
    monkeypatch.setattr(image_files, "SAID_FROM", 3)
    require_files(tmp_path, items, progress=progress)
    assert (progress.announced, progress.done) == ([("looking for images", 3)], 3)
