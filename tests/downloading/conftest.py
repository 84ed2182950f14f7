"""A download over the web server that fails in every way, and somebody who listens to what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from aml_edge.downloading.downloads import OFFLINE_VARIABLE, Patience, RemoteFile, download
from aml_edge.errors import DownloadError
from aml_edge.progress import ProgressTask

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/a.bin"
AT_ONCE = Patience(attempts=4, timeout_s=5.0, back_off_s=0.0)


class Listener:
    """A progress that remembers what it was told, and the kilobytes of each connection."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[list[int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        assert description == "downloading, kB"
        counts = [total, 0]
        self.tasks.append(counts)

        class Task:
            def advance(self, steps: int = 1, *, status: str = "") -> None:
                counts[1] += steps

        yield Task()


@dataclass
class Case:
    """A server, where a download goes to, and who listens.

    Args:
        server: has the file.
        to: where it goes.
        listener: hears what is said.
    """

    server: Any
    to: Path
    listener: Listener = field(default_factory=Listener)

    path: ClassVar[str] = PATH
    content: ClassVar[bytes] = CONTENT
    sha256: ClassVar[str] = SHA256
    wrong: ClassVar[str] = "0" if SHA256[0] != "0" else "1"
    other: ClassVar[bytes] = OTHER
    other_sha256: ClassVar[str] = hashlib.sha256(OTHER).hexdigest()

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{self.server.url}{PATH}"

    def fetch(self, sha256: str = "", *, patience: Patience = AT_ONCE, **changes: Any) -> None:
        """Downloads the file; more keywords are fields of `RemoteFile`."""
        remote = RemoteFile(**({"urls": (self.url,), "sha256": sha256} | changes))
        download(remote, self.to, progress=self.listener, patience=patience)

    def refusal(self, sha256: str = "", **changes: Any) -> str:
        """Returns what a download that must fail says; there is no file afterwards."""
        with pytest.raises(DownloadError) as refusal:
            self.fetch(sha256, **changes)
        assert not self.to.exists()
        return str(refusal.value)

    def another(self) -> Case:
        """Returns the same download, of somebody else who listens."""
        return Case(self.server, self.to)

    @property
    def left(self) -> set[str]:
        """The names of what lies in the folder."""
        return {file.name for file in self.to.parent.iterdir()}


@pytest.fixture
def case(faulty_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    faulty_server.files[PATH] = CONTENT
    return Case(faulty_server, tmp_path / "cache" / "a.bin")


@pytest.fixture
def fault(faulty_server: Any) -> Any:
    """Returns a function that makes the next answers go wrong."""

    def plan(*faults: dict[str, Any]) -> None:
        faulty_server.faults[PATH] = [faulty_server.fault(**one) for one in faults]

    return plan
