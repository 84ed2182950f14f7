"""Images of Parquet tables: rows that hold an image file's bytes, or say where it lies.

A column of bytes, or of the structs ``{bytes, path}`` that data set hubs write, holds the files themselves. A column of
text holds paths, relative to the table's folder, or URLs. Row groups are read whole, a few are kept. No thread of
Arrow's reads: one that lets go of a Python file while the process ends aborts it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_edge.errors import DatasetError, ImageError, MissingExtraError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.remote_images import RemoteFile, is_url, open_remote

TABLE_SUFFIX = ".parquet"
LARGEST_ROW_GROUP_BYTES = 1 << 31
"""Of the column of images, decoded: two of them are held at once."""
_ID_NAMES = ("id", "image_id", "key", "file_name", "filename", "path", "name")
_IMAGE_NAMES = ("image", "img", "bytes", "jpg", "jpeg", "png", "content")
_PATH_NAMES = ("path", "file_name", "filename", "file", "url", "image")
_lock = threading.Lock()


@dataclass(frozen=True)
class TableColumns:
    """Which columns of a table count; None finds out.

    Args:
        image: of the images.
        id: of their ids.
    """

    image: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class TableFile:
    """A Parquet file.

    Args:
        address: its path or URL.
        version: its size and what else changes with its bytes.
    """

    address: str
    version: str


@dataclass(frozen=True)
class TableImage:
    """The image of a row.

    Args:
        table: where it is.
        column: of the images.
        row_group, row: its place: a row group of the file, and a row of that.
        number: its row in the whole file.
    """

    table: TableFile
    column: str
    row_group: int
    row: int
    number: int

    @property
    def name(self) -> str:
        """The table and the row in it, from 0."""
        return f"{self.table.address} row {self.number}"

    @property
    def signature(self) -> str:
        """The table's version and the row."""
        return f"{self.table.version} {self.number}"

    def read(self) -> bytes:
        """Returns the bytes in the row.

        Raises:
            ImageError: there are none.
            DatasetError: that part of the table is damaged, which says nothing of the image.
            DownloadError: the store that holds the table cannot be reached.
        """
        with _lock:  # else two threads read the same row group
            values = _row_group(self.table, self.column, self.row_group)
        value = values[self.row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise ImageError(self.name, "the table holds no image there")
        return bytes(content)


def table_rows(table: TableFile, columns: TableColumns) -> Iterator[tuple[str, ImageItem]]:
    """Yields the id and the image of each row of a Parquet file; images themselves are not read.

    Raises:
        MissingExtraError: pyarrow is not installed.
        UsageError: a column that was named is not there, or which one is meant is not plain.
        DatasetError: it is no Parquet file, a row has no id, or a row group is too large.
        DownloadError: the store that holds it cannot be reached.
    """
    arrow = _pyarrow()
    with _opened(table.address) as stream:
        try:
            file = arrow.parquet.ParquetFile(stream, pre_buffer=False)
            yield from _rows(table, file, _chosen(arrow, file.schema_arrow, table.address, columns))
        except (arrow.ArrowInvalid, OSError) as problem:
            raise _unreadable(table, problem) from None


@dataclass(frozen=True)
class _Chosen:
    """The columns that count: of images, whether as paths, and of ids, None for the path in the images' structs."""

    image: str
    as_paths: bool
    id: str | None


def _rows(table: TableFile, file: Any, chosen: _Chosen) -> Iterator[tuple[str, ImageItem]]:
    wanted = [f"{chosen.image}.path" if chosen.id is None else chosen.id, *([chosen.image] if chosen.as_paths else ())]
    number = 0
    for group in range(file.num_row_groups):
        if not chosen.as_paths:
            _require_small(file.metadata.row_group(group), chosen.image, table.address)
        read = file.read_row_group(group, columns=list(dict.fromkeys(wanted)), use_threads=False)
        ids = read.column(chosen.id or chosen.image).to_pylist()
        if chosen.id is None:
            ids = [None if one is None else one["path"] for one in ids]
        paths = read.column(chosen.image).to_pylist() if chosen.as_paths else [""] * len(ids)
        for row, (one, path) in enumerate(zip(ids, paths, strict=True)):
            if one is None or path is None or "\0" in path:
                raise DatasetError(f"{table.address} has no id or no path in row {number}; complete it.")
            held = TableImage(table, chosen.image, group, row, number)
            yield str(one), _item_at(table, path, number) if chosen.as_paths else ImageItem(Path(str(one)), stored=held)
            number += 1


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "a table of images") from None
    return pyarrow


def _unreadable(table: TableFile, problem: Exception) -> DatasetError:
    reason = " ".join(str(problem).split()).rstrip(".")
    return DatasetError(f"{table.address} cannot be read as a Parquet table: {reason}.")


def _opened(address: str) -> Any:
    return open_remote(address) if is_url(address) else open(address, "rb")


@functools.lru_cache(maxsize=2)
def _row_group(table: TableFile, column: str, group: int) -> Any:
    arrow = _pyarrow()
    try:
        with _opened(table.address) as stream:
            file = arrow.parquet.ParquetFile(stream, pre_buffer=False)
            return file.read_row_group(group, columns=[column], use_threads=False).column(column)
    except (arrow.ArrowInvalid, OSError) as problem:
        raise _unreadable(table, problem) from None


def _chosen(arrow: Any, schema: Any, address: str, columns: TableColumns) -> _Chosen:
    names: Sequence[str] = schema.names
    for option, name in (("image_column", columns.image), ("id_column", columns.id)):
        if name is not None and name not in names:
            raise UsageError(f"`{option}` is {name!r}, but {address} has {', '.join(names)}; name one of them.")
    image = columns.image or _image_column(arrow, schema)
    if image is None:
        raise UsageError(
            f"which column of {address} holds the images is not plain; name one of {', '.join(names)}: --image-column."
        )
    kind = schema.field(image).type
    as_paths, as_structs = _is_text(arrow, kind), _is_struct(arrow, kind)
    if not (as_paths or as_structs or _is_binary(arrow, kind)):
        raise UsageError(f"`image_column` is {image!r}, which holds {kind} in {address}; name one of bytes or paths.")
    if columns.id is not None:
        return _Chosen(image, as_paths, columns.id)
    plain = [name for name in _ID_NAMES if name in names and _is_id(arrow, schema.field(name).type)]
    if plain or as_paths:
        return _Chosen(image, as_paths, plain[0] if plain else image)
    if as_structs and kind.get_field_index("path") >= 0:
        return _Chosen(image, as_paths, None)
    raise UsageError(
        f"which column of {address} holds the images' ids is not plain; name one of {', '.join(names)}: --id-column."
    )


def _image_column(arrow: Any, schema: Any) -> str | None:
    kinds: Mapping[str, Any] = {field.name: field.type for field in schema}
    holding = [name for name, kind in kinds.items() if _is_binary(arrow, kind) or _is_struct(arrow, kind)]
    named = [name for name in _IMAGE_NAMES if name in holding]
    texts = [name for name in _PATH_NAMES if name in kinds and _is_text(arrow, kinds[name])]
    for candidates in (named[:1], holding, texts[:1]):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            return None
    return None


def _is_text(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _is_binary(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _is_struct(arrow: Any, kind: Any) -> bool:
    """Whether a column holds structs with bytes."""
    place = kind.get_field_index("bytes") if arrow.types.is_struct(kind) else -1
    return place >= 0 and _is_binary(arrow, kind.field(place).type)


def _is_id(arrow: Any, kind: Any) -> bool:
    return _is_text(arrow, kind) or bool(arrow.types.is_integer(kind))


def _require_small(group: Any, column: str, address: str) -> None:
    parts = (group.column(number) for number in range(group.num_columns))
    size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)
    if size > LARGEST_ROW_GROUP_BYTES:
        raise DatasetError(
            f"{address} has a row group with {size / 1e9:.1f} GB of images, and each is held in memory whole; write "
            "the table again with smaller ones (row_group_size)."
        )


def _item_at(table: TableFile, path: str, number: int) -> ImageItem:
    """Returns the image that a row names: a URL, an absolute path, or a path relative to the table's folder."""
    if is_url(path):
        return ImageItem(Path(path), stored=RemoteFile(path, version=f"{table.version} {number}"))
    if is_url(table.address):
        url = f"{table.address.rpartition('/')[0]}/{path}"
        return ImageItem(Path(url), stored=RemoteFile(url, version=f"{table.version} {number}"))
    return ImageItem(Path(table.address).parent / path)
