"""FAISS, and nothing else of this package touches it: making, reading, writing, and its errors in one line.

What FAISS throws names C++ functions and lines; `reason` keeps the sentence. A structure's file is read under a limit
on what one of its vectors may hold, so that a length that was made up cannot take all memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.embedder import Embeddings
from aml_edge.errors import MissingExtraError, UsageError

TABLES_BYTES = 1 << 31
"""FAISS computes tables of at most so much when it reads; what it reads itself is no larger than the file."""
WRITTEN_AT_ONCE = 1 << 20
_WHERE = re.compile(r".*?\.(?:cpp|h):\d+: ", re.DOTALL)
_CONDITION = re.compile(r"Error: '(.*?)' failed(?:: )?(.*)", re.DOTALL)
_LISTS = re.compile(r"IVF([0-9]+)([kM]?)")
_MULTIPLES = {"": 1, "k": 1 << 10, "M": 1 << 20}
Problem = (RuntimeError, MemoryError)
"""What FAISS raises."""


def faiss_module() -> Any:
    """Returns FAISS; raises `MissingExtraError` where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "faiss", "an approximate index") from None
    return faiss


def faiss_threads() -> int:
    """Returns how many threads FAISS uses at most; one query is searched by one thread in most structures."""
    return int(faiss_module().omp_get_max_threads())


def reason(problem: Exception) -> str:
    """Returns what FAISS says, in one line, without the place in its sources."""
    if isinstance(problem, MemoryError):
        return "it takes more memory than there is"
    said = " ".join(_WHERE.sub("", str(problem), count=1).split())
    failed = _CONDITION.fullmatch(said)
    if failed is None:
        return said
    return failed[2] or f"{failed[1]} does not hold"


def empty_structure(spec: ApproximateSpec, dimension: int, count: int) -> Any:
    """Returns what FAISS makes of a factory, for inner products of D-dimensional rows, set to the spec's parameters.

    Args:
        spec: names both.
        dimension: D.
        count: how many rows it is for; more lists than rows are refused before FAISS makes room for them.

    Raises:
        UsageError: FAISS does not know it, or it does not go with D or inner products; FAISS's reason is given.
        MissingExtraError: FAISS is not installed.
    """
    faiss = faiss_module()
    lists = max((int(number) * _MULTIPLES[multiple] for number, multiple in _LISTS.findall(spec.factory)), default=1)
    if not 1 <= lists <= count:
        raise UsageError(
            f"`ann` is '{spec.factory}', which makes {lists} lists, but there are {count} rows; ask for at least one "
            "list and no more than there are rows."
        )
    try:
        structure = faiss.index_factory(dimension, spec.factory, faiss.METRIC_INNER_PRODUCT)
    except Problem as problem:
        raise UsageError(
            f"`ann` is '{spec.factory}', which FAISS cannot make for {dimension}-D embeddings and inner products: "
            f"{reason(problem)}; name another factory, e.g. IVF256,SQ8."
        ) from None
    set_parameters(structure, spec)
    _skip_polysemous_training(structure)
    return structure


def set_parameters(structure: Any, spec: ApproximateSpec) -> None:
    """Sets the spec's parameters of a search; raises `UsageError` where FAISS knows none of that name there."""
    faiss = faiss_module()
    try:
        faiss.ParameterSpace().set_index_parameters(structure, spec.parameters)
    except Problem as problem:
        raise UsageError(
            f"`ann` is '{spec}', whose parameters FAISS does not take: {reason(problem)}; "
            "lists take nprobe, graphs efSearch, and refining k_factor_rf."
        ) from None


def largest_clustering(structure: Any) -> int:
    """Returns how many clusters the largest of its clusterings makes when a structure is trained; 0 without any."""
    structure = faiss_module().downcast_index(structure)
    inner = max(map(largest_clustering, _parts_of(structure)), default=0)
    codes = getattr(structure, "pq", None)
    return max(inner, getattr(structure, "nlist", 0), 0 if codes is None else 1 << codes.nbits)


def _skip_polysemous_training(structure: Any) -> None:
    """Lets product quantisation number its centroids as they come.

    FAISS would renumber them for searches that first compare codes by their bits (its parameter ``ht``), which takes
    1.6 s of a core for each part of a code, 100 s for PQ64, and changes no result of any other search.
    """
    structure = faiss_module().downcast_index(structure)
    if hasattr(structure, "do_polysemous_training"):
        structure.do_polysemous_training = False
    for part in _parts_of(structure):
        _skip_polysemous_training(part)


def _parts_of(structure: Any) -> list[Any]:
    """Returns what a structure, as its own class, keeps its rows or its lists' centroids in."""
    parts = (getattr(structure, name, None) for name in ("base_index", "index", "quantizer", "storage"))
    return [part for part in parts if part is not None]


def inverted_lists(structure: Any) -> Any | None:
    """Returns the part that keeps rows in lists (`nlist` of them, of which `nprobe` are searched), or None."""
    return faiss_module().try_extract_index_ivf(structure)


def similarities_of(structure: Any, found: npt.NDArray[np.float32]) -> Embeddings:
    """Returns FAISS's values as inner products: where it computes squared distances d of unit rows, 1 − d / 2."""
    inner_product = structure.metric_type == faiss_module().METRIC_INNER_PRODUCT
    return found if inner_product else np.float32(1) - found / np.float32(2)


def write_structure(structure: Any, stream: BinaryIO) -> None:
    """Writes a structure; raises `OSError` where the disk does."""
    faiss = faiss_module()
    faiss.write_index(structure, faiss.PyCallbackIOWriter(stream.write, WRITTEN_AT_ONCE))


def read_structure(file: Path) -> Any:
    """Returns the structure in a file; raises ValueError with FAISS's reason where there is none.

    FAISS checks what it reads against itself, so a damaged file ends here, and not in a search.
    """
    faiss = faiss_module()
    try:
        with _limited(faiss, file.stat().st_size + TABLES_BYTES):
            return faiss.read_index(str(file))
    except Problem as problem:
        raise ValueError(reason(problem)) from None


@contextmanager
def _limited(faiss: Any, limit: int) -> Iterator[None]:
    """Lets FAISS read no vector of more bytes, where it can be told so."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        yield
        return
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(limit)
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before)
