"""One file of a published data set: had from the web or from a folder, found right, and unpacked.

Each has a record with its SHA-256 from the first time on, in the archives' folder, wherever it came from; another file
under its name is refused.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from aml_edge.datasets.fetch_places import FetchPlaces, remove
from aml_edge.datasets.published import PublishedFile
from aml_edge.downloading.archives import extract
from aml_edge.downloading.downloads import PATIENCE, Patience, RemoteFile, download, require_right
from aml_edge.downloading.records import DownloadRecord, read_record, record_path, write_record
from aml_edge.errors import ArchiveError, DownloadError
from aml_edge.progress import SayingProgress

_MD5 = re.compile(r"\s*\\?([0-9a-f]{32})\b")
"""What md5sum writes begins so; the name after it may be any."""
_MOST_MD5_BYTES = 4096


@dataclass(frozen=True)
class FetchOptions:
    """How a data set is fetched.

    Args:
        by_hand: a folder with all files, which are read and left as they are; None to download them.
        keep_archives: whether downloaded archives are kept once they are unpacked.
        sha256: by file name, hashes that the caller knows; the first hex digits, or all 64.
        patience: of downloads.
    """

    by_hand: Path | None = None
    keep_archives: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)
    patience: Patience = PATIENCE


def unpack_file(
    file: PublishedFile, places: FetchPlaces, options: FetchOptions, progress: SayingProgress
) -> DownloadRecord:
    """Leaves what is in a file, whole, in its folder of `places`; returns the file's record.

    Raises:
        DownloadError: it cannot be had, or is not the right one.
        ArchiveError: it is damaged, or holds what it must not.
        OSError: a folder cannot be written to.
    """
    unpacked, downloaded = places.unpacked(file), places.archive(file)
    if not unpacked.exists():
        known = read_record(downloaded) is not None
        if options.by_hand is None:
            archive = _downloaded(file, places, options, progress)
        else:
            archive = _by_hand(file, places, options)
        try:
            if file.is_archive:
                extract(archive, unpacked, file.placement, progress=progress)
            else:
                _copy(archive, unpacked, file)
        except ArchiveError:
            if options.by_hand is not None and not known:
                record_path(downloaded).unlink(missing_ok=True)  # one that is cut off is not what later ones must be
            raise
    record = read_record(downloaded)
    if record is None:
        remove(unpacked)
        raise DownloadError(f"{record_path(downloaded)} is gone; run the same command again.")
    if options.by_hand is None:  # else nothing is deleted: the two folders may be one
        listed = _md5_path(downloaded)
        for done in (listed, record_path(listed), *(() if options.keep_archives else (downloaded,))):
            done.unlink(missing_ok=True)
    return record


def _downloaded(file: PublishedFile, places: FetchPlaces, options: FetchOptions, progress: SayingProgress) -> Path:
    path, md5 = places.archive(file), file.md5
    if file.md5_url:
        listed = _md5_path(path)
        remote = RemoteFile((file.md5_url,), most_bytes=_MOST_MD5_BYTES)
        if not listed.exists():
            download(remote, listed, patience=options.patience)
        md5 = _md5_in(listed)
    download(_remote(file, options, md5), path, progress=progress, patience=options.patience)
    return path


def _by_hand(file: PublishedFile, places: FetchPlaces, options: FetchOptions) -> Path:
    """Returns where a file lies that somebody else fetched, found right and recorded."""
    assert options.by_hand is not None
    path, md5 = options.by_hand / file.name, file.md5
    if file.md5_url and (listed := path.with_name(file.md5_url.rpartition("/")[2])).is_file():
        md5 = _md5_in(listed)
    sha256 = require_right(_remote(file, options, md5), path)
    before = read_record(places.archive(file))
    if before is not None and before.sha256 != sha256:
        raise DownloadError(
            f"{path} is another file than on {before.date}: its SHA-256 is {sha256}, then it was {before.sha256}; if "
            f"that is as it should be, delete {record_path(places.archive(file))} and run the same command again."
        )
    if before is None:
        today = datetime.now(UTC).date().isoformat()
        write_record(places.archive(file), DownloadRecord(file.url, path.stat().st_size, sha256, today))
    return path


def _remote(file: PublishedFile, options: FetchOptions, md5: str) -> RemoteFile:
    sha256 = options.sha256.get(file.name, file.sha256)
    return RemoteFile((file.url,), sha256, file.beginnings, file.most_bytes, md5)


def _md5_path(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.md5")


def _md5_in(listed: Path) -> str:
    found = _MD5.match(listed.read_bytes()[:_MOST_MD5_BYTES].decode("latin1"))
    if found is None:
        raise DownloadError(f"{listed} does not begin with an MD5; delete it and run the same command again.")
    return found[1]


def _copy(source: Path, unpacked: Path, file: PublishedFile) -> None:
    """Puts a file that is no archive into a folder of its own, there once it is whole."""
    place = file.placement.place_of((Path(file.name).name,))
    assert place is not None
    staging = unpacked.with_name(f".{unpacked.name}.extracting")
    remove(staging)
    (staging / place).parent.mkdir(parents=True)
    shutil.copyfile(source, staging / place)
    staging.rename(unpacked)
