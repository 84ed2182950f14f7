"""Downloads over a web server that fails in every way, and what lies on disk afterwards."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from aml_edge.downloading.downloads import OFFLINE_VARIABLE, Patience, RemoteFile, download
from aml_edge.errors import DownloadError
from aml_edge.progress import ProgressTask

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" if SHA256[0] != "0" else "1"
PATH = "/a.bin"
AT_ONCE = Patience(attempts=4, timeout_s=5.0, back_off_s=0.0)
IMPATIENT = Patience(attempts=2, timeout_s=0.2, back_off_s=0.0)


class Listener:
    """A progress that remembers what it was told, and the kilobytes of each connection."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[list[int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        assert description == "downloading, kB"
        counts = [total, 0]
        self.tasks.append(counts)

        class Task:
            def advance(self, steps: int = 1, *, status: str = "") -> None:
                counts[1] += steps

        yield Task()


class Case(NamedTuple):
    """A server, where a download goes to, and who listens."""

    server: Any
    to: Path
    listener: Listener

    def fetch(self, sha256: str = "", *, patience: Patience = AT_ONCE, **changes: Any) -> None:
        remote = RemoteFile(**({"urls": (self.server.url + PATH,), "sha256": sha256} | changes))
        download(remote, self.to, progress=self.listener, patience=patience)

    def refusal(self, sha256: str = "", **changes: Any) -> str:
        with pytest.raises(DownloadError) as refusal:
            self.fetch(sha256, **changes)
        assert not self.to.exists()
        return str(refusal.value)

    @property
    def left(self) -> set[str]:
        """The names of what lies in the folder."""
        return {file.name for file in self.to.parent.iterdir()}


@pytest.fixture
def case(faulty_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    faulty_server.files[PATH] = CONTENT
    return Case(faulty_server, tmp_path / "cache" / "a.bin", Listener())


@pytest.fixture
def fault(faulty_server: Any) -> Any:
    """Returns a function that makes the next answers go wrong."""

    def plan(*faults: dict[str, Any]) -> None:
        faulty_server.faults[PATH] = [faulty_server.fault(**one) for one in faults]

    return plan


def test_a_file_comes_whole_with_a_record_and_nothing_else_is_left(case: Case) -> None:
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.left == {"a.bin", "a.bin.json"}
    record = json.loads((case.to.parent / "a.bin.json").read_text())
    assert record.pop("date")[:2] == "20"
    assert record == {"url": case.server.url + PATH, "size_bytes": len(CONTENT), "sha256": SHA256}
    assert case.server.ranges(PATH) == [None]


def test_what_comes_is_said_before_it_comes(case: Case) -> None:
    case.fetch(SHA256)
    assert case.listener.lines == [
        f"downloading a.bin to {case.to.parent}",
        f"from {case.server.url}{PATH}: 0.3 MB",
    ]
    assert case.listener.tasks == [[300, 300]]


def test_the_hash_is_said_where_none_is_published(case: Case) -> None:
    case.fetch()
    assert case.listener.lines[-1] == f"no hash of a.bin is published; its SHA-256 is {SHA256}"


def test_a_file_that_is_there_is_not_asked_for_again(case: Case) -> None:
    case.fetch(SHA256)
    case.fetch(SHA256)
    assert len(case.server.requests) == 1


def test_a_file_put_there_by_hand_is_taken_where_its_hash_is_right(case: Case) -> None:
    case.to.parent.mkdir()
    case.to.write_bytes(CONTENT)
    case.fetch(SHA256[:7])
    assert (case.server.requests, case.left) == ([], {"a.bin"})


def test_a_file_that_is_there_and_wrong_is_refused_and_left_alone(case: Case) -> None:
    case.to.parent.mkdir()
    case.to.write_bytes(OTHER)
    with pytest.raises(DownloadError) as refusal:
        case.fetch(SHA256[:7])
    assert str(refusal.value) == (
        f"{case.to} is damaged or another file: its SHA-256 begins with {hashlib.sha256(OTHER).hexdigest()[:7]}, the "
        f"published one with {SHA256[:7]}; delete it and run the same command again."
    )
    assert case.to.read_bytes() == OTHER


def test_a_file_that_changed_after_its_download_is_refused(case: Case) -> None:
    case.fetch()
    case.to.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=rf"a\.bin has changed since it was downloaded on 20.*{SHA256}; delete it"):
        case.fetch()


def test_a_connection_that_is_cut_is_gone_on_with(case: Case, fault: Any) -> None:
    fault({"cut_after": 100_000}, {"cut_after": 50_000})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges(PATH) == [None, "bytes=100000-", "bytes=150000-"]
    assert case.server.requests[1][1]["If-Range"].startswith('"')
    assert case.listener.tasks == [[300, 100], [300, 150], [300, 300]]
    assert "the connection ended after 100000 of 300000 bytes; trying again in 0 s" in case.listener.lines
    assert f"from {case.server.url}{PATH}: 0.1 MB are here, of 0.3 MB" in case.listener.lines


def test_another_process_goes_on_where_one_stopped(case: Case, fault: Any) -> None:
    fault({"cut_after": 100_000}, {"status": 500}, {"status": 500}, {"status": 500})
    said = case.refusal(SHA256)
    assert said == (
        f"{case.server.url}{PATH} could not be fetched in 4 attempts, the last one: 500 Internal Server Error; 0.1 MB "
        "are kept and gone on with: run the same command again, or fetch the file by hand and put it at "
        f"{case.to}."
    )
    assert case.left == {"a.bin.partial", "a.bin.partial.json"}
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges(PATH)[-1] == "bytes=100000-"
    assert case.left == {"a.bin", "a.bin.json"}


def test_a_part_from_another_address_is_not_gone_on_with(case: Case, fault: Any) -> None:
    fault({"cut_after": 100_000}, *[{"status": 500}] * 3)
    case.refusal(SHA256)
    case.server.files["/b.bin"] = CONTENT
    case.fetch(SHA256, urls=(f"{case.server.url}/b.bin",))
    assert case.server.ranges("/b.bin") == [None]
    assert case.to.read_bytes() == CONTENT


def test_a_download_that_was_stopped_at_its_very_end_asks_for_nothing(case: Case, fault: Any) -> None:
    fault({"cut_after": 100_000}, *[{"status": 500}] * 3)
    case.refusal()
    (case.to.parent / "a.bin.partial").write_bytes(CONTENT)
    asked = len(case.server.requests)
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert len(case.server.requests) == asked


def test_a_file_that_changed_meanwhile_is_fetched_anew(case: Case, fault: Any) -> None:
    """If-Range makes the server send all of the new one."""
    fault({"cut_after": 100_000, "content": OTHER})
    case.fetch(SHA256)
    assert case.server.ranges(PATH) == [None, "bytes=100000-"]
    assert case.to.read_bytes() == CONTENT


def test_parts_of_two_versions_are_never_joined(case: Case, fault: Any) -> None:
    """The server answers with a range of another version, whatever If-Range says; its ETag shows it."""
    case.server.heeds_if_range = False
    fault({"cut_after": 100_000, "content": OTHER})
    case.fetch()
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges(PATH) == [None, "bytes=100000-", None]


def test_parts_that_do_not_make_the_published_file_are_fetched_anew_once(case: Case, fault: Any) -> None:
    fault({"cut_after": 100_000, "content": OTHER, "headers": {"ETag": '"same"'}}, {"headers": {"ETag": '"same"'}})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert "what came is not the published file; fetching it anew" in case.listener.lines


@pytest.mark.parametrize(
    "headers", [{"ETag": None, "Last-Modified": None}, {"ETag": 'W/"weak"', "Last-Modified": None}]
)
def test_without_a_validator_nothing_is_gone_on_with(case: Case, fault: Any, headers: dict[str, None]) -> None:
    fault({"cut_after": 100_000, "headers": headers})
    case.fetch(SHA256)
    assert case.server.ranges(PATH) == [None, None]
    assert case.to.read_bytes() == CONTENT


def test_a_date_will_do_where_the_etag_is_weak(case: Case, fault: Any) -> None:
    weak = {"ETag": 'W/"weak"'}
    fault({"cut_after": 100_000, "headers": weak}, {"headers": weak})
    case.fetch(SHA256)
    assert case.server.requests[1][1]["If-Range"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert case.server.ranges(PATH) == [None, "bytes=100000-"]


def test_a_server_that_refuses_ranges_sends_it_all_again(case: Case, fault: Any) -> None:
    fault({"cut_after": 100_000}, {"ignores_range": True})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(case: Case, fault: Any) -> None:
    """The answer is 416: nothing begins there."""
    fault({"cut_after": 200_000, "length": 400_000}, {"status": 416})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges(PATH) == [None, "bytes=200000-", None]


def test_a_length_too_long_is_a_connection_that_never_ends_well(case: Case, fault: Any) -> None:
    fault(*[{"length": 300_001, "ignores_range": True}] * 4)
    said = case.refusal(SHA256)
    assert "in 4 attempts, the last one: the connection ended after 300000 of 300001 bytes; 0.3 MB are kept" in said


def test_a_length_too_short_is_found_by_the_hash(case: Case, fault: Any) -> None:
    fault({"length": 299_999})
    said = case.refusal(SHA256[:7])
    cut = hashlib.sha256(CONTENT[:-1]).hexdigest()
    assert said == (
        f"{case.server.url}{PATH} gives a file whose SHA-256 begins with {cut[:7]}, but the published one begins with "
        f"{SHA256[:7]}; it was not kept: try again later, or find the file elsewhere."
    )
    assert case.left == set()


def test_without_a_length_the_hash_says_whether_it_is_whole(case: Case, fault: Any) -> None:
    fault({"length": "absent"})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.listener.lines[1].endswith(f"{PATH}: length unknown")


def test_without_a_length_a_cut_file_is_fetched_anew(case: Case, fault: Any) -> None:
    fault({"length": "absent", "cut_after": 10})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT


def test_without_length_and_hash_nobody_can_tell(case: Case, fault: Any) -> None:
    fault({"length": "absent"})
    assert case.refusal() == (
        f"{case.server.url}{PATH} does not say how long the file is, and no hash of it is known, so nobody can tell "
        f"whether it came whole; fetch it by hand and put it at {case.to}."
    )
    assert case.left == set()


def test_chunks_have_an_end_of_their_own(case: Case, fault: Any) -> None:
    fault({"chunked": True, "cut_after": 100_000}, {"chunked": True})
    case.fetch()
    assert case.to.read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_not_kept(case: Case) -> None:
    said = case.refusal(WRONG + SHA256[1:])
    assert (
        f"SHA-256 begins with {SHA256}, but the published one begins with {WRONG}{SHA256[1:]}; it was not kept" in said
    )
    assert case.left == set()


def test_another_file_than_the_first_time_is_refused_until_the_record_is_deleted(case: Case) -> None:
    case.fetch()
    case.to.unlink()
    case.server.files[PATH] = OTHER
    said = case.refusal()
    record = case.to.parent / "a.bin.json"
    date = json.loads(record.read_text())["date"]
    assert said == (
        f"{case.server.url}{PATH} gives another file than on {date}: its SHA-256 is "
        f"{hashlib.sha256(OTHER).hexdigest()}, then it was {SHA256}; it was not kept: if that is as it should be, "
        f"delete {record} and run the same command again."
    )
    assert case.left == {"a.bin.json"}
    record.unlink()
    case.fetch()
    assert case.to.read_bytes() == OTHER


def test_the_same_file_again_keeps_the_first_record(case: Case) -> None:
    case.fetch()
    record = case.to.parent / "a.bin.json"
    first = json.loads(record.read_text()) | {"date": "2001-01-01"}
    record.write_text(json.dumps(first))
    case.to.unlink()
    case.fetch()
    assert json.loads(record.read_text()) == first


def test_a_file_that_is_nowhere_is_said_with_every_address(case: Case) -> None:
    urls = (f"{case.server.url}/gone.bin", f"{case.server.url}/b.bin")
    case.server.faults["/gone.bin"] = [case.server.fault(status=410)]
    assert case.refusal(urls=urls) == (
        f"a.bin is not where it was published: {urls[0]} (410 Gone), {urls[1]} (404 Not Found); find it elsewhere and "
        f"put it at {case.to}."
    )


def test_the_second_address_is_asked_where_the_first_has_nothing(case: Case) -> None:
    case.fetch(SHA256, urls=(f"{case.server.url}/typo.bin", case.server.url + PATH))
    assert case.to.read_bytes() == CONTENT
    assert [path for path, _ in case.server.requests] == ["/typo.bin", PATH]
    assert json.loads((case.to.parent / "a.bin.json").read_text())["url"] == case.server.url + PATH


def test_an_error_of_the_server_passes(case: Case, fault: Any) -> None:
    fault({"status": 500}, {"status": 503}, {"status": 429})
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT


def test_pauses_grow(case: Case, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("aml_edge.downloading.downloads.time.sleep", pauses.append)
    fault(*[{"status": 500}] * 3)
    case.fetch(SHA256, patience=Patience(attempts=4, timeout_s=5.0, back_off_s=1.0))
    assert pauses == [1.0, 2.0, 4.0]


def test_a_bad_line_that_brings_much_each_time_is_no_failure(case: Case, fault: Any) -> None:
    """Two attempts are allowed in a row; it takes six, of which five bring a megabyte each and break."""
    large = CONTENT * 18
    case.server.files[PATH] = large
    fault(*[{"cut_after": 1_000_000}] * 5)
    case.fetch(hashlib.sha256(large).hexdigest(), patience=Patience(attempts=2, timeout_s=5.0, back_off_s=0.0))
    assert case.to.read_bytes() == large
    assert case.server.ranges(PATH) == [None, *(f"bytes={millions}000000-" for millions in (1, 2, 3, 4, 5))]


def test_a_line_that_brings_little_each_time_is_given_up(case: Case, fault: Any) -> None:
    fault(*[{"cut_after": 10}] * 9)
    assert "could not be fetched in 4 attempts" in case.refusal(SHA256)
    assert len(case.server.requests) == 4


def test_a_server_that_falls_silent_is_not_waited_for(case: Case, fault: Any) -> None:
    fault(*[{"pause_s": 0.5}] * 2)
    assert "in 2 attempts, the last one: timed out;" in case.refusal(SHA256, patience=IMPATIENT)


def test_nobody_at_the_address(case: Case) -> None:
    said = case.refusal(urls=("http://127.0.0.1:9/a.bin",))
    assert "could not be fetched in 4 attempts, the last one: [Errno 111] Connection refused; nothing is kept" in said


def test_what_is_forbidden_is_not_asked_for_again(case: Case, fault: Any) -> None:
    fault({"status": 403})
    assert case.refusal() == f"{case.server.url}{PATH} answers 403 Forbidden; fetch the file by hand."
    assert len(case.server.requests) == 1


def test_redirections_are_followed_and_gone_on_with(case: Case, fault: Any) -> None:
    case.server.files["/there.bin"] = CONTENT
    fault({"redirect": "/there.bin"}, {"redirect": "/there.bin"})
    case.server.faults["/there.bin"] = [case.server.fault(cut_after=100_000)]
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges("/there.bin") == [None, "bytes=100000-"]


def test_a_web_page_is_not_the_file(case: Case, fault: Any) -> None:
    fault({"page": True})
    assert case.refusal() == (
        f"{case.server.url}{PATH} answers with a web page, as the login page of a network does; open the address in a "
        "browser."
    )
    assert case.left == set()


def test_something_else_than_a_file_of_its_kind_is_refused_and_not_kept(case: Case) -> None:
    """As a page that calls itself a file; where no hash is published, nothing else would tell."""
    assert case.refusal(beginnings=(b"PK", b"\x80!")) == (
        f"{case.server.url}{PATH} gives something else than a.bin, which would begin in another way; it was not kept: "
        f"see what is at that address, or find the file elsewhere and put it at {case.to}."
    )
    assert case.left == set()
    case.fetch(beginnings=(b"PK", CONTENT[:3]))
    with pytest.raises(DownloadError) as refusal:
        case.fetch(beginnings=(b"PK",))
    assert str(refusal.value) == f"{case.to} is no file of its kind; delete it and run the same command again."


def test_an_empty_file_can_be_right(case: Case) -> None:
    case.server.files[PATH] = b""
    case.fetch(hashlib.sha256(b"").hexdigest())
    assert case.to.read_bytes() == b""


@pytest.mark.parametrize(("length", "gives"), [(None, 0.3), ("absent", 0.1)], ids=["said", "found"])
def test_a_file_that_is_too_long_is_refused(case: Case, fault: Any, length: str | None, gives: float) -> None:
    """At once where the server says its length, else when the limit is passed; nothing of it is kept."""
    fault({"length": length})
    assert case.refusal(SHA256, most_bytes=50_000) == (
        f"{case.server.url}{PATH} gives {gives} MB or more, but the file is expected to have 0.1 MB at most; see what "
        "is at that address."
    )
    assert case.left == set()


def test_too_little_room_is_said_before_anything_is_written(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("aml_edge.downloading.http_transfer.shutil.disk_usage", lambda folder: Usage(100_000))
    assert case.refusal() == (
        f"{case.server.url}{PATH} is 0.3 MB, of which 0.3 MB are missing, but {case.to.parent} has 0.1 MB free; free "
        "some space, or choose a folder on another disk."
    )


def test_a_disk_that_fills_up_names_the_file_and_keeps_the_part(case: Case) -> None:
    """A limit on the size of files stands for the full disk: the system refuses the same call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as failure:
            case.fetch(SHA256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.value.filename == str(case.to.parent / "a.bin.partial")
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges(PATH) == [None, "bytes=100000-"]


@pytest.mark.parametrize("value", ["1", "yes"])
def test_offline_nothing_is_asked_for_and_the_address_is_said(
    case: Case, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, value)
    assert case.refusal() == (
        f"`AML_EDGE_OFFLINE` is {value!r}, so a.bin is not downloaded; get it from {case.server.url}{PATH} and put it "
        f"at {case.to}."
    )
    assert case.server.requests == []
    case.to.parent.mkdir()
    case.to.write_bytes(CONTENT)
    case.fetch(SHA256)


@pytest.mark.parametrize("value", ["", "0"])
def test_offline_can_be_switched_off(case: Case, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, value)
    case.fetch(SHA256)


def test_two_at_once_fetch_it_once(case: Case, fault: Any) -> None:
    """The first one is held up in the middle of its answer; the second one waits and asks for nothing."""
    second = Case(case.server, case.to, Listener())
    other = threading.Thread(target=second.fetch, args=(SHA256,))
    fault({"meanwhile": other.start, "pause_s": 0.2})
    case.fetch(SHA256)
    other.join()
    assert second.listener.lines == ["another process downloads a.bin; waiting for it"]
    assert (len(case.server.requests), case.left) == (1, {"a.bin", "a.bin.json"})


FETCH = """
import pathlib, sys
from aml_edge.downloading.downloads import RemoteFile, download
download(RemoteFile((sys.argv[1],), sys.argv[2]), pathlib.Path(sys.argv[3]))
"""


def test_a_killed_process_leaves_no_lock_and_a_part_to_go_on_with(case: Case, fault: Any) -> None:
    fault({"pause_s": 60.0})
    process = subprocess.Popen([sys.executable, "-c", FETCH, case.server.url + PATH, SHA256, str(case.to)])
    part = case.to.parent / "a.bin.partial"
    while not (part.is_file() and part.stat().st_size == len(CONTENT) // 2):
        assert process.poll() is None
    process.kill()
    process.wait()
    case.fetch(SHA256)
    assert case.to.read_bytes() == CONTENT
    assert case.server.ranges(PATH) == [None, f"bytes={len(CONTENT) // 2}-"]
    assert case.left == {"a.bin", "a.bin.json"}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.bin", "host/a.bin", "http:///a.bin", ""])
def test_other_addresses_than_of_the_web_are_refused(case: Case, url: str) -> None:
    assert case.refusal(urls=(url,)) == (
        f"`url` is {url!r}; only http:// and https:// are fetched: give such an address."
    )


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"url": "u", "size_bytes": 1, "sha256": 5, "date": "d"}'])
def test_a_damaged_record_is_said(case: Case, damage: str) -> None:
    case.fetch()
    record = case.to.parent / "a.bin.json"
    record.write_text(damage)
    with pytest.raises(DownloadError) as refusal:
        case.fetch()
    assert str(refusal.value) == (f"{record} is no record of a download, or a damaged one; look at it and delete it.")


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
def test_a_part_with_a_damaged_state_is_fetched_anew(case: Case, fault: Any, damage: str) -> None:
    fault({"cut_after": 100_000}, *[{"status": 500}] * 3)
    case.refusal()
    (case.to.parent / "a.bin.partial.json").write_text(damage.replace("URL", case.server.url + PATH))
    case.fetch(SHA256)
    assert case.server.ranges(PATH)[-1] is None
    assert case.to.read_bytes() == CONTENT
