"""Which images arguments and standard input stand for."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, features

from aml_edge import query_images
from aml_edge.decoding import FORMATS, decode_upright_rgb
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.query_images import SIGNATURES, STANDARD_INPUT, query_items

NOTHING = io.BytesIO()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos in folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/b.png", "photos/more/a.JPG", "one [1].png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(name)
    Path("photos/notes.txt").write_text("no image")
    Path("empty").mkdir()
    return tmp_path


def written(format_name: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (10, 20, 200)).save(file, format_name)
    return file.getvalue()


def paths(*named: str, piped: bytes = b"") -> list[str]:
    return [str(item.path) for item in query_items([Path(name) for name in named], io.BytesIO(piped))]


def test_files_and_the_images_below_folders_keep_their_order(folder: Path) -> None:
    found = paths("one [1].png", "photos", "one [1].png")
    assert found == ["one [1].png", "photos/b.png", "photos/more/a.JPG", "one [1].png"]


def test_a_box_is_cut_out_of_the_only_image(folder: Path) -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    assert query_items([Path("one [1].png")], NOTHING, box=box) == (ImageItem(Path("one [1].png"), box),)
    with pytest.raises(UsageError, match="`box` is given, but 2 images ask; it is cut out of one"):
        query_items([Path("photos")], NOTHING, box=box)


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_image_is_recognised_by_its_first_bytes(format_name: str) -> None:
    if format_name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    content = written(format_name)
    (item,) = query_items([STANDARD_INPUT], io.BytesIO(content), box=(0, 0, 5, 5))
    assert (item.path, item.box, item.name) == (Path("-"), (0, 0, 5, 5), "standard input")
    assert item.read() == content
    assert decode_upright_rgb(item.read(), item.name).size == (16, 16)


def test_every_format_that_is_read_has_a_signature() -> None:
    assert list(SIGNATURES) == list(FORMATS)


def test_a_damaged_image_is_an_image_that_cannot_be_read(folder: Path) -> None:
    (item,) = query_items([STANDARD_INPUT], io.BytesIO(written("PNG")[:30]))
    assert item.path == STANDARD_INPUT


@pytest.mark.parametrize(
    "piped",
    [
        b"one [1].png\nphotos/b.png\n",
        b"one [1].png\nphotos/b.png",
        b"\none [1].png\r\n\r\nphotos/b.png\r\n",
        b"one [1].png\0photos/b.png\0",
    ],
)
def test_a_list_names_paths(folder: Path, piped: bytes) -> None:
    assert paths("-", piped=piped) == ["one [1].png", "photos/b.png"]


def test_a_list_may_name_folders_and_stand_between_files(folder: Path) -> None:
    assert paths("one [1].png", "-", piped=b"photos\n") == ["one [1].png", "photos/b.png", "photos/more/a.JPG"]


@pytest.mark.parametrize(
    "name", ["BMW.png", "P6.png", "II.png", "MM.jpg", "RIFF of WEBP.png", "abc/ftyp.png", "GIF8.png"]
)
def test_a_path_that_begins_like_an_image_is_a_path(folder: Path, name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (9, 9)).save(name)
    assert paths("-", piped=name.encode()) == [name]


@pytest.mark.parametrize("piped", [b"\x80\x81", b"a.png\x1b[2J\n", b"PK\x03\x04\0\0\0\0\xff", b"\0\0\1\0"])
def test_what_is_neither_an_image_nor_paths_is_refused(folder: Path, piped: bytes) -> None:
    with pytest.raises(UsageError) as refusal:
        paths("-", piped=piped)
    assert str(refusal.value) == (
        "standard input holds neither an image of a format that is read nor paths in UTF-8; pipe an image's file, or "
        "its path, one a line."
    )


@pytest.mark.parametrize("piped", [b"", b"\n \n", b"\0"])
def test_nothing_is_said(folder: Path, piped: bytes) -> None:
    with pytest.raises(UsageError, match="standard input is empty; pipe an image's file, or paths of images, one a"):
        paths("-", piped=piped)


def test_standard_input_is_read_once_and_has_an_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="`-` is given 2 times; standard input is read once"):
        paths("-", "-", piped=b"one [1].png")
    monkeypatch.setattr(query_images, "LARGEST_INPUT_BYTES", 1 << 20)
    assert len(paths("-", piped=b"one [1].png" + b"\n" * ((1 << 20) - 11))) == 1
    with pytest.raises(UsageError, match="standard input holds more than 1 MiB; pipe one image, or paths of images"):
        paths("-", piped=b"one [1].png" + b"\n" * (1 << 20))


def test_paths_that_lead_nowhere_are_named_a_few_of_many(folder: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        paths("one [1].png", "-", piped="".join(f"gone{number}.png\n" for number in range(7)).encode())
    assert str(refusal.value) == (
        "gone0.png, gone1.png, gone2.png, gone3.png, gone4.png, … (7 in all) do not exist; name image files, folders "
        "of them, or - for standard input."
    )


def test_paths_that_lead_nowhere_are_passed_on_where_they_are_counted(folder: Path) -> None:
    items = query_items([Path("gone.png"), Path("one [1].png")], NOTHING, absent_too=True)
    assert [str(item.path) for item in items] == ["gone.png", "one [1].png"]


def test_folders_that_hold_no_image_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"empty holds no image; files count by suffix: \.avif, \.bmp, "):
        paths("empty")
    (folder / "empty" / "a\nb.png").touch()
    with pytest.raises(DatasetError, match="a name that cannot stand in a list of ids"):
        paths("empty")
