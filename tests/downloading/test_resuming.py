"""Downloads that are stopped and gone on with: never two versions in one file, never a byte twice."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import pytest

FETCH = """
import pathlib, sys
from aml_edge.downloading.downloads import RemoteFile, download
download(RemoteFile((sys.argv[1],), sys.argv[2]), pathlib.Path(sys.argv[3]))
"""


def test_a_connection_that_is_cut_is_gone_on_with(case: Any, fault: Any) -> None:
    fault({"cut_after": 100_000}, {"cut_after": 50_000})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.server.ranges(case.path) == [None, "bytes=100000-", "bytes=150000-"]
    assert case.server.requests[1][1]["If-Range"].startswith('"')
    assert case.listener.tasks == [[300, 100], [300, 150], [300, 300]]
    assert "the connection ended after 100000 of 300000 bytes; trying again in 0 s" in case.listener.lines
    assert f"from {case.url}: 0.1 MB are here, of 0.3 MB" in case.listener.lines


def test_another_process_goes_on_where_one_stopped(case: Any, fault: Any) -> None:
    fault({"cut_after": 100_000}, {"status": 500}, {"status": 500}, {"status": 500})
    said = case.refusal(case.sha256)
    assert said == (
        f"{case.url} could not be fetched in 4 attempts, the last one: 500 Internal Server Error; 0.1 MB "
        "are kept and gone on with: run the same command again, or fetch the file by hand and put it at "
        f"{case.to}."
    )
    assert case.left == {"a.bin.partial", "a.bin.partial.json"}
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.server.ranges(case.path)[-1] == "bytes=100000-"
    assert case.left == {"a.bin", "a.bin.json"}


def test_a_part_from_another_address_is_not_gone_on_with(case: Any, fault: Any) -> None:
    fault({"cut_after": 100_000}, *[{"status": 500}] * 3)
    case.refusal(case.sha256)
    case.server.files["/b.bin"] = case.content
    case.fetch(case.sha256, urls=(f"{case.server.url}/b.bin",))
    assert case.server.ranges("/b.bin") == [None]
    assert case.to.read_bytes() == case.content


def test_a_download_that_was_stopped_at_its_very_end_asks_for_nothing(case: Any, fault: Any) -> None:
    fault({"cut_after": 100_000}, *[{"status": 500}] * 3)
    case.refusal()
    (case.to.parent / "a.bin.partial").write_bytes(case.content)
    asked = len(case.server.requests)
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert len(case.server.requests) == asked


def test_a_file_that_changed_meanwhile_is_fetched_anew(case: Any, fault: Any) -> None:
    """If-Range makes the server send all of the new one."""
    fault({"cut_after": 100_000, "content": case.other})
    case.fetch(case.sha256)
    assert case.server.ranges(case.path) == [None, "bytes=100000-"]
    assert case.to.read_bytes() == case.content


def test_parts_of_two_versions_are_never_joined(case: Any, fault: Any) -> None:
    """The server answers with a range of another version, whatever If-Range says; its ETag shows it."""
    case.server.heeds_if_range = False
    fault({"cut_after": 100_000, "content": case.other})
    case.fetch()
    assert case.to.read_bytes() == case.content
    assert case.server.ranges(case.path) == [None, "bytes=100000-", None]


def test_parts_that_do_not_make_the_published_file_are_fetched_anew_once(case: Any, fault: Any) -> None:
    fault({"cut_after": 100_000, "content": case.other, "headers": {"ETag": '"same"'}}, {"headers": {"ETag": '"same"'}})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert "what came is not the published file; fetching it anew" in case.listener.lines


@pytest.mark.parametrize(
    "headers", [{"ETag": None, "Last-Modified": None}, {"ETag": 'W/"weak"', "Last-Modified": None}]
)
def test_without_a_validator_nothing_is_gone_on_with(case: Any, fault: Any, headers: dict[str, None]) -> None:
    fault({"cut_after": 100_000, "headers": headers})
    case.fetch(case.sha256)
    assert case.server.ranges(case.path) == [None, None]
    assert case.to.read_bytes() == case.content


def test_a_date_will_do_where_the_etag_is_weak(case: Any, fault: Any) -> None:
    weak = {"ETag": 'W/"weak"'}
    fault({"cut_after": 100_000, "headers": weak}, {"headers": weak})
    case.fetch(case.sha256)
    assert case.server.requests[1][1]["If-Range"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert case.server.ranges(case.path) == [None, "bytes=100000-"]


def test_a_server_that_refuses_ranges_sends_it_all_again(case: Any, fault: Any) -> None:
    fault({"cut_after": 100_000}, {"ignores_range": True})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content


def test_a_part_longer_than_the_file_is_thrown_away(case: Any, fault: Any) -> None:
    """The answer is 416: nothing begins there."""
    fault({"cut_after": 200_000, "length": 400_000}, {"status": 416})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.server.ranges(case.path) == [None, "bytes=200000-", None]


def test_without_a_length_a_cut_file_is_fetched_anew(case: Any, fault: Any) -> None:
    fault({"length": "absent", "cut_after": 10})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content


def test_a_disk_that_fills_up_names_the_file_and_keeps_the_part(case: Any) -> None:
    """A limit on the size of files stands for the full disk: the system refuses the same call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as failure:
            case.fetch(case.sha256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.value.filename == str(case.to.parent / "a.bin.partial")
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.server.ranges(case.path) == [None, "bytes=100000-"]


def test_a_killed_process_leaves_no_lock_and_a_part_to_go_on_with(case: Any, fault: Any) -> None:
    fault({"pause_s": 60.0})
    process = subprocess.Popen([sys.executable, "-c", FETCH, case.url, case.sha256, str(case.to)])
    part = case.to.parent / "a.bin.partial"
    while not (part.is_file() and part.stat().st_size == len(case.content) // 2):
        assert process.poll() is None
    process.kill()
    process.wait()
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.server.ranges(case.path) == [None, f"bytes={len(case.content) // 2}-"]
    assert case.left == {"a.bin", "a.bin.json"}


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{",
        '{"url": 5}',
        '{"nothing": 1}',
        "null",
        '{"url": "URL", "etag": 5}',
        '{"url": "URL", "last_modified": 5}',
        '{"url": "URL"}',
    ],
)
def test_a_part_with_a_damaged_state_is_fetched_anew(case: Any, fault: Any, damage: str) -> None:
    fault({"cut_after": 100_000}, *[{"status": 500}] * 3)
    case.refusal()
    (case.to.parent / "a.bin.partial.json").write_text(damage.replace("URL", case.url))
    case.fetch(case.sha256)
    assert case.server.ranges(case.path)[-1] is None
    assert case.to.read_bytes() == case.content
