"""What is opened and what is not: other schemes, redirections, answers without the file."""

from __future__ import annotations

import io
from typing import Any
from urllib.request import Request

import pytest

from aml_edge import __version__
from aml_edge.downloading.http_opening import (
    AbsentError,
    BrokenConnectionError,
    RangeRefusedError,
    SafeRedirects,
    open_url,
)
from aml_edge.errors import DownloadError


def test_an_answer_is_opened_with_who_asks(faulty_server: Any) -> None:
    faulty_server.files["/a"] = b"content"
    with open_url(f"{faulty_server.url}/a", {"Range": "bytes=3-"}, 5.0) as answer:
        assert (answer.status, answer.read()) == (206, b"tent")
    ((_, headers),) = faulty_server.requests
    assert headers["User-Agent"] == f"aml-edge/{__version__}"
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, AbsentError),
        (410, AbsentError),
        (416, RangeRefusedError),
        (408, BrokenConnectionError),
        (429, BrokenConnectionError),
        (500, BrokenConnectionError),
        (503, BrokenConnectionError),
        (401, DownloadError),
        (403, DownloadError),
        (400, DownloadError),
    ],
)
def test_each_refusal_has_its_meaning(faulty_server: Any, status: int, error: type[Exception]) -> None:
    faulty_server.faults["/a"] = [faulty_server.fault(status=status)]
    with pytest.raises(error, match=rf"\b{status} \w") as refusal:
        open_url(f"{faulty_server.url}/a", {}, 5.0)
    assert type(refusal.value) is error


def test_a_redirection_to_a_file_of_this_machine_is_not_followed(faulty_server: Any) -> None:
    faulty_server.faults["/a"] = [faulty_server.fault(redirect="file:///etc/passwd")]
    with pytest.raises(DownloadError, match=r"answers 302 .*Redirection to url 'file:///etc/passwd' is not allowed"):
        open_url(f"{faulty_server.url}/a", {}, 5.0)


def test_a_redirection_in_a_circle_ends(faulty_server: Any) -> None:
    faulty_server.faults["/a"] = [faulty_server.fault(redirect="/a")] * 30
    with pytest.raises(DownloadError, match=r"/a answers 302 .*infinite loop"):
        open_url(f"{faulty_server.url}/a", {}, 5.0)
    assert len(faulty_server.requests) < 15


@pytest.mark.parametrize(("asked", "leads"), [("https", "http"), ("http", "ftp"), ("https", "ftp")])
def test_redirections_that_lose_the_encryption_or_the_web_are_refused(asked: str, leads: str) -> None:
    content = io.BytesIO()
    with pytest.raises(DownloadError) as refusal:
        SafeRedirects().redirect_request(Request(f"{asked}://a/b"), content, 302, "Found", {}, f"{leads}://c/d")
    assert str(refusal.value) == (
        f"{asked}://a/b redirects to {leads}://c/d; only redirections to http and https are followed, and none from "
        "https to http: fetch the file by hand if you trust it."
    )
    assert content.closed


@pytest.mark.parametrize(("asked", "leads"), [("http", "https"), ("http", "http"), ("https", "https")])
def test_other_redirections_are_followed_with_the_range(asked: str, leads: str) -> None:
    request = Request(f"{asked}://a/b", headers={"Range": "bytes=5-"})
    followed = SafeRedirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, f"{leads}://c/d")
    assert followed is not None
    assert (followed.full_url, followed.get_header("Range")) == (f"{leads}://c/d", "bytes=5-")


def test_nobody_at_the_address_may_be_there_later() -> None:
    with pytest.raises(BrokenConnectionError, match="Connection refused"):
        open_url("http://127.0.0.1:9/a", {}, 5.0)
