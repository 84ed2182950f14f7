"""Whether the images that a data set names are there."""

from __future__ import annotations

from pathlib import Path

import pytest

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
