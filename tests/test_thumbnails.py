"""Small pictures against Pillow's own reading of them, and ids that lead elsewhere."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_edge.errors import ImageError
from aml_edge.image_loading import ImageItem
from aml_edge.query_images import PipedImage
from aml_edge.thumbnails import Thumbnail, picture_file, thumbnail_of


def opened(thumbnail: Thumbnail) -> Image.Image:
    kind, _, content = thumbnail.data_uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_a_large_picture_is_reduced_to_its_longest_side(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 800), (200, 30, 90)).save(tmp_path / "a.png")
    thumbnail = thumbnail_of(ImageItem(tmp_path / "a.png", (5, 5, 10, 10)))
    assert (thumbnail.width_px, thumbnail.height_px) == (320, 160)
    assert (thumbnail.full_width_px, thumbnail.full_height_px) == (1600, 800)
    small = opened(thumbnail)
    assert small.size == (320, 160)
    assert np.abs(np.asarray(small.convert("RGB"), int) - (200, 30, 90)).max() <= 3  # JPEG


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    Image.new("L", (30, 20), 90).save(tmp_path / "a.png")
    assert opened(thumbnail_of(ImageItem(tmp_path / "a.png"))).size == (30, 20)


def test_it_is_upright_and_carries_no_metadata(tmp_path: Path) -> None:
    lying = Image.new("RGB", (40, 20), (0, 0, 0))
    lying.paste((255, 255, 255), (0, 0, 20, 20))  # the left half, which is the top once it is turned
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    exif[0x010E] = "where I live"
    lying.save(tmp_path / "a.jpg", exif=exif, comment=b"where I live", quality=95)
    thumbnail = thumbnail_of(ImageItem(tmp_path / "a.jpg"))
    assert (thumbnail.full_width_px, thumbnail.full_height_px) == (20, 40)
    small = opened(thumbnail)
    assert np.asarray(small.convert("L"))[5, 10] > 200 > 50 > np.asarray(small.convert("L"))[35, 10]
    assert not small.getexif()
    assert "comment" not in small.info
    assert b"where I live" not in base64.b64decode(thumbnail.data_uri.partition(",")[2])


def test_a_piped_image_has_one_too(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    assert thumbnail_of(ImageItem(Path("-"), stored=PipedImage(file.getvalue()))).full_width_px == 30


def test_what_is_no_image_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ImageError, match="it is no image, or of a format that is not read"):
        thumbnail_of(ImageItem(tmp_path / "a.png"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with an image, beside a secret one."""
    for name in ("images/jpg/a.png", "images/odd name's.png", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["jpg/a.png", "jpg/./a.png", "odd name's.png"])
def test_an_id_leads_to_its_file(root: Path, name: str) -> None:
    assert picture_file(root, name) == root / name


def test_the_folder_itself_may_be_linked(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert picture_file(tmp_path / "link", "jpg/a.png") == tmp_path / "link/jpg/a.png"


@pytest.mark.parametrize(
    "name", ["../secret.png", "jpg/../../secret.png", "/etc/passwd", "..", "", "C:\\secret.png", "a\x00.png", "a\nb"]
)
def test_no_id_leads_out_of_the_folder(root: Path, name: str) -> None:
    with pytest.raises(ImageError) as refusal:
        picture_file(root, name)
    assert refusal.value.failures == ((name, "its id is no path inside the folder of images"),)


def test_no_absolute_id_of_an_image_that_is_there_leads_anywhere(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="its id is no path inside"):
        picture_file(root, str(tmp_path / "secret.png"))


def test_a_linked_file_is_taken_and_a_linked_folder_is_not(root: Path, tmp_path: Path) -> None:
    """As where an index of a folder is built."""
    (root / "linked.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    assert picture_file(root, "linked.png") == root / "linked.png"
    with pytest.raises(ImageError, match="it lies in a linked folder"):
        picture_file(root, "out/secret.png")


def test_what_is_no_file_is_not_read(root: Path) -> None:
    os.mkfifo(root / "pipe.png")  # whoever opens it waits for ever
    for name in ("gone.png", "jpg", "pipe.png", "jpg/a.png/b.png"):
        with pytest.raises(ImageError, match="there is no such file"):
            picture_file(root, name)
    with pytest.raises(ImageError, match="File name too long"):
        picture_file(root, "x" * 5000)
