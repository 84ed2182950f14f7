"""Opening a URL: http and https only, also after redirections."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import IO, Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from aml_edge import __version__
from aml_edge.errors import DownloadError

_SCHEMES = ("http", "https")


class BrokenConnectionError(Exception):
    """A connection that failed and may do better another time; not for users, who hear of the last one only."""


class RangeRefusedError(BrokenConnectionError):
    """A server that has nothing beyond the part that is there, which is then of another file."""


class AbsentError(Exception):
    """An address without a file; not for users, who hear of it where no other address has the file."""


def require_http(url: str) -> None:
    """Raises `DownloadError` unless a URL begins with http:// or https:// and names a host."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise DownloadError(f"`url` is {url!r}; only http:// and https:// are fetched: give such an address.")


def open_url(url: str, headers: Mapping[str, str], timeout_s: float) -> HTTPResponse:
    """Returns the answer of a server, 200 or 206, its content still to be read.

    Raises:
        AbsentError: there is no such file.
        BrokenConnectionError: there was no answer, or one that may be another one later (`RangeRefusedError`: without
            a range).
        DownloadError: the answer can never be the file.
    """
    require_http(url)
    always = {"User-Agent": f"aml-edge/{__version__}", "Accept-Encoding": "identity"}
    try:
        answer = build_opener(SafeRedirects).open(Request(url, headers=always | dict(headers)), timeout=timeout_s)
        return cast(HTTPResponse, answer)
    except HTTPError as refusal:
        with refusal:
            said = f"{refusal.code} {words_of(refusal.reason)}"
            if refusal.code in (404, 410):
                raise AbsentError(said) from None
            if refusal.code == 416:
                raise RangeRefusedError(said) from None
            if refusal.code in (408, 425, 429) or refusal.code >= 500:
                raise BrokenConnectionError(said) from None
            raise DownloadError(f"{url} answers {said}; fetch the file by hand.") from None
    except URLError as problem:
        raise BrokenConnectionError(words_of(problem.reason)) from None
    except (OSError, HTTPException) as problem:
        raise BrokenConnectionError(words_of(problem)) from None


def words_of(problem: object) -> str:
    """Returns what a problem says of itself, in one line."""
    return " ".join(str(problem).split()) or type(problem).__name__


class SafeRedirects(HTTPRedirectHandler):
    """Follows redirections to http and https, but none from https back to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Returns the request to follow; raises `DownloadError` for one that must not be followed."""
        leads = urlsplit(newurl).scheme
        if leads not in _SCHEMES or (req.type == "https" and leads == "http"):
            fp.close()
            raise DownloadError(
                f"{req.full_url} redirects to {newurl}; only redirections to http and https are followed, and none "
                "from https to http: fetch the file by hand if you trust it."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
