"""What a download leaves: the right file with its record, or nothing; and what it says."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import pytest

from aml_edge.errors import DownloadError


def test_a_file_comes_whole_with_a_record_and_nothing_else_is_left(case: Any) -> None:
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.left == {"a.bin", "a.bin.json"}
    record = json.loads((case.to.parent / "a.bin.json").read_text())
    assert record.pop("date")[:2] == "20"
    assert record == {"url": case.url, "size_bytes": len(case.content), "sha256": case.sha256}
    assert case.server.ranges(case.path) == [None]


def test_what_comes_is_said_before_it_comes(case: Any) -> None:
    case.fetch(case.sha256)
    assert case.listener.lines == [
        f"downloading a.bin to {case.to.parent}",
        f"from {case.url}: 0.3 MB",
    ]
    assert case.listener.tasks == [[300, 300]]


def test_the_hash_is_said_where_none_is_published(case: Any) -> None:
    case.fetch()
    assert case.listener.lines[-1] == f"no hash of a.bin is published; its SHA-256 is {case.sha256}"


def test_a_file_that_is_there_is_not_asked_for_again(case: Any) -> None:
    case.fetch(case.sha256)
    case.fetch(case.sha256)
    assert len(case.server.requests) == 1


def test_a_file_put_there_by_hand_is_taken_where_its_hash_is_right(case: Any) -> None:
    case.to.parent.mkdir()
    case.to.write_bytes(case.content)
    case.fetch(case.sha256[:7])
    assert (case.server.requests, case.left) == ([], {"a.bin"})


def test_a_file_that_is_there_and_wrong_is_refused_and_left_alone(case: Any) -> None:
    case.to.parent.mkdir()
    case.to.write_bytes(case.other)
    with pytest.raises(DownloadError) as refusal:
        case.fetch(case.sha256[:7])
    assert str(refusal.value) == (
        f"{case.to} is damaged or another file: its SHA-256 begins with {case.other_sha256[:7]}, the "
        f"published one with {case.sha256[:7]}; delete it and run the same command again."
    )
    assert case.to.read_bytes() == case.other


def test_a_file_that_changed_after_its_download_is_refused(case: Any) -> None:
    case.fetch()
    case.to.write_bytes(case.other)
    with pytest.raises(
        DownloadError, match=rf"a\.bin has changed since it was downloaded on 20.*{case.sha256}; delete it"
    ):
        case.fetch()


def test_a_length_too_short_is_found_by_the_hash(case: Any, fault: Any) -> None:
    fault({"length": 299_999})
    said = case.refusal(case.sha256[:7])
    cut = hashlib.sha256(case.content[:-1]).hexdigest()
    assert said == (
        f"{case.url} gives a file whose SHA-256 begins with {cut[:7]}, but the published one begins with "
        f"{case.sha256[:7]}; it was not kept: try again later, or find the file elsewhere."
    )
    assert case.left == set()


def test_without_a_length_the_hash_says_whether_it_is_whole(case: Any, fault: Any) -> None:
    fault({"length": "absent"})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.listener.lines[1].endswith(f"{case.path}: length unknown")


def test_without_length_and_hash_nobody_can_tell(case: Any, fault: Any) -> None:
    fault({"length": "absent"})
    assert case.refusal() == (
        f"{case.url} does not say how long the file is, and no hash of it is known, so nobody can tell "
        f"whether it came whole; fetch it by hand and put it at {case.to}."
    )
    assert case.left == set()


def test_chunks_have_an_end_of_their_own(case: Any, fault: Any) -> None:
    fault({"chunked": True, "cut_after": 100_000}, {"chunked": True})
    case.fetch()
    assert case.to.read_bytes() == case.content


def test_a_wrong_file_is_refused_and_not_kept(case: Any) -> None:
    wanted = case.wrong + case.sha256[1:]
    said = case.refusal(wanted)
    assert f"SHA-256 begins with {case.sha256}, but the published one begins with {wanted}; it was not kept" in said
    assert case.left == set()


def test_another_file_than_the_first_time_is_refused_until_the_record_is_deleted(case: Any) -> None:
    case.fetch()
    case.to.unlink()
    case.server.files[case.path] = case.other
    said = case.refusal()
    record = case.to.parent / "a.bin.json"
    date = json.loads(record.read_text())["date"]
    assert said == (
        f"{case.url} gives another file than on {date}: its SHA-256 is "
        f"{case.other_sha256}, then it was {case.sha256}; it was not kept: if that is as it should be, "
        f"delete {record} and run the same command again."
    )
    assert case.left == {"a.bin.json"}
    record.unlink()
    case.fetch()
    assert case.to.read_bytes() == case.other


def test_the_same_file_again_keeps_the_first_record(case: Any) -> None:
    case.fetch()
    record = case.to.parent / "a.bin.json"
    first = json.loads(record.read_text()) | {"date": "2001-01-01"}
    record.write_text(json.dumps(first))
    case.to.unlink()
    case.fetch()
    assert json.loads(record.read_text()) == first


def test_something_else_than_a_file_of_its_kind_is_refused_and_not_kept(case: Any) -> None:
    """As a page that calls itself a file; where no hash is published, nothing else would tell."""
    assert case.refusal(beginnings=(b"PK", b"\x80!")) == (
        f"{case.url} gives something else than a.bin, which would begin in another way; it was not kept: "
        f"see what is at that address, or find the file elsewhere and put it at {case.to}."
    )
    assert case.left == set()
    case.fetch(beginnings=(b"PK", case.content[:3]))
    with pytest.raises(DownloadError) as refusal:
        case.fetch(beginnings=(b"PK",))
    assert str(refusal.value) == f"{case.to} is no file of its kind; delete it and run the same command again."


def test_an_empty_file_can_be_right(case: Any) -> None:
    case.server.files[case.path] = b""
    case.fetch(hashlib.sha256(b"").hexdigest())
    assert case.to.read_bytes() == b""


def test_two_at_once_fetch_it_once(case: Any, fault: Any) -> None:
    """The first one is held up in the middle of its answer; the second one waits and asks for nothing."""
    second = case.another()
    other = threading.Thread(target=second.fetch, args=(case.sha256,))
    fault({"meanwhile": other.start, "pause_s": 0.2})
    case.fetch(case.sha256)
    other.join()
    assert second.listener.lines == ["another process downloads a.bin; waiting for it"]
    assert (len(case.server.requests), case.left) == (1, {"a.bin", "a.bin.json"})


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"url": "u", "size_bytes": 1, "sha256": 5, "date": "d"}'])
def test_a_damaged_record_is_said(case: Any, damage: str) -> None:
    case.fetch()
    record = case.to.parent / "a.bin.json"
    record.write_text(damage)
    with pytest.raises(DownloadError) as refusal:
        case.fetch()
    assert str(refusal.value) == (f"{record} is no record of a download, or a damaged one; look at it and delete it.")
