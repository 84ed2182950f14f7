"""`data download` as a person meets it, over a web server on this machine."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets import published
from aml_edge.datasets.published import PUBLISHED, PublishedDataset
from aml_edge.downloading.downloads import OFFLINE_VARIABLE

BIRDS = {
    "CUB_200_2011/images.txt": b"1 001.A/a.jpg\n2 001.A/b.jpg\n3 200.B/c.jpg\n4 200.B/d.jpg\n",
    "CUB_200_2011/image_class_labels.txt": b"1 1\n2 1\n3 200\n4 200\n",
    **{f"CUB_200_2011/images/{name}.jpg": b"photo" for name in ("001.A/a", "001.A/b", "200.B/c", "200.B/d")},
}
TERMS = (
    "terms: The photographs come from Flickr and belong to those who took them; the page says what they may be used "
    "for. See https://www.vision.caltech.edu/datasets/cub_200_2011/"
)


@pytest.fixture(scope="module")
def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in BIRDS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def birds(archive: bytes, faulty_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PublishedDataset:
    """A small cub200 at the server's, without a hash, in the catalogue's place."""
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    faulty_server.files["/CUB_200_2011.tgz"] = archive
    (file,) = PUBLISHED["cub200"].files
    url = f"{faulty_server.url}/CUB_200_2011.tgz"
    small = replace(PUBLISHED["cub200"], files=(replace(file, url=url, size_bytes=len(archive), md5=""),))
    monkeypatch.setattr(published, "PUBLISHED", {"cub200": small})
    return small


class Terminal(io.StringIO):
    """Somebody who types an answer."""

    def isatty(self) -> bool:
        return True


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_the_list_says_how_large_each_is(command_line: Callable[..., Any]) -> None:
    ended = command_line("data", "download", "--list")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split() for line in lines(ended.out)]
    assert [row[0] for row in rows[1:] if row[0] in PUBLISHED] == list(PUBLISHED)
    assert rows[1][:5] == ["roxford5k", "about", "1.9", "GB", "2"]
    assert rows[2][:6] == ["rparis6k", "more", "than", "1.3", "GB", "3"]
    assert command_line("data", "download").out == ended.out


def test_the_list_fits_a_narrow_terminal(command_line: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = lines(command_line("data", "download", "--list").out)
    assert max(map(len, said)) <= 80
    assert [line.split()[0] for line in said if line[0] != " "] == ["name", *PUBLISHED]


def test_the_list_as_json(command_line: Callable[..., Any], tmp_path: Path) -> None:
    command_line("data", "download", "--list", "--json", tmp_path / "list.json")
    listed = json.loads((tmp_path / "list.json").read_text())
    assert [one["name"] for one in listed] == list(PUBLISHED)
    assert len(listed[2]["files"]) == 101


def test_a_dry_run_lists_addresses_sizes_and_terms_and_asks_for_nothing(
    command_line: Callable[..., Any], birds: PublishedDataset, faulty_server: Any, tmp_path: Path
) -> None:
    ended = command_line("data", "download", "cub200", "--dry-run", "--json", "plan.json")
    assert (ended.code, ended.err) == (0, "")
    said = lines(ended.out)
    assert said[0] == "cub200  CUB-200-2011: 11788 images of 200 kinds of birds"
    assert said[1] == "CUB_200_2011.tgz: about 0.0 MB, hash recorded on first use"
    assert said[2] == f"  {birds.files[0].url}"
    assert said[3].startswith("in all: about 0.0 MB; ")
    assert said[3].endswith(" GB free")
    assert said[4:] == [TERMS]
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["path"], plan["files"][0]["url"]) == ("data/cub200", birds.files[0].url)
    assert faulty_server.requests == []
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json"}


def test_a_dry_run_of_many_archives_is_short(command_line: Callable[..., Any], tmp_path: Path) -> None:
    ended = command_line("data", "download", "gldv2-retrieval", "--dry-run", "--out", tmp_path)
    assert [line for line in lines(ended.out) if "images_" in line] == [
        "test/images_000.tar … test/images_019.tar (20 files): about 500.0 MB each, hash published",
        "  https://s3.amazonaws.com/google-landmark/test/images_000.tar",
        "index/images_000.tar … index/images_099.tar (100 files): about 850.0 MB each, hash published",
        "  https://s3.amazonaws.com/google-landmark/index/images_000.tar",
    ]
    assert "in all: about 95.0 GB and 2 files of unknown size; " in ended.out


def test_what_must_be_fetched_by_hand_is_marked(command_line: Callable[..., Any]) -> None:
    ended = command_line("data", "download", "instre", "--dry-run")
    assert "  ftp://ftp.irisa.fr/local/texmex/corpus/instre/instre.tar.gz (by hand)\n" in ended.out


def test_it_is_fetched_with_yes_and_there_a_second_time(
    command_line: Callable[..., Any], birds: PublishedDataset, faulty_server: Any, tmp_path: Path
) -> None:
    ended = command_line("data", "download", "cub200", "--yes", "--json", "report.json")
    assert (ended.code, ended.err) == (0, "")
    said = lines(ended.out)
    assert TERMS in said
    assert said[-2:] == [
        "CUB-200-2011: 2 queries, 2 database images, 2 images 'train'",
        "cub200  data/cub200",
    ]
    assert (tmp_path / "data" / "cub200" / "images" / "001.A" / "a.jpg").read_bytes() == b"photo"
    assert not list((tmp_path / "data").rglob("*.tgz"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["new"], report["holds"]["database"], list(report["files"])) == (True, 2, ["CUB_200_2011.tgz"])
    again = command_line("data", "download", "cub200")
    assert (again.code, lines(again.out)) == (0, ["data/cub200 is there already"])
    assert len(faulty_server.requests) == 1
    assert TERMS in lines(command_line("data", "download", "cub200", "--dry-run").out)
    info = command_line("data", "info", "data/cub200")
    assert info.code == 0
    assert "CUB-200-2011" in info.out


def test_without_a_terminal_and_yes_nothing_is_fetched(
    command_line: Callable[..., Any], birds: PublishedDataset, faulty_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    ended = command_line("data", "download", "cub200")
    assert ended.code == 2
    assert TERMS in lines(ended.out)
    assert ended.err == "error: cub200 is not fetched unasked, and there is no terminal to ask at; pass --yes.\n"
    assert faulty_server.requests == []


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yesterday\n"])
def test_whoever_declines_gets_nothing(
    command_line: Callable[..., Any],
    birds: PublishedDataset,
    faulty_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    ended = command_line("data", "download", "cub200")
    assert (ended.code, ended.err) == (1, "")
    assert lines(ended.out)[-1] == "Download cub200, under these terms? [y/N] nothing was fetched"
    assert faulty_server.requests == []


@pytest.mark.parametrize("answer", ["y\n", " YES \n"])
def test_whoever_agrees_gets_it(
    command_line: Callable[..., Any], birds: PublishedDataset, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert command_line("data", "download", "cub200").code == 0
    assert Path("data/cub200/downloaded.json").is_file()


def test_by_hand(
    command_line: Callable[..., Any], birds: PublishedDataset, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("hand").mkdir()
    missing = command_line("data", "download", "cub200", "--from", "hand", "--out", "sets")
    assert missing.code == 2
    assert missing.err == (
        "error: `from` is hand, which lacks 1 of 1 files of cub200; fetch CUB_200_2011.tgz "
        f"({birds.files[0].url}) and put them there.\n"
    )
    Path("hand/CUB_200_2011.tgz").write_bytes(archive)
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    ended = command_line("data", "download", "cub200", "--from", "hand", "--out", "sets")
    assert ended.code == 0
    assert "Unpack cub200, under these terms? [y/N] " in ended.out
    assert Path("sets/cub200/images.txt").is_file()
    assert Path("hand/CUB_200_2011.tgz").read_bytes() == archive


def test_archives_are_kept_on_request(command_line: Callable[..., Any], birds: PublishedDataset) -> None:
    command_line("data", "download", "cub200", "--yes", "--keep-archives")
    assert Path("data/cub200.archives/CUB_200_2011.tgz").is_file()


def test_a_hash_can_be_given(command_line: Callable[..., Any], birds: PublishedDataset) -> None:
    ended = command_line("data", "download", "cub200", "--yes", "--sha256", "CUB_200_2011.tgz=" + "0" * 64)
    assert ended.code == 1
    assert f"but the published one begins with {'0' * 64}; it was not kept" in ended.err


@pytest.mark.parametrize("given", ["CUB_200_2011.tgz", "=00000000", "a=0000", "a=xyzxyzxyz", "a=" + "0" * 65])
def test_what_is_no_hash_is_refused(
    command_line: Callable[..., Any], birds: PublishedDataset, faulty_server: Any, given: str
) -> None:
    ended = command_line("data", "download", "cub200", "--yes", "--sha256", given)
    assert ended.code == 2
    assert ended.err == f"error: `sha256` is {given!r}; it must be FILE=HEX, 7 to 64 hex digits.\n"
    assert faulty_server.requests == []


def test_an_unknown_name_is_one_line(command_line: Callable[..., Any]) -> None:
    ended = command_line("data", "download", "roxford")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: `name` is 'roxford'; published data sets are: roxford5k, ")


def test_too_little_room_is_said_before_anybody_is_asked(
    command_line: Callable[..., Any], birds: PublishedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aml_edge.datasets.fetching.free_bytes", lambda out: 10)
    ended = command_line("data", "download", "cub200")
    assert ended.code == 1
    assert ended.err.startswith("error: cub200 needs about 0.0 MB, but data has 0.0 MB free; ")


def test_a_hostile_archive_is_one_line(
    command_line: Callable[..., Any], birds: PublishedDataset, faulty_server: Any
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("CUB_200_2011/images")
        link.type, link.linkname = tarfile.SYMTYPE, "/"
        tar.addfile(link)
    faulty_server.files["/CUB_200_2011.tgz"] = buffer.getvalue()
    ended = command_line("data", "download", "cub200", "--yes")
    assert ended.code == 1
    assert ended.err == (
        "error: data/cub200.archives/CUB_200_2011.tgz: member 'CUB_200_2011/images' is a symbolic link; only files and "
        "folders are extracted; nothing of the archive was kept. Do not trust it; get it again from where it was "
        "published.\n"
    )
    assert not Path("data/cub200").exists()
