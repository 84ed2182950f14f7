"""Images of an object store: what lies under a URL of fsspec's, such as ``s3://bucket/photos``, and one object's bytes.

What a store needs to let anyone in (keys, a region, another endpoint) is taken from where its own tools take it: the
environment, its configuration files, the machine's role. None of it is kept or sent to other machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aml_edge.errors import DatasetError, DownloadError, ImageError, MissingExtraError, UsageError
from aml_edge.image_loading import require_image_size

SEPARATOR = "://"
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs")}
"""Scheme → the package that reads it, and the extra that brings it."""
_VERSIONS = ("ETag", "etag", "md5Hash", "crc32c", "content_md5", "mtime", "LastModified", "updated", "created")
"""What stores say that changes with an object's bytes, the surest first."""


def is_url(location: str) -> bool:
    """Whether a location is fsspec's to read, and no path."""
    return SEPARATOR in location


@dataclass(frozen=True)
class RemoteFile:
    """An object of a store.

    Args:
        url: its address.
        size_bytes: of it, where the store says so.
        version: what the store says that changes with its bytes: an ETag, a checksum, a time.
    """

    url: str
    size_bytes: int | None = None
    version: str = ""

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    @property
    def signature(self) -> str:
        """Size and version."""
        return f"{self.size_bytes} {self.version}"

    def read(self) -> bytes:
        """Returns all bytes of the object.

        Raises:
            ImageError: it is not there, or larger than an image can be.
            DownloadError: the store cannot be reached, refuses, or sent a part only.
        """
        if self.size_bytes is not None:
            require_image_size(self.size_bytes, self.url)
        system, path = _opened(self.url)
        try:
            content: bytes = system.cat_file(path)
        except FileNotFoundError:
            raise ImageError(self.url, "there is no such object") from None
        except Exception as problem:  # each store has errors of its own, and those of its network
            raise _unreachable(self.url, problem) from None
        if self.size_bytes is not None and len(content) != self.size_bytes:
            raise DownloadError(
                f"{self.url} came with {len(content)} bytes, and was listed with {self.size_bytes}; it was changed "
                "meanwhile, or the connection was cut: run the same command again."
            )
        return content


def list_remote(url: str) -> Mapping[str, RemoteFile]:
    """Returns every object below a URL by its path relative to it, sorted; of a single object its name alone.

    Names that begin with a dot are left out, as they are of a folder.

    Raises:
        MissingExtraError: the package that reads such URLs is not installed.
        UsageError: no package does, or nothing is there.
        DatasetError: the store cannot be reached, or refuses.
    """
    system, root = _opened(url)
    try:
        found: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
    except FileNotFoundError:
        found = {}
    except Exception as problem:
        raise DatasetError(f"{url} cannot be listed: {_in_words(problem)}; check its name and your rights.") from None
    if not found:
        raise UsageError(f"`images` is {url!r}, where nothing is; check its name.")
    files = {_below(root, path): _file(system.unstrip_protocol(path), info) for path, info in found.items()}
    return {one: files[one] for one in sorted(files) if not any(part.startswith(".") for part in one.split("/"))}


def open_remote(url: str) -> Any:
    """Returns an object opened to read bytes at any place of it.

    Raises:
        MissingExtraError, UsageError: as `list_remote`.
        DownloadError: it is not there, or the store cannot be reached.
    """
    system, path = _opened(url)
    try:
        return system.open(path, "rb")
    except Exception as problem:
        raise _unreachable(url, problem) from None


def _opened(url: str) -> tuple[Any, str]:
    """Returns fsspec's file system, one a process, and what it calls the URL's path."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("fsspec", "s3", f"reading {url}") from None
    scheme = url.partition(SEPARATOR)[0]
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError:
        package, extra = _EXTRAS.get(scheme, (f"fsspec's package for {scheme}", "s3"))
        raise MissingExtraError(package, extra, f"reading {url}") from None
    except ValueError:
        raise UsageError(
            f"`images` is {url!r}, and fsspec knows no {scheme}{SEPARATOR}; give s3{SEPARATOR}, gs{SEPARATOR} or a "
            "folder."
        ) from None
    return system, str(path)


def _below(root: str, path: str) -> str:
    """Returns an object's path relative to the root; its name where it is the root itself."""
    if path == root:
        return path.rpartition("/")[2]
    return path.removeprefix(root.rstrip("/")).lstrip("/")


def _file(url: str, info: Mapping[str, Any]) -> RemoteFile:
    size = info.get("size")
    version = next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")
    return RemoteFile(url, None if size is None else int(size), version)


def _unreachable(url: str, problem: Exception) -> DownloadError:
    return DownloadError(f"{url} cannot be fetched: {_in_words(problem)}; run the same command again, and it goes on.")


def _in_words(problem: Exception) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__
