"""What an unfinished index keeps on disk, so that a build which was killed goes on where it was.

A folder beside the index to come: `plan.json` says what is being built, `shards/` holds the embeddings of so many
images each and the SHA-256 of their files, written atomically. A shard carries a signature of its images' files and is
made again where one of them has changed, or where the shard itself is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from aml_edge.embedder import Embeddings
from aml_edge.errors import TeacherIndexError
from aml_edge.files import write_text_atomically, written_atomically
from aml_edge.image_loading import ImageItem
from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import SINGLE_SCALE, Scales
from aml_edge.space import EmbeddingSpace

if sys.platform != "win32":
    import fcntl

PLAN_FILE = "plan.json"
SHARDS_FOLDER = "shards"
LOCK_FILE = "lock"
PLAN_VERSION = 1
_ROWS, _HASHES, _SIGNATURE, _UNREADABLE = "embeddings", "sha256", "signature", "unreadable"
_SHA256_BYTES = 32


@dataclass(frozen=True)
class BuildPlan:
    """All that the bytes of an index depend on, but the pixels.

    Args:
        space, preprocessing: of the teacher.
        images: how many.
        ids_sha256: SHA-256 of their ids, one a line.
        shard_images: images of a shard.
        engine, decoder: what embeds and what decodes, with versions; another one may round otherwise.
        scales: at which the teacher sees each image; an older plan without them means one.
    """

    space: EmbeddingSpace
    preprocessing: Preprocessing
    images: int
    ids_sha256: str
    shard_images: int
    engine: str
    decoder: str
    scales: Scales = SINGLE_SCALE

    def dumps(self) -> str:
        """Returns the plan as JSON text."""
        return json.dumps(self._record(), indent=2, sort_keys=True) + "\n"

    def differing(self, text: str) -> tuple[str, ...]:
        """Returns the names of what is different in a plan that was written down."""
        try:
            other = json.loads(text)
        except (ValueError, RecursionError):
            return ("all of it",)
        ours = self._record()
        if not isinstance(other, dict) or {"scales", *other} != set(ours):
            return ("all of it",)
        other.setdefault("scales", list(SINGLE_SCALE))
        return tuple(name for name in ours if ours[name] != other[name])

    def _record(self) -> dict[str, object]:
        parts = {"space": self.space.to_json(), "preprocessing": self.preprocessing.to_json()}
        return {"version": PLAN_VERSION, **asdict(self), **parts, "scales": list(self.scales)}


@dataclass(frozen=True)
class Shard:
    """What a build did of so many images.

    Args:
        rows: (n, D) embeddings of those that could be read.
        hashes: n, the SHA-256 of each one's file, 64 hex digits.
        unreadable: places, in the whole list of images, of those that could not.
    """

    rows: Embeddings
    hashes: tuple[str, ...]
    unreadable: tuple[int, ...]

    @property
    def summary(self) -> ShardSummary:
        """What it holds."""
        return ShardSummary(len(self.rows), self.unreadable)


@dataclass(frozen=True)
class ShardSummary:
    """What a shard on disk holds.

    Args:
        rows: how many embeddings.
        unreadable: places, in the whole list of images, of those that have none.
    """

    rows: int
    unreadable: tuple[int, ...]


def begin_build(folder: Path, plan: BuildPlan, *, restart: bool) -> None:
    """Leaves the folder with this plan, and with the shards of this plan alone.

    Raises:
        TeacherIndexError: it holds shards of another plan, and is not to be started again; or it is no unfinished
            index.
    """
    text = _planned(folder)
    differing = () if text is None else plan.differing(text)
    shards = folder / SHARDS_FOLDER
    nothing_lost = shards.is_dir() and not any(shards.iterdir())
    if differing and not restart and not nothing_lost:
        raise TeacherIndexError(
            f"{folder} holds an unfinished index of another plan (different {', '.join(differing)}); finish that one "
            "with its own arguments, pass --restart to throw it away, or give another --out."
        )
    if restart and shards.exists():
        shutil.rmtree(shards)
    shards.mkdir(exist_ok=True)
    write_text_atomically(folder / PLAN_FILE, plan.dumps())


def is_build_of(folder: Path, plan: BuildPlan) -> bool:
    """Whether the folder is what a build under this plan left, be it that its removal has begun."""
    if not folder.is_dir():
        return False
    text = _planned(folder)
    return text is None or not plan.differing(text)


def remove_build(folder: Path) -> None:
    """Removes what an unfinished build kept; shards go first, so that the plan lasts as long as anything large."""
    if (folder / SHARDS_FOLDER).exists():
        shutil.rmtree(folder / SHARDS_FOLDER)
    shutil.rmtree(folder)


@contextmanager
def sole_builder(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it; the lock ends with the process, however that ends.

    Raises:
        TeacherIndexError: another process is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as stream:
        if sys.platform != "win32":
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TeacherIndexError(
                    f"{folder} is being built by another process; wait for it, or give another --out."
                ) from None
        yield


def shard_path(folder: Path, number: int) -> Path:
    """Returns where a shard lies, counted from 0."""
    return folder / SHARDS_FOLDER / f"{number:06d}.safetensors"


def signature_of(ids: Sequence[str], items: Sequence[ImageItem]) -> str:
    """Returns a SHA-256 over ids, boxes, sizes and modification times of image files, or versions of stored ones."""
    digest = hashlib.sha256()
    for one, item in zip(ids, items, strict=True):
        seen = _seen(item.path) if item.stored is None else item.stored.signature
        digest.update(f"{one}\0{item.box}\0{seen}\n".encode())
    return digest.hexdigest()


def write_shard(path: Path, shard: Shard, signature: str) -> None:
    """Writes a shard, whole or not at all."""
    digests = np.frombuffer(bytes.fromhex("".join(shard.hashes)), np.uint8).reshape(-1, _SHA256_BYTES)
    with written_atomically(path) as partial:
        metadata = {_SIGNATURE: signature, _UNREADABLE: json.dumps(list(shard.unreadable))}
        partial.write_bytes(save({_ROWS: shard.rows, _HASHES: digests}, metadata))  # save_file shuts others out


def summarise_shard(path: Path, images: int, dimension: int, signature: str) -> ShardSummary | None:
    """Returns what a shard of so many images holds; None where it is missing, damaged, of other files, or older."""
    try:
        with safe_open(path, framework="numpy") as opened:
            metadata, parts = opened.metadata() or {}, (opened.get_slice(_ROWS), opened.get_slice(_HASHES))
            unreadable = json.loads(metadata[_UNREADABLE])
            found = [(part.get_dtype(), tuple(part.get_shape())) for part in parts]
    except (SafetensorError, OSError, ValueError, KeyError):
        return None
    rows = images - len(unreadable)
    if metadata[_SIGNATURE] != signature or found != [("F32", (rows, dimension)), ("U8", (rows, _SHA256_BYTES))]:
        return None
    return ShardSummary(rows, tuple(unreadable))


def read_shard(path: Path, summary: ShardSummary) -> Shard:
    """Returns a shard whose summary was found right."""
    parts = load_file(path)
    hashes = tuple(digest.tobytes().hex() for digest in parts[_HASHES])
    return Shard(np.ascontiguousarray(parts[_ROWS]), hashes, summary.unreadable)


def _seen(path: Path) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _planned(folder: Path) -> str | None:
    """Returns the text of the plan in a folder, or None where there is none; raises where the folder is another's."""
    if (folder / PLAN_FILE).is_file():
        return (folder / PLAN_FILE).read_text(encoding="utf-8", errors="replace")
    if not all(_is_left_over(part.name) for part in folder.iterdir()):
        raise TeacherIndexError(
            f"{folder} is in the way, and it is no unfinished index; move it, or give another --out."
        )
    return None


def _is_left_over(name: str) -> bool:
    """Whether a build that was killed may have left this before its plan, or after its end."""
    return name in (LOCK_FILE, SHARDS_FOLDER) or name.startswith(".")
