"""One connection of a download: appends what is missing of a file to the part that is there.

Source: RFC 9110, sections 13.1.5 (If-Range) and 14 (ranges).
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import FileIO
from pathlib import Path

from aml_edge.downloading.http_opening import BrokenConnectionError, RangeRefusedError, open_url, words_of
from aml_edge.downloading.partial_files import PartState, begin_part, forget_part, part_bytes, state_of
from aml_edge.errors import DownloadError
from aml_edge.progress import SayingProgress

BLOCK_BYTES = 1 << 16
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class TransferLimits:
    """What a connection may take: bytes of the whole file, and seconds without a byte."""

    most_bytes: int
    timeout_s: float


@dataclass(frozen=True)
class Transfer:
    """A file that came whole, as far as the connection tells.

    Args:
        resumed: it went on with a part that was there before.
        proven: the server said where the file ends; else a connection that was cut looks the same.
    """

    resumed: bool
    proven: bool


def transfer(url: str, part: Path, limits: TransferLimits, progress: SayingProgress) -> Transfer:
    """Makes `part` whole: appends what it lacks of the file at `url`, or writes it anew where that cannot be.

    Raises:
        AbsentError: there is no such file.
        BrokenConnectionError: the connection failed; what came before that is in `part`.
        DownloadError: the answer can never be the file, or there is no room for it.
        OSError: the part cannot be written; its path is in the error.
    """
    state = state_of(part, url)
    there = part_bytes(part)
    if state is not None and state.size_bytes == there > 0:
        return Transfer(resumed=True, proven=True)
    asked = {}
    if state is not None and state.validator is not None and there > 0:
        asked = {"Range": f"bytes={there}-", "If-Range": state.validator}
    try:
        response = open_url(url, asked, limits.timeout_s)
    except RangeRefusedError:
        forget_part(part)
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise DownloadError(
                f"{url} answers with a web page, as the login page of a network does; open the address in a browser."
            )
        start = 0
        if response.status == 206:
            start = _start_of_range(response, part, state)
        return _received(url, response, part, start, limits, progress)


def _received(
    url: str, response: HTTPResponse, part: Path, start: int, limits: TransferLimits, progress: SayingProgress
) -> Transfer:
    size = None if response.length is None else start + response.length
    _require_room(url, part, start, size, limits.most_bytes)
    if start == 0:
        begin_part(part, PartState(url, response.headers["ETag"], response.headers["Last-Modified"], size))
    length = "length unknown" if size is None else in_units(size)
    progress.say(f"from {url}: {f'{in_units(start)} are here, of ' if start else ''}{length}")
    done = _append(response, part, start, limits, progress)
    if size is not None and done < size:
        raise BrokenConnectionError(f"the connection ended after {done} of {size} bytes")
    return Transfer(resumed=start > 0, proven=size is not None or bool(response.chunked))


def _start_of_range(response: HTTPResponse, part: Path, state: PartState | None) -> int:
    """Returns where in the file the answer begins, which is where the part ends; a part of another version goes."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    begins = None if found is None else int(found[1])
    if state is None or begins != part_bytes(part) or response.headers["ETag"] not in (None, state.etag):
        forget_part(part)
        raise BrokenConnectionError("the server sent another range than it was asked for")
    return begins


def _require_room(url: str, part: Path, start: int, size: int | None, most_bytes: int) -> None:
    if size is None:
        return
    _require_length(url, part, size, most_bytes)
    free = shutil.disk_usage(part.parent).free
    if size - start > free:
        raise DownloadError(
            f"{url} is {in_units(size)}, of which {in_units(size - start)} are missing, but {part.parent} has "
            f"{in_units(free)} free; free some space, or choose a folder on another disk."
        )


def _append(response: HTTPResponse, part: Path, start: int, limits: TransferLimits, progress: SayingProgress) -> int:
    """Writes what comes and returns the size of the part then."""
    total = start + (response.length or 0)
    done = start
    with (
        part.open("ab", buffering=0) as stream,
        progress.task("downloading, kB", total // 1000) as task,
    ):
        task.advance(start // 1000)
        while block := _read(response):
            _require_length(response.url, part, done + len(block), limits.most_bytes)
            _write(stream, block, part)
            task.advance((done + len(block)) // 1000 - done // 1000)
            done += len(block)
    return done


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(BLOCK_BYTES)
    except (OSError, HTTPException) as problem:
        raise BrokenConnectionError(words_of(problem)) from None


def _write(stream: FileIO, block: bytes, part: Path) -> None:
    """Writes all of a block; an error names the file, which the system's own does not."""
    left = memoryview(block)
    try:
        while left:
            left = left[stream.write(left) :]
    except OSError as problem:
        problem.filename = str(part)
        raise


def _require_length(url: str, part: Path, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        forget_part(part)
        raise DownloadError(
            f"{url} gives {in_units(size)} or more, but the file is expected to have {in_units(most_bytes)} at most; "
            "see what is at that address."
        )


def in_units(size_bytes: int) -> str:
    """Returns a size for people: 10⁹ bytes are a GB, 10⁶ a MB."""
    unit, name = (1e9, "GB") if size_bytes >= 1e9 else (1e6, "MB")
    return f"{size_bytes / unit:.1f} {name}"
