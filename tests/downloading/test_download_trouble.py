"""Servers, lines and disks that fail, and for how long a download keeps trying."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import pytest

from aml_edge.downloading.downloads import OFFLINE_VARIABLE, Patience
from aml_edge.downloading.http_transfer import in_units

IMPATIENT = Patience(attempts=2, timeout_s=0.2, back_off_s=0.0)


def test_a_length_too_long_is_a_connection_that_never_ends_well(case: Any, fault: Any) -> None:
    fault(*[{"length": 300_001, "ignores_range": True}] * 4)
    said = case.refusal(case.sha256)
    assert "in 4 attempts, the last one: the connection ended after 300000 of 300001 bytes; 0.3 MB are kept" in said


def test_a_file_that_is_nowhere_is_said_with_every_address(case: Any) -> None:
    urls = (f"{case.server.url}/gone.bin", f"{case.server.url}/b.bin")
    case.server.faults["/gone.bin"] = [case.server.fault(status=410)]
    assert case.refusal(urls=urls) == (
        f"a.bin is not where it was published: {urls[0]} (410 Gone), {urls[1]} (404 Not Found); find it elsewhere and "
        f"put it at {case.to}."
    )


def test_the_second_address_is_asked_where_the_first_has_nothing(case: Any) -> None:
    case.fetch(case.sha256, urls=(f"{case.server.url}/typo.bin", case.url))
    assert case.to.read_bytes() == case.content
    assert [path for path, _ in case.server.requests] == ["/typo.bin", case.path]
    assert json.loads((case.to.parent / "a.bin.json").read_text())["url"] == case.url


def test_an_error_of_the_server_passes(case: Any, fault: Any) -> None:
    fault({"status": 500}, {"status": 503}, {"status": 429})
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content


def test_pauses_grow(case: Any, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("aml_edge.downloading.downloads.time.sleep", pauses.append)
    fault(*[{"status": 500}] * 3)
    case.fetch(case.sha256, patience=Patience(attempts=4, timeout_s=5.0, back_off_s=1.0))
    assert pauses == [1.0, 2.0, 4.0]


def test_a_bad_line_that_brings_much_each_time_is_no_failure(case: Any, fault: Any) -> None:
    """Two attempts are allowed in a row; it takes six, of which five bring a megabyte each and break."""
    large = case.content * 18
    case.server.files[case.path] = large
    fault(*[{"cut_after": 1_000_000}] * 5)
    case.fetch(hashlib.sha256(large).hexdigest(), patience=Patience(attempts=2, timeout_s=5.0, back_off_s=0.0))
    assert case.to.read_bytes() == large
    assert case.server.ranges(case.path) == [None, *(f"bytes={millions}000000-" for millions in (1, 2, 3, 4, 5))]


def test_a_line_that_brings_little_each_time_is_given_up(case: Any, fault: Any) -> None:
    fault(*[{"cut_after": 10}] * 9)
    assert "could not be fetched in 4 attempts" in case.refusal(case.sha256)
    assert len(case.server.requests) == 4


def test_a_server_that_falls_silent_is_not_waited_for(case: Any, fault: Any) -> None:
    fault(*[{"pause_s": 0.5}] * 2)
    assert "in 2 attempts, the last one: timed out;" in case.refusal(case.sha256, patience=IMPATIENT)


def test_nobody_at_the_address(case: Any) -> None:
    said = case.refusal(urls=("http://127.0.0.1:9/a.bin",))
    assert "could not be fetched in 4 attempts, the last one: [Errno 111] Connection refused; nothing is kept" in said


def test_what_is_forbidden_is_not_asked_for_again(case: Any, fault: Any) -> None:
    fault({"status": 403})
    assert case.refusal() == f"{case.url} answers 403 Forbidden; fetch the file by hand."
    assert len(case.server.requests) == 1


def test_redirections_are_followed_and_gone_on_with(case: Any, fault: Any) -> None:
    case.server.files["/there.bin"] = case.content
    fault({"redirect": "/there.bin"}, {"redirect": "/there.bin"})
    case.server.faults["/there.bin"] = [case.server.fault(cut_after=100_000)]
    case.fetch(case.sha256)
    assert case.to.read_bytes() == case.content
    assert case.server.ranges("/there.bin") == [None, "bytes=100000-"]


def test_a_web_page_is_not_the_file(case: Any, fault: Any) -> None:
    fault({"page": True})
    assert case.refusal() == (
        f"{case.url} answers with a web page, as the login page of a network does; open the address in a browser."
    )
    assert case.left == set()


@pytest.mark.parametrize(("length", "gives"), [(None, 0.3), ("absent", 0.1)], ids=["said", "found"])
def test_a_file_that_is_too_long_is_refused(case: Any, fault: Any, length: str | None, gives: float) -> None:
    """At once where the server says its length, else when the limit is passed; nothing of it is kept."""
    fault({"length": length})
    assert case.refusal(case.sha256, most_bytes=50_000) == (
        f"{case.url} gives {gives} MB or more, but the file is expected to have 0.1 MB at most; see what "
        "is at that address."
    )
    assert case.left == set()


def test_too_little_room_is_said_before_anything_is_written(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("aml_edge.downloading.http_transfer.shutil.disk_usage", lambda folder: Usage(100_000))
    assert case.refusal() == (
        f"{case.url} is 0.3 MB, of which 0.3 MB are missing, but {case.to.parent} has 0.1 MB free; free "
        "some space, or choose a folder on another disk."
    )


@pytest.mark.parametrize("value", ["1", "yes"])
def test_offline_nothing_is_asked_for_and_the_address_is_said(
    case: Any, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, value)
    assert case.refusal() == (
        f"`AML_EDGE_OFFLINE` is {value!r}, so a.bin is not downloaded; get it from {case.url} and put it at {case.to}."
    )
    assert case.server.requests == []
    case.to.parent.mkdir()
    case.to.write_bytes(case.content)
    case.fetch(case.sha256)


@pytest.mark.parametrize("value", ["", "0"])
def test_offline_can_be_switched_off(case: Any, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, value)
    case.fetch(case.sha256)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.bin", "host/a.bin", "http:///a.bin", ""])
def test_other_addresses_than_of_the_web_are_refused(case: Any, url: str) -> None:
    assert case.refusal(urls=(url,)) == (
        f"`url` is {url!r}; only http:// and https:// are fetched: give such an address."
    )


@pytest.mark.parametrize(("size_bytes", "said"), [(0, "0.0 MB"), (999_000_000, "999.0 MB"), (10**9, "1.0 GB")])
def test_sizes_are_said_in_units_that_people_read(size_bytes: int, said: str) -> None:
    assert in_units(size_bytes) == said
