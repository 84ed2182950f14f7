"""Where released files are looked for, and in which order."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from aml_edge.errors import DownloadError
from aml_edge.networks import released_files
from aml_edge.networks.released_cache import CACHE_VARIABLE, cache_folder, cached, fetched
from aml_edge.networks.released_files import ReleasedFile, released_student
from aml_edge.progress import SilentProgress

CONTENT = b"PK\x03\x04 weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()[:7]
SILENT = SilentProgress()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_folder_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AML_EDGE_CACHE", "somewhere/else")
    assert cache_folder() == Path("somewhere/else")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("AML_EDGE_CACHE", "~/models")
    assert cache_folder() == Path("/home/me/models")


@pytest.mark.parametrize(
    ("xdg", "folder"), [("/x/cache", "/x/cache/aml-edge"), ("", "/home/me/.cache/aml-edge"), (None, None)]
)
def test_else_it_is_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, xdg: str | None, folder: str | None) -> None:
    monkeypatch.setenv("AML_EDGE_CACHE", "")
    monkeypatch.setenv("HOME", "/home/me")
    if xdg is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_folder() == Path(folder or "/home/me/.cache/aml-edge")


def test_a_file_is_downloaded_once_and_found_afterwards(faulty_server: Any, cache: Path) -> None:
    faulty_server.files["/a.pth"] = CONTENT
    file = ReleasedFile(("a.pth",), (f"{faulty_server.url}/a.pth",), SHA256)
    assert cached(file) is None
    assert fetched(file, SILENT) == fetched(file, SILENT) == cached(file) == cache / "a.pth"
    assert (cache / "a.pth").read_bytes() == CONTENT
    assert len(faulty_server.requests) == 1


def test_a_file_put_into_the_cache_by_hand_is_taken(cache: Path) -> None:
    cache.mkdir()
    (cache / "a.pth").write_bytes(CONTENT)
    file = ReleasedFile(("a.pth",), ("http://127.0.0.1:9/a.pth",), SHA256)
    assert fetched(file, SILENT) == cache / "a.pth"


def test_a_damaged_file_in_the_cache_is_refused_and_not_replaced(cache: Path) -> None:
    cache.mkdir()
    (cache / "a.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match=r"a\.pth is damaged or another file"):
        fetched(ReleasedFile(("a.pth",), ("http://127.0.0.1:9/a.pth",), SHA256), SILENT)


@pytest.mark.parametrize("served", ["efficientnet_b3_gem_reg_vgg16.pth.tar", "efficientnet_b3_gem_reg_vgg16.pthaa.tar"])
def test_the_student_with_the_slip_in_its_address_is_found_under_either(
    faulty_server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, served: str
) -> None:
    monkeypatch.setattr(released_files, "STUDENTS_URL", f"{faulty_server.url}/aml")
    faulty_server.files[f"/aml/{served}"] = CONTENT
    path = fetched(released_student("efficientnet-b3-reg-vgg16").file, SILENT)
    assert path == cache / "efficientnet_b3_gem_reg_vgg16.pth.tar"
    assert path.read_bytes() == CONTENT
    assert faulty_server.requests[-1][0] == f"/aml/{served}"


def test_the_student_with_the_slip_may_lie_in_the_cache_under_either(cache: Path) -> None:
    cache.mkdir()
    (cache / "efficientnet_b3_gem_reg_vgg16.pthaa.tar").write_bytes(CONTENT)
    file = released_student("efficientnet-b3-reg-vgg16").file
    assert cached(file) == cache / "efficientnet_b3_gem_reg_vgg16.pthaa.tar"
