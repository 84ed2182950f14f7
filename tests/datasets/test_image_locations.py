"""What a location stands for: the same ids and pixels in a folder, in a store and in a table of the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aml_edge.datasets.image_locations import images_at
from aml_edge.datasets.image_source import ImageSource, ImageSourceKind, image_source
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import DatasetError, ImageBatchError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.table_images import TableColumns

SPACE = EmbeddingSpace("teacher", "a" * 64, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures, two of them a folder below, and files that are none."""
    root, generator = tmp_path / "folder", np.random.default_rng(0)
    for number in range(7):
        path = root / ("sub" if number > 4 else ".") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, size=(12 + number, 20, 3), dtype=np.uint8)).save(path)
    (root / "notes.txt").write_text("mine")
    (root / ".hidden.png").write_bytes(b"")
    return root


@pytest.fixture
def in_store(folder: Path, bucket: str) -> str:
    """The same files in a store."""
    import fsspec

    system = fsspec.filesystem("s3")
    if system.exists(f"{bucket}/folder"):
        system.rm(f"{bucket}/folder", recursive=True)
    system.put(f"{folder}/", f"{bucket}/folder/", recursive=True)
    return f"{bucket}/folder"


@pytest.fixture
def in_table(folder: Path, tmp_path: Path) -> Path:
    """The same files in a folder of two tables."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ids = image_source(folder).ids
    (tmp_path / "tables" / "data").mkdir(parents=True)
    for number, part in enumerate((ids[:4], ids[4:])):
        columns = {"id": part, "image": [(folder / one).read_bytes() for one in part]}
        parquet.write_table(
            pyarrow.table(columns), tmp_path / "tables" / "data" / f"{number}.parquet", row_group_size=3
        )
    return tmp_path / "tables"


def files_of(source: ImageSource, out: Path, **options: Any) -> dict[str, bytes]:
    """Returns the files of the index of a source."""
    embedder = FakeEmbedder(SPACE, Preprocessing(image_side_px=16))
    build_index(embedder, source, out, IndexOptions(shard_images=3, **options))
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_folder_store_and_table_give_the_same_index(
    folder: Path, in_store: str, in_table: Path, tmp_path: Path
) -> None:
    import fsspec

    plain = images_at(str(folder))
    assert plain == image_source(folder)
    expected = files_of(plain, tmp_path / "plain")
    fsspec.filesystem("s3").put(f"{in_table}/", f"{in_store}-tables/", recursive=True)
    for number, (location, kind) in enumerate(
        (
            (in_store, ImageSourceKind.OBJECTS),
            (f"{in_store}/", ImageSourceKind.OBJECTS),
            (str(in_table), ImageSourceKind.TABLE),
            (f"{in_store}-tables", ImageSourceKind.TABLE),
        )
    ):
        source = images_at(location)
        assert (source.root, source.kind, source.ids) == (location, kind, plain.ids)
        assert files_of(source, tmp_path / f"ix-{number}") == expected


def test_one_table_stands_for_its_rows(in_table: Path, bucket: str, tmp_path: Path) -> None:
    import fsspec

    table = in_table / "data" / "1.parquet"
    assert images_at(str(table)).ids == ("4.png", "sub/5.png", "sub/6.png")
    url = f"{bucket}/one/t.parquet"
    fsspec.filesystem("s3").put_file(str(table), url)
    assert images_at(url).ids == ("4.png", "sub/5.png", "sub/6.png")
    named = images_at(str(table), columns=TableColumns("image", "id"))
    assert named.ids == ("4.png", "sub/5.png", "sub/6.png")


def test_a_table_of_paths_in_a_store_names_objects_beside_it(in_store: str, tmp_path: Path, folder: Path) -> None:
    import fsspec

    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": ["0.png", "sub/6.png"]}), tmp_path / "t.parquet")
    fsspec.filesystem("s3").put_file(str(tmp_path / "t.parquet"), f"{in_store}/t.parquet")
    source = images_at(f"{in_store}/t.parquet")
    assert [item.read() for item in source.items] == [(folder / one).read_bytes() for one in source.ids]
    assert images_at(in_store).kind is ImageSourceKind.OBJECTS  # beside images, a table is one more file


def test_a_build_goes_on_where_objects_are_the_same_and_again_where_one_changed(
    in_store: str, folder: Path, tmp_path: Path
) -> None:
    import fsspec

    class Failing(FakeEmbedder):
        embedded = 0

        def embed(self, images: Any) -> Any:
            if self.embedded >= fails_after:
                raise RuntimeError("power cut")
            self.embedded += len(images)
            return super().embed(images)

    def build(embedder: Failing) -> None:
        build_index(embedder, images_at(in_store), tmp_path / "ix", IndexOptions(shard_images=3))

    fails_after = 6
    with pytest.raises(RuntimeError, match="power cut"):
        build(Failing(SPACE, Preprocessing(image_side_px=16)))
    Image.new("RGB", (20, 20), (9, 8, 7)).save(folder / "4.png")
    fsspec.filesystem("s3").put_file(str(folder / "4.png"), f"{in_store}/4.png")
    fails_after = 100
    second = Failing(SPACE, Preprocessing(image_side_px=16))
    build(second)
    assert second.embedded == 3 + 1  # the shard of the changed image, and the last one
    again = files_of(images_at(str(folder)), tmp_path / "whole")
    assert {path.name: path.read_bytes() for path in (tmp_path / "ix").iterdir()} == again


def test_unreadable_images_are_listed_under_their_urls(in_store: str, tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("s3").pipe_file(f"{in_store}/3.png", b"no picture")
    with pytest.raises(ImageBatchError) as refusal:
        files_of(images_at(in_store), tmp_path / "ix")
    assert str(refusal.value) == (
        "1 of 7 images cannot be read; remove or replace them, or pass --skip-unreadable:\n"
        f"  {in_store}/3.png: it is no image, or of a format that is not read"
    )
    record = files_of(images_at(in_store), tmp_path / "ix", skip_unreadable=True)["index.json"]
    assert b'"skipped": [\n    "3.png"\n  ]' in record


def test_what_cannot_be_is_refused(folder: Path, in_store: str, in_table: Path, tmp_path: Path, bucket: str) -> None:
    import fsspec

    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (
            lambda: images_at(str(folder), columns=TableColumns(image="image")),
            UsageError,
            f"`images` is '{folder}', which is no table, so it has no columns; leave them out.",
        ),
        (
            lambda: images_at(in_store, ImageSplit.TEST),
            UsageError,
            f"`split` is 'test', but {in_store} is no data set with splits; leave it out.",
        ),
        (
            lambda: images_at(str(in_table), ImageSplit.TEST),
            UsageError,
            f"`split` is 'test', but {in_table} is no data set with splits; leave it out.",
        ),
    ]
    fsspec.filesystem("s3").pipe_file(f"{bucket}/texts/a.txt", b"text")
    cases.append((lambda: images_at(f"{bucket}/texts"), DatasetError, f"{bucket}/texts holds no image."))
    shutil.copy(in_table / "data" / "0.parquet", in_table / "data" / "2.parquet")
    twice = f"{in_table} holds the id '0.png' twice; an id names one image: name another column."
    cases.append((lambda: images_at(str(in_table)), DatasetError, twice))
    parquet.write_table(pyarrow.table({"id": ["a\nb"], "image": [b"x"]}), tmp_path / "line.parquet")
    broken = f"{tmp_path / 'line.parquet'} holds 'a\\nb', a name that cannot stand in a list of ids; rename it."
    cases.append((lambda: images_at(str(tmp_path / "line.parquet")), DatasetError, broken))
    for call, error, said in cases:
        with pytest.raises(error) as refusal:
            call()
        assert str(refusal.value) == said


def test_a_folder_of_this_machine_is_what_image_source_says(folder: Path) -> None:
    with pytest.raises(UsageError, match="is a plain folder, which has no splits"):
        images_at(str(folder), ImageSplit.TEST)
    (item,) = [item for item in images_at(str(folder)).items if item.path.name == "3.png"]
    assert item == ImageItem(folder / "3.png")
