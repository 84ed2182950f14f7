"""Where released files lie on this machine: in a cache folder, downloaded into it where they are missing.

Only a name asks for that: `gem:NAME` and `aml:NAME` (`aml_edge.networks.released`).
"""

from __future__ import annotations

import os
from pathlib import Path

from aml_edge.downloading.downloads import RemoteFile, download, require_right
from aml_edge.networks.released_files import ReleasedFile
from aml_edge.networks.torch_file import TORCH_BEGINNINGS
from aml_edge.progress import SayingProgress

CACHE_VARIABLE = "AML_EDGE_CACHE"
MOST_BYTES = 1_000_000_000
"""Of any of them: the largest backbone, a ResNet-152, has 60 M parameters of four bytes."""


def cache_folder() -> Path:
    """Returns the folder of `AML_EDGE_CACHE`, else `aml-edge` in the user's cache folder (XDG)."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aml-edge"


def cached(file: ReleasedFile) -> Path | None:
    """Returns where a released file lies under one of its names, checked; None where it was never downloaded.

    Raises:
        DownloadError: it is there, but damaged, or another file.
    """
    for name in file.names:
        path = cache_folder() / name
        if path.is_file():
            require_right(_remote(file), path)
            return path
    return None


def fetched(file: ReleasedFile, progress: SayingProgress) -> Path:
    """Returns where a released file lies, downloaded if it did not before.

    Raises:
        DownloadError: it cannot be had, or is not the right file.
        OSError: the cache folder cannot be written to.
    """
    path = cached(file)
    if path is None:
        path = cache_folder() / file.names[0]
        download(_remote(file), path, progress=progress)
    return path


def _remote(file: ReleasedFile) -> RemoteFile:
    return RemoteFile(file.urls, file.sha256, TORCH_BEGINNINGS, MOST_BYTES)
