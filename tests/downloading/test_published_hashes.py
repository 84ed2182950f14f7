"""Files with a published MD5, which some hosts give in place of a SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from aml_edge.downloading.downloads import OFFLINE_VARIABLE, Patience, RemoteFile, download, require_right
from aml_edge.downloading.published_hashes import HashDifference, difference, file_md5
from aml_edge.errors import DownloadError

CONTENT = b"hello" * 1000
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" * 32
AT_ONCE = Patience(attempts=2, timeout_s=5.0, back_off_s=0.0)


def test_the_md5_of_nothing_is_the_published_one(tmp_path: Path) -> None:
    """RFC 1321, section A.5."""
    (tmp_path / "a").touch()
    assert file_md5(tmp_path / "a") == "d41d8cd98f00b204e9800998ecf8427e"


def test_either_hash_may_differ_or_be_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    for sha256 in ("", SHA256[:7], SHA256):
        for md5 in ("", MD5):
            assert difference(path, SHA256, sha256=sha256, md5=md5) is None
        assert difference(path, SHA256, sha256=sha256, md5=WRONG) == HashDifference("MD5", MD5, WRONG)
    other = "f" if SHA256[0] != "f" else "e"
    assert difference(path, SHA256, sha256=other, md5=WRONG) == HashDifference("SHA-256", SHA256[0], other)


@pytest.fixture
def remote(faulty_server: Any, monkeypatch: pytest.MonkeyPatch) -> RemoteFile:
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    faulty_server.files["/a"] = CONTENT
    return RemoteFile((f"{faulty_server.url}/a",), md5=MD5)


def test_a_file_with_that_md5_is_taken(remote: RemoteFile, tmp_path: Path) -> None:
    download(remote, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    require_right(remote, tmp_path / "a")


def test_without_a_length_the_md5_says_whether_it_is_whole(
    remote: RemoteFile, tmp_path: Path, faulty_server: Any
) -> None:
    faulty_server.faults["/a"] = [faulty_server.fault(length="absent", cut_after=10)]
    download(remote, tmp_path / "a", patience=AT_ONCE)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(faulty_server.requests) == 2


def test_another_file_is_refused(remote: RemoteFile, tmp_path: Path, faulty_server: Any) -> None:
    faulty_server.files["/a"] = b"other"
    other = hashlib.md5(b"other").hexdigest()
    with pytest.raises(DownloadError) as refusal:
        download(remote, tmp_path / "a", patience=AT_ONCE)
    assert str(refusal.value) == (
        f"{remote.urls[0]} gives a file whose MD5 begins with {other}, but the published one begins with {MD5}; it was "
        "not kept: try again later, or find the file elsewhere."
    )
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(DownloadError) as refusal:
        download(remote, tmp_path / "a", patience=AT_ONCE)
    assert str(refusal.value) == (
        f"{tmp_path / 'a'} is damaged or another file: its MD5 begins with {other}, the published one with {MD5}; "
        "delete it and run the same command again."
    )
