"""Downloads a published data set and puts it into the layout that is read: whole and checked, or not at all.

Beside the folder to come, `NAME.archives/` takes the files that are downloaded and the record of each, which stays, and
`NAME.partial/` what was unpacked of them: a folder for each file, which is there once all of it is. When all are, they
become one folder; the data set's reader looks at it; then it gets its name. A process that is killed at any point
leaves no more than this, and the same call goes on with it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from aml_edge.datasets.fetch_places import FetchPlaces, merge
from aml_edge.datasets.fetched_files import FetchOptions, unpack_file
from aml_edge.datasets.published import PublishedDataset, PublishedFile
from aml_edge.datasets.reading_check import ReadableDataset, require_readable
from aml_edge.downloading.http_transfer import in_units
from aml_edge.downloading.records import DownloadRecord
from aml_edge.errors import DatasetError, DownloadError, UnsafePickleError, UsageError
from aml_edge.file_lock import locked
from aml_edge.files import write_text_atomically
from aml_edge.progress import SayingProgress

MARKER = "downloaded.json"


@dataclass(frozen=True)
class FetchReport:
    """A data set that is there.

    Args:
        name: of the data set.
        path: its folder.
        new: whether it was fetched now.
        files: what it was made of, by name.
        holds: what its reader found, None where it was there before.
    """

    name: str
    path: Path
    new: bool
    files: Mapping[str, DownloadRecord]
    holds: ReadableDataset | None


def fetch(dataset: PublishedDataset, out: Path, options: FetchOptions, progress: SayingProgress) -> FetchReport:
    """Returns the data set in `out/NAME`, fetched if it is not there.

    Raises:
        UsageError: the folder is there and is something else, or files to be fetched by hand are not.
        DownloadError: a file cannot be had, is not the right one, or there is no room.
        ArchiveError: an archive is damaged, or holds what it must not.
        DatasetError: what came out of it cannot be read.
        OSError: a folder cannot be written to.
    """
    places = FetchPlaces(out, dataset.name)
    if is_fetched(places.root) and not places.unfinished:
        return _report_there(places)
    if places.root.exists() and not is_fetched(places.root):
        raise UsageError(
            f"`out` is {out}, where {places.root} is something that was not downloaded here; move it away, or name "
            "another --out."
        )
    if not is_fetched(places.root):
        require_obtainable(dataset, options)
    with locked(places.lock, lambda: progress.say(f"another process fetches {dataset.name}; waiting for it")):
        if is_fetched(places.root):
            places.clean()
            return _report_there(places)
        if not places.records.exists():
            require_room(dataset, out, options)
            _unpack_all(dataset, places, options, progress)
        holds = _assemble(dataset, places, progress)
        places.clean()
    return FetchReport(dataset.name, places.root, True, _read_records(places.root / MARKER), holds)


def is_fetched(root: Path) -> bool:
    """Returns whether a folder is a data set that was fetched, whole."""
    return (root / MARKER).is_file()


def require_obtainable(dataset: PublishedDataset, options: FetchOptions) -> None:
    """Raises `UsageError` where a file is not to be had as the options say, or a hash is of no file."""
    names = [file.name for file in dataset.files]
    unknown = [name for name in options.sha256 if name not in names]
    if unknown:
        raise UsageError(
            f"`sha256` is of {unknown[0]!r}, which is no file of {dataset.name}; name one that --dry-run lists."
        )
    if options.by_hand is None:
        elsewhere = [file for file in dataset.files if not file.is_fetched]
        if elsewhere:
            raise UsageError(
                f"{dataset.name} is not published where it can be downloaded here; fetch {_listed(elsewhere)} by hand "
                "and pass --from with their folder."
            )
        return
    if not options.by_hand.is_dir():
        raise UsageError(f"`from` is {options.by_hand}, which is no folder; name the one that the files lie in.")
    missing = [file for file in dataset.files if not (options.by_hand / file.name).is_file()]
    if missing:
        raise UsageError(
            f"`from` is {options.by_hand}, which lacks {len(missing)} of {len(names)} files of {dataset.name}; fetch "
            f"{_listed(missing)} and put them there."
        )


def require_room(dataset: PublishedDataset, out: Path, options: FetchOptions) -> None:
    """Raises `DownloadError` where there is less room than the data set needs, as far as its sizes are known."""
    needed, free = _room_needed(dataset, FetchPlaces(out, dataset.name), options), free_bytes(out)
    if needed > free:
        raise DownloadError(
            f"{dataset.name} needs about {in_units(needed)}, but {out} has {in_units(free)} free; free some space, "
            "or name a folder on another disk: --out."
        )


def free_bytes(out: Path) -> int:
    """Returns how much room there is where a folder is, or will be."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _listed(files: list[PublishedFile]) -> str:
    shown = ", ".join(f"{file.name} ({file.url})" for file in files[:3])
    return f"{shown}, …" if len(files) > 3 else shown


def _room_needed(dataset: PublishedDataset, places: FetchPlaces, options: FetchOptions) -> int:
    """Returns about how many bytes are still to be written, archives that are not kept at their most."""
    left = [file.size_bytes or 0 for file in dataset.files if not places.unpacked(file).exists()]
    if options.by_hand is not None:
        return sum(left)
    there = sum(path.stat().st_size for path in places.archives.rglob("*") if path.is_file())
    return sum(left) + max(0, (sum(left) if options.keep_archives else max(left, default=0)) - there)


def _unpack_all(
    dataset: PublishedDataset, places: FetchPlaces, options: FetchOptions, progress: SayingProgress
) -> None:
    """Leaves a folder for each file, and then the records of all."""
    records = {}
    for number, file in enumerate(dataset.files, 1):
        progress.say(f"file {number} of {len(dataset.files)}: {file.name}")
        records[file.name] = unpack_file(file, places, options, progress)
    text = json.dumps({name: asdict(record) for name, record in records.items()}, indent=2) + "\n"
    write_text_atomically(places.records, text)


def _assemble(dataset: PublishedDataset, places: FetchPlaces, progress: SayingProgress) -> ReadableDataset:
    """Makes one folder of what was unpacked, reads it, and gives it its name."""
    try:
        for file in dataset.files:
            if places.unpacked(file).exists():
                merge(places.unpacked(file), places.assembled)
        holds = require_readable(places.assembled, progress)
    except (DatasetError, UnsafePickleError) as problem:
        raise type(problem)(
            f"{dataset.name} came whole, but cannot be read: {problem} Look at {places.assembled}; to begin again, "
            f"delete {places.partial}."
        ) from None
    shutil.copyfile(places.records, places.partial / MARKER)
    (places.partial / MARKER).replace(places.assembled / MARKER)
    places.assembled.rename(places.root)
    return holds


def _report_there(places: FetchPlaces) -> FetchReport:
    return FetchReport(places.name, places.root, False, _read_records(places.root / MARKER), None)


def _read_records(marker: Path) -> Mapping[str, DownloadRecord]:
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        return {str(name): DownloadRecord(**record) for name, record in content.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise DownloadError(f"{marker} is damaged; delete {marker.parent} and run the same command again.") from None
