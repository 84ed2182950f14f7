"""Images of Parquet tables: which columns count, where the bytes come from, and what is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aml_edge import table_images
from aml_edge.errors import DatasetError, ImageError, MissingExtraError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.table_images import TableColumns, TableFile, table_rows

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
BYTES = [b"zero", b"one", b"two", b"three", b"four"]
HUB = [{"bytes": content, "path": f"{number}.jpg"} for number, content in enumerate(BYTES)]


def written(path: Path, columns: Mapping[str, Any], *, row_group: int = 2) -> TableFile:
    parquet.write_table(pyarrow.table(dict(columns)), path, row_group_size=row_group)
    return TableFile(str(path), "1")


def rows(table: TableFile, columns: TableColumns | None = None) -> dict[str, ImageItem]:
    return dict(table_rows(table, columns or TableColumns()))


def contents(items: Mapping[str, ImageItem]) -> dict[str, bytes]:
    return {one: item.read() for one, item in items.items()}


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({"id": ["a", "b", "c", "d", "e"], "image": BYTES}, "abcde"),
        ({"label": [1, 2, 3, 4, 5], "image_id": [10, 11, 12, 13, 14], "scan": BYTES}, (10, 11, 12, 13, 14)),
        ({"image": HUB, "label": [0] * 5}, ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg")),
        ({"image": HUB, "key": ["a", "b", "c", "d", "e"]}, "abcde"),
        ({"image": BYTES, "thumbnail": BYTES[::-1], "id": ["a", "b", "c", "d", "e"]}, "abcde"),
    ],
)
def test_columns_are_found_where_they_are_plain(
    tmp_path: Path, columns: Mapping[str, Any], ids: Sequence[object]
) -> None:
    items = rows(written(tmp_path / "t.parquet", columns))
    assert contents(items) == {str(one): content for one, content in zip(ids, BYTES, strict=True)}


def test_named_columns_win(tmp_path: Path) -> None:
    columns = {"id": ["a"] * 5, "image": BYTES, "other": BYTES[::-1], "sku": [5, 4, 3, 2, 1]}
    items = rows(written(tmp_path / "t.parquet", columns), TableColumns(image="other", id="sku"))
    assert contents(items) == {"5": b"four", "4": b"three", "3": b"two", "2": b"one", "1": b"zero"}


def test_paths_are_relative_to_the_folder_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for number, content in enumerate(BYTES[:2]):
        (tmp_path / "sub" / f"{number}.jpg").write_bytes(content)
    columns = {"path": ["sub/0.jpg", str(tmp_path / "sub" / "1.jpg"), "memory://toy/2.jpg"], "label": [1, 2, 3]}
    items = rows(written(tmp_path / "t.parquet", columns))
    assert list(items) == columns["path"]
    first, second, third = items.values()
    assert (first, second) == (ImageItem(tmp_path / "sub/0.jpg"), ImageItem(tmp_path / "sub/1.jpg"))
    assert (first.read(), second.read()) == (b"zero", b"one")
    assert (third.name, third.stored is not None) == ("memory://toy/2.jpg", True)


def test_an_image_says_where_it_is_and_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    items = rows(written(path, {"id": ["a", "b", "c", "d", "e"], "image": BYTES}))
    assert [item.name for item in items.values()] == [f"{path} row {number}" for number in range(5)]
    signatures = [item.stored.signature for item in items.values() if item.stored is not None]
    assert signatures == [f"1 {number}" for number in range(5)]
    assert pickle.loads(pickle.dumps(items["d"])).read() == b"three"


def test_an_empty_row_is_an_unreadable_image(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    items = rows(written(path, {"id": ["a", "b"], "image": pyarrow.array([None, b"one"], pyarrow.binary())}))
    assert items["b"].read() == b"one"
    with pytest.raises(ImageError, match=rf"^{path} row 0 cannot be read as an image: the table holds no image there;"):
        items["a"].read()
    hub = rows(written(path, {"image": [{"bytes": None, "path": "a.jpg"}, {"bytes": b"one", "path": "b.jpg"}]}))
    with pytest.raises(ImageError, match="the table holds no image there"):
        hub["a.jpg"].read()


@pytest.mark.parametrize(
    ("columns", "chosen", "said"),
    [
        (
            {"left": BYTES, "right": BYTES, "id": [1, 2, 3, 4, 5]},
            TableColumns(),
            "which column of {path} holds the images is not plain; name one of left, right, id: --image-column.",
        ),
        (
            {"image": BYTES, "title": ["a", "b", "c", "d", "e"]},
            TableColumns(),
            "which column of {path} holds the images' ids is not plain; name one of image, title: --id-column.",
        ),
        (
            {"image": BYTES, "id": [1, 2, 3, 4, 5]},
            TableColumns(image="photo"),
            "`image_column` is 'photo', but {path} has image, id; name one of them.",
        ),
        (
            {"image": BYTES, "id": [1, 2, 3, 4, 5]},
            TableColumns(id="key"),
            "`id_column` is 'key', but {path} has image, id; name one of them.",
        ),
        (
            {"image": [{"bytes": "text"}] * 5, "id": [1, 2, 3, 4, 5]},
            TableColumns(image="image"),
            "`image_column` is 'image', which holds struct<bytes: string> in {path}; name one of bytes or paths.",
        ),
        (
            {"image": BYTES, "id": [1, 2, 3, 4, 5]},
            TableColumns(image="id"),
            "`image_column` is 'id', which holds int64 in {path}; name one of bytes or paths.",
        ),
    ],
)
def test_columns_that_are_not_plain_are_asked_for(
    tmp_path: Path, columns: Mapping[str, Any], chosen: TableColumns, said: str
) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(UsageError) as refusal:
        rows(written(path, columns), chosen)
    assert str(refusal.value) == said.format(path=path)


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["a", None], "image": [b"x", b"y"]},
        {"path": ["a.jpg", None]},
        {"path": ["a.jpg", "b\0.jpg"]},
        {"image": [{"bytes": b"x", "path": "a"}, {"bytes": b"y", "path": None}]},
        {"image": [{"bytes": b"x", "path": "a"}, None]},
    ],
)
def test_a_row_without_an_id_or_a_path_is_refused(tmp_path: Path, columns: Mapping[str, Any]) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(DatasetError) as refusal:
        rows(written(path, columns))
    assert str(refusal.value) == f"{path} has no id or no path in row 1; complete it."


def test_a_row_group_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_images, "LARGEST_ROW_GROUP_BYTES", 10_000)
    table = written(tmp_path / "t.parquet", {"id": [1, 2], "image": [os.urandom(6000), os.urandom(6000)]})
    with pytest.raises(DatasetError) as refusal:
        rows(table)
    assert str(refusal.value) == (
        f"{tmp_path / 't.parquet'} has a row group with 0.0 GB of images, and each is held in memory whole; write the "
        "table again with smaller ones (row_group_size)."
    )
    rows(
        written(tmp_path / "small.parquet", {"id": [1, 2], "image": [os.urandom(6000), os.urandom(6000)]}, row_group=1)
    )


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + b"\xff" * 64 + b"PAR1"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"^{path} cannot be read as a Parquet table: .*[^.]\.$"):
        rows(TableFile(str(path), "1"))


def damaged(path: Path, first: str) -> TableFile:
    """Writes a table of two columns, and overwrites how the first one's page begins."""
    columns: dict[str, Any] = {"image": BYTES, "id": ["a", "b", "c", "d", "e"]}
    table = written(path, {name: columns[name] for name in sorted(columns, key=lambda name: name != first)})
    content = bytearray(path.read_bytes())
    content[4:20] = bytes(value ^ 0xFF for value in content[4:20])
    path.write_bytes(content)
    return table


def test_a_table_with_damaged_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be read as a Parquet table: .*[^.]\.$"):
        rows(damaged(tmp_path / "t.parquet", "id"))


def test_a_damaged_row_group_is_not_taken_for_unreadable_images(tmp_path: Path) -> None:
    items = rows(damaged(tmp_path / "t.parquet", "image"))
    for one in ("a", "b"):
        with pytest.raises(DatasetError, match=r"cannot be read as a Parquet table: .*[^.]\.$"):
            items[one].read()
    assert items["c"].read() == b"two"


def test_a_table_is_read_in_the_thread_that_asks(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    written(path, {"id": ["a", "b"], "image": [b"x", b"y"]})
    reading = (
        "import sys, threading; from aml_edge.table_images import *; threads = set()\n"
        "class Watched(__import__('io').FileIO):\n"
        "    def readinto(self, b): threads.add(threading.get_ident()); return super().readinto(b)\n"
        "    def read(self, n=-1): threads.add(threading.get_ident()); return super().read(n)\n"
        "import aml_edge.table_images as module; module._opened = Watched\n"
        "items = dict(table_rows(TableFile(sys.argv[1], '1'), TableColumns())); items['a'].read()\n"
        "assert threads == {threading.get_ident()}, threads\n"
    )
    subprocess.run([sys.executable, "-c", reading, str(path)], check=True)


def test_pyarrow_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError, match=r"^a table of images needs pyarrow, .*: pip install 'aml-edge\[parquet\]'$"
    ):
        rows(TableFile(str(tmp_path / "t.parquet"), "1"))
