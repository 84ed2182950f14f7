"""Vectors in a FAISS file, whatever kind of index it holds, read by another process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_edge.errors import ForeignIndexError, MissingExtraError
from aml_edge.vectors.faiss_process import FaissHeader, parts
from aml_edge.vectors.npy_vectors import head_of
from aml_edge.vectors.source import SourceDescription, SourceOptions, VectorBlock

# -P: a file beside the user that is named like a library is not that library.
COMMAND = (sys.executable, "-P", "-c", "from aml_edge.vectors.faiss_process import main; main()")
LARGEST_DIMENSION = 1 << 20
_LONGEST_HEADER = 1 << 12
_PATIENCE_SECONDS = 30


class FaissVectors:
    """A VectorSource over a FAISS file.

    Its ids are the numbers of an `IndexIDMap`, or those of inverted lists where they are not 0, 1, 2, …; vectors come
    in the order in which they were added, and those of inverted lists in the order of their numbers.

    Args:
        location: the file.
        options: none of them is for it.

    Raises:
        ForeignIndexError: the file is damaged, or its kind of index cannot give vectors back.
        MissingExtraError: FAISS is not installed.
    """

    def __init__(self, location: str, options: SourceOptions) -> None:
        if find_spec("faiss") is None:
            raise MissingExtraError("faiss-cpu", "faiss", "reading a FAISS file")
        path = Path(location)
        self._path = path
        self.files: Sequence[Path] = (path,)
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            (*COMMAND, str(path)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        try:
            header = self._read_header()
        except BaseException:
            self.close()
            raise
        self._labelled = header.labelled
        self.description = SourceDescription(
            kind=f"FAISS {header.kind}, {header.metric}",
            name=path.name,
            count=header.count,
            dimension=header.dimension,
            dtype="float32",
            has_ids=header.labelled,
            approximate=header.approximate,
        )

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields its rows and, where it has such, their numbers as text."""
        dimension = self.description.dimension
        for _, size in parts(self.description.count, dimension):
            labels = np.frombuffer(self._read(8 * size), np.int64) if self._labelled else None
            rows: npt.NDArray[np.float32] = np.frombuffer(self._read(4 * size * dimension), np.float32)
            ids = None if labels is None else tuple(str(label) for label in labels.tolist())
            yield VectorBlock(rows.reshape(size, dimension), ids)

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read_header(self) -> FaissHeader:
        assert self._process.stdout is not None
        line = self._process.stdout.readline(_LONGEST_HEADER)
        if not line.endswith(b"\n"):
            raise self._failure()
        header = FaissHeader(**json.loads(line))
        if header.count < 1 or not 1 <= header.dimension <= LARGEST_DIMENSION:
            raise ForeignIndexError(
                f"{self._path} holds {header.count} vectors of {header.dimension} values; an index needs at least one "
                "of each: write it again with faiss.write_index after vectors were added."
            )
        return header

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        content = self._process.stdout.read(size)
        if len(content) != size:
            raise self._failure()
        return content

    def _failure(self) -> ForeignIndexError:
        try:
            code = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return ForeignIndexError(f"FAISS does not go on with {self._path}; write it again with faiss.write_index.")
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        reason = lines[-1].strip().rstrip(".") if lines else "FAISS said nothing"
        if code < 0:
            reason = f"FAISS ended with {signal.Signals(-code).name}: {reason}"
        return ForeignIndexError(f"{self._path} cannot be read by FAISS: {reason}; write it with faiss.write_index.")


def is_faiss(location: str) -> bool:
    """Whether a path is a file that begins with one of FAISS's four letters for an index."""
    letters = head_of(location)[:4]
    return len(letters) == 4 and letters[:1] == b"I" and letters.isalnum()
