"""Which files of a folder are images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aml_edge.datasets.folder import IMAGE_SUFFIXES, list_images
from aml_edge.errors import DatasetError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_are_listed_by_suffix_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "notes.txt", "jpg", "c/d/e.webp", "c.jpeg", "c/a.tif", "B.Jpg", "x.jpg.txt")
    assert list_images(tmp_path) == ("B.Jpg", "a.PNG", "b.jpg", "c.jpeg", "c/a.tif", "c/d/e.webp")


def test_every_format_that_is_read_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x{suffix}" for suffix in IMAGE_SUFFIXES))
    assert len(list_images(tmp_path)) == len(IMAGE_SUFFIXES)
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"} <= IMAGE_SUFFIXES


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "._a.jpg", ".jpg", ".cache/b.jpg", "c/.d/e.jpg")
    assert list_images(tmp_path) == ("a.jpg",)


def test_names_of_cameras_and_people_are_kept(tmp_path: Path) -> None:
    names = ("Bild ä (1).jpg", "Screenshot 3.14\u202fPM.png", "写真.jpg", "a\u00a0b.jpg")
    touch(tmp_path, *names)
    assert list_images(tmp_path) == tuple(sorted(names))


@pytest.mark.parametrize("name", ["two\nlines.jpg", "tab\t.jpg", "\x1b[31m.jpg", "line\u2028.jpg"])
def test_names_that_break_a_list_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.jpg", f"below/{name}")
    with pytest.raises(DatasetError) as caught:
        list_images(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds {'below/' + name!a}, a name that cannot stand in a list of ids; rename it."
    )


def test_names_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(DatasetError, match=r"holds '\\udcff\.jpg', a name that cannot stand in a list"):
        list_images(tmp_path)


def test_linked_files_count_and_linked_folders_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path, "inside/a.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "inside" / "a.jpg")
    (tmp_path / "inside" / "circle").symlink_to(tmp_path)
    assert list_images(tmp_path) == ("inside/a.jpg", "link.jpg")


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "inside/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "inside")
    assert list_images(tmp_path / "link") == ("a.jpg",)


def test_a_folder_without_images_has_none(tmp_path: Path) -> None:
    assert list_images(tmp_path) == ()


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for root, kind in ((tmp_path / "a.jpg", DatasetError), (tmp_path / "nothing", UsageError)):
        with pytest.raises(kind) as caught:
            list_images(root)
        assert str(caught.value) == f"{root} is no folder; give the folder that holds the images."


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def forbidden(path: str) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", forbidden)
    with pytest.raises(DatasetError) as caught:
        list_images(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'secret'} cannot be read: Permission denied."
