"""`images_at`: which images a location stands for: a folder, a URL of an object store, or a Parquet table in either."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aml_edge.datasets.folder import is_image
from aml_edge.datasets.image_source import ImageSource, ImageSourceKind, image_source
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.metadata import is_listable
from aml_edge.errors import DatasetError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.progress import Progress
from aml_edge.remote_images import is_url, list_remote
from aml_edge.table_images import TABLE_SUFFIX, TableColumns, TableFile, table_rows


def images_at(
    location: str,
    split: ImageSplit | None = None,
    columns: TableColumns | None = None,
    *,
    progress: Progress | None = None,
) -> ImageSource:
    """Returns the images that a location stands for, with the ids that a folder of the same files would have.

    A folder of this machine stands for what `image_source` says, one of an object store for the image files below it.
    A Parquet file stands for its rows, and so does a folder that holds such files, and no image, in it or right below.

    Args:
        location: a path, or a URL such as ``s3://bucket/photos``.
        split: which side of a data set is meant.
        columns: of a table.
        progress: where a long search for images is announced.

    Raises:
        UsageError: nothing is there, it has no such split or column, or which column is meant is not plain.
        DatasetError: it holds no image, is broken, cannot be listed, or an id comes twice.
        MissingExtraError: what reads it is not installed.
        DownloadError: a store cannot be reached.
        UnsafePickleError: the metadata of a data set wants a type that it does not need.
    """
    if is_url(location):
        files = list_remote(location)
        pairs = [(one, ImageItem(Path(file.url), stored=file)) for one, file in files.items() if is_image(one)]
        tables = [TableFile(file.url, file.signature) for one, file in files.items() if one.endswith(TABLE_SUFFIX)]
        kind = ImageSourceKind.OBJECTS
    else:
        pairs, tables, kind = [], _tables(Path(location)), ImageSourceKind.FOLDER
    if not pairs and tables:
        pairs = [pair for table in tables for pair in table_rows(table, columns or TableColumns())]
        kind = ImageSourceKind.TABLE
    elif columns not in (None, TableColumns()):
        raise UsageError(f"`images` is {location!r}, which is no table, so it has no columns; leave them out.")
    if kind is ImageSourceKind.FOLDER:
        return image_source(Path(location), split, progress=progress)
    if split is not None:
        raise UsageError(f"`split` is '{split}', but {location} is no data set with splits; leave it out.")
    return _source(location, kind, pairs)


def _tables(path: Path) -> list[TableFile]:
    """Returns the Parquet files that a path stands for; none where a folder holds images too."""
    if path.is_file():
        return [_table(path)] if path.suffix == TABLE_SUFFIX else []
    found = sorted(one for below in ("*", "*/*") for one in path.glob(f"{below}{TABLE_SUFFIX}"))
    return [] if found and any(is_image(one.name) for one in path.rglob("*")) else [_table(one) for one in found]


def _table(path: Path) -> TableFile:
    status = path.stat()
    return TableFile(str(path), f"{status.st_size} {status.st_mtime_ns}")


def _source(location: str, kind: ImageSourceKind, pairs: Iterable[tuple[str, ImageItem]]) -> ImageSource:
    items: dict[str, ImageItem] = {}
    for one, item in pairs:
        if not is_listable(one):
            raise DatasetError(f"{location} holds {one!a}, a name that cannot stand in a list of ids; rename it.")
        if one in items:
            raise DatasetError(f"{location} holds the id {one!r} twice; an id names one image: name another column.")
        items[one] = item
    if not items:
        raise DatasetError(f"{location} holds no image.")
    return ImageSource(location, kind, tuple(items), tuple(items.values()))
