"""Items that are made when they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.file_items import FileItems
from aml_edge.image_loading import ImageItem


def test_they_are_the_images_below_a_folder() -> None:
    root, ids = Path("data"), ("a/1.jpg", "a/2.jpg", "b/3.jpg")
    items, expected = FileItems(root, ids), tuple(ImageItem(root / one) for one in ids)
    assert (len(items), tuple(items), items[-1]) == (3, expected, expected[2])
    assert (items[1:], items[::-2], items[5:]) == (expected[1:], expected[::-2], ())
    with pytest.raises(IndexError):
        items[3]
