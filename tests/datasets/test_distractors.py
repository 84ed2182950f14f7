"""R1M: a list of images beside `jpg/`, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.distractors import read_distractors
from aml_edge.errors import DatasetError
from aml_edge.image_loading import ImageItem


def test_the_list_is_read(distractors: Path) -> None:
    (split,) = read_distractors(distractors)
    ids = ("jpg/00/0a1b.jpg", "jpg/00/0c2d.jpg", "jpg/ff/1e2f.jpg")
    assert (split.name, split.images.ids, split.images.labels) == ("distractors", ids, None)
    assert tuple(split.images.items) == tuple(ImageItem(distractors / one) for one in ids)


def test_a_name_without_suffix_is_one_of_a_jpeg_file(distractors: Path) -> None:
    (distractors / "revisitop1m.txt").write_text("00/0a1b\n00/v1.5\n00/c.PNG\n")
    (split,) = read_distractors(distractors)
    assert split.images.ids == ("jpg/00/0a1b.jpg", "jpg/00/v1.5.jpg", "jpg/00/c.PNG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", " names no images; get it again."),
        (
            b"a.jpg\n../b.jpg\n",
            ": line 2 names an image '../b.jpg', which cannot be the name of a file in the data set.",
        ),
        (b"/etc/a.jpg\n", ": line 1 names an image '/etc/a.jpg', which cannot be the name of a file in the data set."),
        (b"a\0b\n", ": line 1 names an image 'a\\x00b', which cannot be the name of a file in the data set."),
        (b"a\nb\na.jpg\n", " names 'jpg/a.jpg' 2 times; each image is listed once."),
        (b"\xff\n", ": line 1 is not UTF-8; get the file again."),
    ],
)
def test_broken_lists_are_refused(distractors: Path, content: bytes, said: str) -> None:
    path = distractors / "revisitop1m.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_distractors(distractors)
    assert str(caught.value) == f"{path}{said}"
