"""What was downloaded, from where and when, kept beside the file: where no hash is published, ours takes its place."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from aml_edge.errors import DownloadError
from aml_edge.files import file_sha256, write_text_atomically


@dataclass(frozen=True)
class DownloadRecord:
    """Where a file came from, its size and SHA-256 (64 hex digits), and the day (UTC, ISO 8601) it was first seen."""

    url: str
    size_bytes: int
    sha256: str
    date: str


def record_path(path: Path) -> Path:
    """Returns where the record of a file lies: beside it."""
    return path.with_name(f"{path.name}.json")


def record_of(url: str, file: Path) -> DownloadRecord:
    """Returns the record of a file that has come from a URL today."""
    return DownloadRecord(url, file.stat().st_size, file_sha256(file), datetime.now(UTC).date().isoformat())


def write_record(path: Path, record: DownloadRecord) -> None:
    """Writes the record of the file at `path`."""
    write_text_atomically(record_path(path), json.dumps(asdict(record), indent=2) + "\n")


def read_record(path: Path) -> DownloadRecord | None:
    """Returns the record of the file at `path`, or None where there is none; raises `DownloadError` for a damaged one.

    A record outlives its file, so that a file that was deleted and comes again is compared with what it was.
    """
    place = record_path(path)
    try:
        record = DownloadRecord(**json.loads(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError):
        record = None
    if record is None or not isinstance(record.sha256, str):
        raise DownloadError(f"{place} is no record of a download, or a damaged one; look at it and delete it.")
    return record
