"""Reads the pickles that published data sets come in: containers, text, numbers, arrays of numbers, and no other type.

Two walls. The pickle is parsed without running it: every type that it names must be known, and it may not make more
work than befits its length (`aml_edge.pickle_weight`), so a hostile one is refused before anything of it runs. Then
Python's unpickler reads it, and finds stand-ins under the known names: NumPy itself is never called
(`aml_edge.numpy_stand_ins`), nor is a codec.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from aml_edge.errors import DatasetError, UnsafePickleError
from aml_edge.numpy_stand_ins import STAND_INS
from aml_edge.pickle_weight import Operation, weighed

MOST_BYTES = 1 << 26
"""Of a data set's pickle: each byte can take a hundred in memory; that of SfM-120k has a tenth."""
_LATIN1 = "latin1"
_REFUSED_OPERATIONS = ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER")
"""Types by number, objects from elsewhere, buffers from elsewhere and views of buffers: no data set has them."""
_NUMBERED_MEMORY = ("PUT", "BINPUT", "LONG_BINPUT")
"""Python's unpickler makes room for all numbers up to the one they name: a few bytes could claim gigabytes."""
_NO_TEXT = "?"
_FRAME_HEADER_BYTES = 9


def _latin1_bytes(text: object = "", encoding: object = _LATIN1) -> bytes:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != _LATIN1:
        raise ValueError("it holds bytes in an encoding that is not latin1.")
    return text.encode(_LATIN1)


class _Known:
    """A callable that a pickle may call and may not change."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise ValueError("it changes a function.")


KNOWN: Mapping[str, object] = {
    **{name: made if isinstance(made, type) else _Known(made) for name, made in STAND_INS.items()},
    "_codecs.encode": _Known(_latin1_bytes),
    **{
        f"{module}.{kind.__name__}": _Known(kind) for module in ("builtins", "__builtin__") for kind in (set, frozenset)
    },
    "__builtin__.bytes": _Known(_latin1_bytes),
}
"""By the name that a pickle has for it."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, known: Mapping[str, object]) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding=_LATIN1)
        self._known = known

    def find_class(self, module: str, name: str) -> object:
        """Returns the stand-in of a known name."""
        wanted = f"{module}.{name}"
        _require_known(wanted, self._known)  # a second time: newer protocols can put a name together while it runs
        return self._known[wanted]


def read_pickle(path: Path) -> object:
    """Returns what a pickle holds; arrays come as `NumpyArray`, text and bytes of Python 2 as latin1 text.

    Raises:
        UnsafePickleError: the file wants a type that is not known; the message names it.
        DatasetError: the file is missing, no pickle, or a damaged one.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return unpickled(path.read_bytes())
    except UnsafePickleError as wanted:
        raise UnsafePickleError(
            f"{path} asks for {wanted}, which a data set does not need and which could run code; nothing of the file "
            "was run. Do not trust it; get it again from where it was published."
        ) from None
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read: {problem.strerror}.") from None
    except Exception as problem:  # a damaged pickle raises anything: KeyError, UnpicklingError, OverflowError, …
        reason = str(problem).strip().partition("\n")[0].rstrip(".")
        raise DatasetError(
            f"{path} cannot be read as a pickle ({type(problem).__name__}: {reason}); get it again."
        ) from None


def unpickled(content: bytes, known: Mapping[str, object] = KNOWN) -> object:
    """Returns what the bytes of a pickle hold, made of known types alone.

    Args:
        content: the pickle.
        known: what stands in for each type, by the name that the pickle has for it.

    Raises:
        UnsafePickleError: it wants another type, whose name is all that the message says; nothing of it has run.
        Exception: it is damaged, and what a damaged pickle raises can be anything.
    """
    for wanted in _types_of(weighed(_plain(content))):
        _require_known(wanted, known)
    read: object = _Unpickler(content, known).load()
    return read


def types_named_in(stream: IO[bytes]) -> Iterator[str]:
    """Yields the full name of every type that the stream's next pickle names, found without running it.

    Raises:
        ValueError: the stream holds no pickle, or a damaged one.
    """
    return _types_of(weighed(pickletools.genops(stream)))


def _types_of(operations: Iterable[Operation]) -> Iterator[str]:
    """Yields the names; a name that is put together from two texts is followed as honest files put it together."""
    pushed = [_NO_TEXT, _NO_TEXT]
    memory: dict[int, str] = {}
    for operation, argument, _ in operations:
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(pushed)
        if operation.name == "MEMOIZE":
            memory[len(memory)] = pushed[-1]
        elif operation.name.endswith("PUT") and isinstance(argument, int):
            memory[argument] = pushed[-1]
        elif operation.name.endswith("GET") and isinstance(argument, int):
            pushed = [pushed[-1], memory.get(argument, _NO_TEXT)]
        elif operation.name != "FRAME":
            is_text = isinstance(argument, str) and operation.name not in ("GLOBAL", "INST")
            pushed = [pushed[-1], str(argument) if is_text else _NO_TEXT]


def _plain(content: bytes) -> Iterator[Operation]:
    """Yields a pickle's operations; raises `ValueError` at one that no data set needs.

    A frame says how much of the file to read at a time. Python's unpickler believes one that ends within an operation,
    and then may run other operations than those that were looked at here.
    """
    frame_end = previous = 0
    for operation, argument, place in pickletools.genops(content):
        if operation.name in _REFUSED_OPERATIONS:
            raise ValueError(f"it uses {operation.name}")
        if operation.name in _NUMBERED_MEMORY and isinstance(argument, int) and argument > len(content):
            raise ValueError("it claims more memory than its own length")
        assert place is not None
        is_frame, is_last = operation.name == "FRAME", operation.name == "STOP"
        if (is_frame and place < frame_end) or (is_last and place + 1 < frame_end) or previous < frame_end < place:
            raise ValueError("it has a frame of a wrong length")
        if is_frame and isinstance(argument, int):
            frame_end = place + _FRAME_HEADER_BYTES + argument
        previous = place
        yield operation, argument, place


def _require_known(wanted: str, known: Mapping[str, object]) -> None:
    if wanted not in known:
        raise UnsafePickleError(wanted)
