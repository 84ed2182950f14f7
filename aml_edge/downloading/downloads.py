"""Files from the web, whole and right or not at all: resumed, tried again, compared with their hash, renamed.

Nothing here decides what to download; whoever calls was asked to.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from aml_edge.downloading.http_opening import AbsentError, BrokenConnectionError
from aml_edge.downloading.http_transfer import Transfer, TransferLimits, in_units, transfer
from aml_edge.downloading.partial_files import forget_part, part_bytes, part_of
from aml_edge.downloading.published_hashes import HashDifference, difference
from aml_edge.downloading.records import DownloadRecord, read_record, record_of, record_path, write_record
from aml_edge.errors import DownloadError
from aml_edge.file_lock import locked
from aml_edge.files import file_sha256
from aml_edge.progress import SayingProgress, SilentProgress

OFFLINE_VARIABLE = "AML_EDGE_OFFLINE"
_WORTH_BYTES = 1_000_000
"""A connection that brings so much is no failure: a long file over a bad line may take many of them."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to be had from the web.

    Args:
        urls: where it is, tried in order: the next one where there is no such file.
        sha256: the first hex digits of its SHA-256, or all 64; empty where none is known.
        beginnings: what it may begin with, as files of its kind do; empty where anything will do.
        most_bytes: how long it can be.
        md5: its MD5, 32 hex digits; empty where none is known.
    """

    urls: tuple[str, ...]
    sha256: str = ""
    beginnings: tuple[bytes, ...] = ()
    most_bytes: int = 1_000_000_000
    md5: str = ""

    @property
    def has_hash(self) -> bool:
        """Whether a hash of it is known."""
        return bool(self.sha256 or self.md5)

    def difference(self, file: Path, sha256: str) -> HashDifference | None:
        """Returns how a file with this SHA-256 differs from the published one; None where it does not."""
        return difference(file, sha256, sha256=self.sha256, md5=self.md5)


@dataclass(frozen=True)
class Patience:
    """How long a download keeps trying.

    Args:
        attempts: connections in a row that fail with little to show for it.
        timeout_s: seconds without a byte after which a connection has failed.
        back_off_s: pause after the first that failed, twice as long after each further one.
    """

    attempts: int = 4
    timeout_s: float = 30.0
    back_off_s: float = 1.0


PATIENCE = Patience()


def download(
    remote: RemoteFile, path: Path, *, progress: SayingProgress | None = None, patience: Patience = PATIENCE
) -> None:
    """Downloads a file to `path`, unless it is there already; either way it is the right one afterwards.

    What came before an error stays beside `path` and is gone on with next time. Right is a file whose SHA-256 is the
    published one and, where the file was downloaded before, the one that it had then.

    Raises:
        DownloadError: the file cannot be had, or is not the right one.
        OSError: it cannot be written.
    """
    progress = progress or SilentProgress()
    if path.exists():
        require_right(remote, path)
        return
    _require_online(remote, path)
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, lambda: progress.say(f"another process downloads {path.name}; waiting for it")):
        if path.exists():
            require_right(remote, path)
            return
        progress.say(f"downloading {path.name} to {path.parent}")
        url = _fetch_anywhere(remote, path, progress, patience)
        record = _right_record(remote, path, url)
        _put_in_place(path, record)
        if not remote.has_hash:
            progress.say(f"no hash of {path.name} is published; its SHA-256 is {record.sha256}")


def require_right(remote: RemoteFile, path: Path) -> str:
    """Returns the SHA-256 of the file at `path`.

    Raises:
        DownloadError: it has not the published hash, that of its record, or its kind.
    """
    record, sha256 = read_record(path), file_sha256(path)
    if not _begins_right(remote, path):
        raise DownloadError(f"{path} is no file of its kind; delete it and run the same command again.")
    if differs := remote.difference(path, sha256):
        raise DownloadError(
            f"{path} is damaged or another file: its {differs.algorithm} begins with {differs.found}, the published "
            f"one with {differs.published}; delete it and run the same command again."
        )
    if record is not None and record.sha256 != sha256:
        raise DownloadError(
            f"{path} has changed since it was downloaded on {record.date}: its SHA-256 is {sha256}, then it was "
            f"{record.sha256}; delete it and run the same command again."
        )
    return sha256


def _require_online(remote: RemoteFile, path: Path) -> None:
    value = os.environ.get(OFFLINE_VARIABLE, "")
    if value not in ("", "0"):
        raise DownloadError(
            f"`{OFFLINE_VARIABLE}` is {value!r}, so {path.name} is not downloaded; get it from {remote.urls[0]} and "
            f"put it at {path}."
        )


def _fetch_anywhere(remote: RemoteFile, path: Path, progress: SayingProgress, patience: Patience) -> str:
    """Fetches the part from the first URL that has the file, and returns that URL."""
    part, absent = part_of(path), []
    for url in remote.urls:
        try:
            fetched = _fetch(url, path, remote, patience, progress)
            doubtful = fetched.resumed or not fetched.proven
            if doubtful and remote.has_hash and remote.difference(part, file_sha256(part)):
                progress.say("what came is not the published file; fetching it anew")
                forget_part(part)
                fetched = _fetch(url, path, remote, patience, progress)
        except AbsentError as answer:
            absent.append(f"{url} ({answer})")
            continue
        if not (fetched.proven or remote.has_hash):
            forget_part(part)
            raise DownloadError(
                f"{url} does not say how long the file is, and no hash of it is known, so nobody can tell whether it "
                f"came whole; fetch it by hand and put it at {path}."
            )
        return url
    raise DownloadError(
        f"{path.name} is not where it was published: {', '.join(absent)}; find it elsewhere and put it at {path}."
    )


def _fetch(url: str, path: Path, remote: RemoteFile, patience: Patience, progress: SayingProgress) -> Transfer:
    """Makes the part whole, in as many connections as it takes."""
    part, limits = part_of(path), TransferLimits(remote.most_bytes, patience.timeout_s)
    most, failures = part_bytes(part), 0
    while True:
        try:
            return transfer(url, part, limits, progress)
        except BrokenConnectionError as problem:
            there = part_bytes(part)
            failures = 1 if there >= most + _WORTH_BYTES else failures + 1
            most = max(most, there)
            if failures >= patience.attempts:
                kept = f"{in_units(there)} are kept and gone on with" if there else "nothing is kept"
                raise DownloadError(
                    f"{url} could not be fetched in {failures} attempts, the last one: {problem}; {kept}: run the same "
                    f"command again, or fetch the file by hand and put it at {path}."
                ) from None
            pause = patience.back_off_s * 2 ** (failures - 1)
            progress.say(f"{problem}; trying again in {pause:g} s")
        time.sleep(pause)


def _right_record(remote: RemoteFile, path: Path, url: str) -> DownloadRecord:
    """Returns the record of the part that has come; a part that is not the right file is removed."""
    part, before = part_of(path), read_record(path)
    if not _begins_right(remote, part):
        forget_part(part)
        raise DownloadError(
            f"{url} gives something else than {path.name}, which would begin in another way; it was not kept: see what "
            f"is at that address, or find the file elsewhere and put it at {path}."
        )
    record = record_of(url, part)
    if differs := remote.difference(part, record.sha256):
        forget_part(part)
        raise DownloadError(
            f"{url} gives a file whose {differs.algorithm} begins with {differs.found}, but the published one begins "
            f"with {differs.published}; it was not kept: try again later, or find the file elsewhere."
        )
    if before is None or before.sha256 == record.sha256:
        return before or record
    forget_part(part)
    raise DownloadError(
        f"{url} gives another file than on {before.date}: its SHA-256 is {record.sha256}, then it was {before.sha256}; "
        f"it was not kept: if that is as it should be, delete {record_path(path)} and run the same command again."
    )


def _begins_right(remote: RemoteFile, file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(max(map(len, remote.beginnings), default=0))
    return not remote.beginnings or start.startswith(remote.beginnings)


def _put_in_place(path: Path, record: DownloadRecord) -> None:
    """Renames the part to its final name, its bytes on the disk before."""
    part = part_of(path)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    write_record(path, record)
    part.replace(path)
    forget_part(part)
