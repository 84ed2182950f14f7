"""Where a published data set lies while it is downloaded and unpacked, and how parts of it become one folder."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.published import PublishedFile
from aml_edge.errors import DatasetError

_OF_DOWNLOADS_UNDER_WAY = (".partial", ".partial.json")
"""So do names end of what a download that was killed leaves; those of locks and temporary files begin with a dot."""


@dataclass(frozen=True)
class FetchPlaces:
    """The folders of one data set.

    Args:
        out: the folder that data sets are put into.
        name: of the data set.
    """

    out: Path
    name: str

    @property
    def root(self) -> Path:
        """The data set itself, there once it is whole."""
        return self.out / self.name

    @property
    def archives(self) -> Path:
        """What is downloaded; the record of each file stays."""
        return self.out / f"{self.name}.archives"

    @property
    def partial(self) -> Path:
        """All that is not whole yet."""
        return self.out / f"{self.name}.partial"

    @property
    def records(self) -> Path:
        """What was unpacked, written when all is."""
        return self.partial / "unpacked.json"

    @property
    def assembled(self) -> Path:
        """The data set before it has its name."""
        return self.partial / "assembled"

    @property
    def lock(self) -> Path:
        """Keeps other processes out."""
        return self.out / f".{self.name}.lock"

    def archive(self, file: PublishedFile) -> Path:
        """Returns where a file is downloaded to."""
        return self.archives / file.name

    def unpacked(self, file: PublishedFile) -> Path:
        """Returns the folder of what was unpacked of a file, there once all of it is."""
        return self.partial / "unpacked" / file.name.replace("/", "-")

    @property
    def unfinished(self) -> bool:
        """Whether something is left of a fetch that was killed, or one is under way."""
        return self.partial.exists() or self.lock.exists()

    def clean(self) -> None:
        """Removes what a data set that is there does not need; archives and records stay."""
        remove(self.partial)
        for left in self.archives.rglob("*"):
            if left.is_file() and (left.name.startswith(".") or left.name.endswith(_OF_DOWNLOADS_UNDER_WAY)):
                left.unlink()
        _remove_empty(self.archives)


def merge(source: Path, target: Path) -> None:
    """Moves a file or a folder into a place where a folder may be; goes on with what a killed process left.

    Raises:
        DatasetError: two different files want one place.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    elif source.is_dir() and target.is_dir():
        for one in sorted(source.iterdir()):
            merge(one, target / one.name)
        source.rmdir()
    elif source.is_file() and target.is_file() and filecmp.cmp(source, target, shallow=False):
        source.unlink()
    else:
        raise DatasetError(
            f"{source} and {target} are different files for one place; what was published may have changed."
        )


def remove(folder: Path) -> None:
    """Removes a folder with all in it, where it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def _remove_empty(folder: Path) -> None:
    """Removes a folder and those in it, as far as there is no file in them."""
    if folder.is_dir():
        for one in sorted(folder.iterdir()):
            if one.is_dir():
                _remove_empty(one)
        if not any(folder.iterdir()):
            folder.rmdir()
