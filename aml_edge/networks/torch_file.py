"""Reads files of `torch.save` made by others: tensors, NumPy arrays, plain values, and no other type.

Three walls. The pickle is parsed without running it and every type that it names must be known; so a hostile one is
refused before anything of it runs. Then PyTorch reads it with its restricted unpickler. NumPy's own reconstruction is
never called: its array of objects can be talked into taking raw bytes for pointers; two small classes stand in for it.
"""

from __future__ import annotations

import io
import mmap
import struct
import threading
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import torch

from aml_edge.errors import CheckpointError, UnsafePickleError
from aml_edge.numpy_stand_ins import STAND_INS
from aml_edge.safe_pickle import types_named_in

_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_TENSOR_TYPES = (
    "_codecs.encode",
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch.nn.parameter.Parameter",
    *(f"torch.{kind}Storage" for kind in _STORAGES),
)
ALLOWED_TYPES = frozenset((*_TENSOR_TYPES, *STAND_INS))
_ZIP_MAGIC = b"PK\x03\x04"
TORCH_BEGINNINGS = (_ZIP_MAGIC, b"\x80")
"""What a file of `torch.save` begins with: an archive's first bytes, in the older format a pickle's first one."""
_LEGACY_PICKLES = 5
"""Magic number, protocol, system, the object, keys of the storages: what the format before PyTorch 1.6 begins with."""
_lock = threading.Lock()


def read_torch_file(path: Path) -> object:
    """Returns what `torch.save` wrote, in its zip format or the older one; arrays come as `NumpyArray`.

    Raises:
        UnsafePickleError: the file wants a type that is not in `ALLOWED_TYPES`; the message names it.
        CheckpointError: the file is none of `torch.save`, or a damaged one.
    """
    for wanted in _types_wanted(path):
        if wanted not in ALLOWED_TYPES:
            raise UnsafePickleError(
                f"{path} asks for {wanted}, which weights do not need and which could run code; nothing of the file "
                "was run. Do not trust it; get it again from where it was published."
            )
    with _lock, _only_stand_ins_allowed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content: object = torch.load(path, map_location="cpu", weights_only=True)
        except ValueError as problem:
            raise CheckpointError(f"{path} cannot be read: {problem}") from None
        except Exception as problem:  # a damaged pickle raises anything: KeyError, struct.error, OverflowError, …
            reason = str(problem).strip().partition("\n")[0]
            raise CheckpointError(
                f"{path} cannot be read as a file of torch.save ({type(problem).__name__}: {reason}); get it again."
            ) from None
    return content


def is_torch_file(path: Path) -> bool:
    """Returns whether a file begins as those of `torch.save` do, in either format."""
    with path.open("rb") as stream:
        return stream.read(len(_ZIP_MAGIC)).startswith(TORCH_BEGINNINGS)


@contextmanager
def _only_stand_ins_allowed() -> Iterator[None]:
    """Makes PyTorch's unpickler admit, besides tensors, the stand-ins only, whatever the program allowed before."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([(stand_in, name) for name, stand_in in STAND_INS.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _types_wanted(path: Path) -> Iterator[str]:
    """Yields the full name of every type that the file's pickles name, found without running them."""
    try:
        # Mapped, not read: a pickle may claim more bytes than there are, and a map never allocates them.
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if mapped[: len(_ZIP_MAGIC)] == _ZIP_MAGIC:
                yield from types_named_in(io.BytesIO(_pickle_of_archive(path)))
                return
            for _ in range(_LEGACY_PICKLES):
                yield from types_named_in(cast(IO[bytes], mapped))
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}.") from None
    except (ValueError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile) as problem:
        reason = str(problem) or "it is cut off"
        raise CheckpointError(f"{path} is no file of torch.save, or a damaged one: {reason}; get it again.") from None


def _pickle_of_archive(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a member of its archive is compressed")
        if any(member.compress_size > path.stat().st_size for member in members):
            raise ValueError("a member of its archive is larger than the file")
        pickles = [member for member in members if member.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"its archive has {len(pickles)} members data.pkl")
        return archive.read(pickles[0])
