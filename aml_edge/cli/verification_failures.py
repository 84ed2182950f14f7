"""Files of a verification that get no verdict, while the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from aml_edge.errors import AmlEdgeError, ArtifactError

if TYPE_CHECKING:
    from aml_edge.artifact import Artifact


@dataclass(frozen=True)
class UnloadedFile:
    """A file that could not be loaded, and why."""

    path: Path
    error: str


class Failures:
    """Files that have no verdict of this run in them: each is said when it is met, and the others go on.

    Args:
        console: where it is said.
        alone: whether there is no other file; then that it cannot be loaded is the command's error.
    """

    def __init__(self, console: Console, *, alone: bool) -> None:
        self.console = console
        self.unloaded: list[UnloadedFile] = []
        self.unwritten: list[Path] = []
        self._alone = alone

    def without_unreadable(self, paths: Sequence[Path]) -> list[Artifact]:
        """Returns the artifacts at those paths that carry a manifest; one that does not exist is wrong usage."""
        from aml_edge.formats import read_artifact

        files = []
        for path in paths:
            try:
                files.append(read_artifact(path))
            except ArtifactError as problem:
                self.cannot_load(path, problem)
        return files

    def cannot_load(self, path: Path, problem: AmlEdgeError) -> None:
        """Remembers a file that cannot be read or run here."""
        if self._alone:
            raise problem
        self._say(problem)
        self.unloaded.append(UnloadedFile(path, str(problem)))

    def cannot_write(self, path: Path, problem: AmlEdgeError) -> None:
        """Remembers a file whose verdict could not be written into it."""
        self._say(problem)
        self.unwritten.append(path)

    def _say(self, problem: AmlEdgeError) -> None:
        self.console.print(Text(f"{problem}\n", "red"), soft_wrap=True)
