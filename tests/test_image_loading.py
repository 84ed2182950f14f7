"""Order, places, bounded memory, and what happens to files that cannot be read."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from aml_edge import image_loading
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import ImageBatchError, UsageError
from aml_edge.image_loading import (
    EMBEDDING_BATCH,
    ImageItem,
    LoadedImage,
    UnreadableImage,
    embed_items,
    load_each,
    load_many,
)
from aml_edge.pixels import Box, Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.read_ahead import AHEAD_PER_WORKER
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy teacher", "a" * 64, 12)
NATIVE = Preprocessing(20)


class RecordingEmbedder(FakeEmbedder):
    """Remembers how many images each call brought."""

    def __init__(self) -> None:
        super().__init__(SPACE, NATIVE)
        self.calls: list[int] = []

    def embed(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Returns the fake's embeddings."""
        self.calls.append(len(images))
        return super().embed(images)


@pytest.fixture
def items(tmp_path: Path) -> list[ImageItem]:
    """40 images, number N of the colour (N, N, N), sides from 4 to 43 px."""
    items = []
    for number in range(40):
        path = tmp_path / f"{number:02}.png"
        Image.new("RGB", (4 + number, 8), (number, number, number)).save(path)
        items.append(ImageItem(path))
    return items


@pytest.fixture
def broken(tmp_path: Path, items: list[ImageItem]) -> list[ImageItem]:
    """The items, the 6th empty, the 8th with a box outside, the last missing."""
    (tmp_path / "empty.png").write_bytes(b"")
    changed = list(items)
    changed[5] = ImageItem(tmp_path / "empty.png")
    changed[7] = ImageItem(items[7].path, (90, 90, 99, 99))
    changed[39] = ImageItem(tmp_path / "missing.png")
    return changed


REASONS = ["the file is empty", "its box (90, 90, 99, 99) holds no pixel of 11×8", "there is no such file"]


def number_of(loaded: LoadedImage) -> int:
    return int(loaded.pixels[0, 0, 0])


@pytest.mark.parametrize("workers", [1, 2, 5, 64])
def test_images_come_in_order_with_their_places(items: list[ImageItem], workers: int) -> None:
    loaded = list(load_many(items, NATIVE, workers=workers, skip_unreadable=False))
    assert [one.place for one in loaded] == list(range(40))
    assert [number_of(one) for one in loaded] == list(range(40))
    assert [one.pixels.shape[1] for one in loaded] == [min(20, 4 + number) for number in range(40)]


def test_order_holds_when_later_images_are_ready_first(items: list[ImageItem], monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_first(path: Path, preprocessing: Preprocessing, box: Box | None = None) -> Pixels:
        number = int(path.stem)
        time.sleep(0.02 if number % 3 == 0 else 0)
        return np.full((2, 2, 3), number, np.uint8)

    monkeypatch.setattr(image_loading, "load_pixels", slow_first)
    loaded = list(load_many(items, NATIVE, workers=4, skip_unreadable=False))
    assert [number_of(one) for one in loaded] == list(range(40))


def test_boxes_and_fits_are_applied(items: list[ImageItem]) -> None:
    boxed = [ImageItem(items[30].path, (1, 1, 9, 6))]
    (native,) = load_many(boxed, Preprocessing(1000), workers=1, skip_unreadable=False)
    assert native.pixels.shape == (5, 8, 3)
    (square,) = load_many(boxed, Preprocessing(16, Fit.SQUASH), workers=1, skip_unreadable=False)
    assert square.pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_read_ahead_than_the_bound(
    items: list[ImageItem], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, lock = [0], threading.Lock()

    def counting(path: Path, preprocessing: Preprocessing, box: Box | None = None) -> Pixels:
        with lock:
            read[0] += 1
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(image_loading, "load_pixels", counting)
    taken = 0
    for _ in load_many(items, NATIVE, workers=workers, skip_unreadable=False):
        taken += 1
        time.sleep(0.002)
        assert read[0] <= taken + AHEAD_PER_WORKER * workers


def test_reading_ends_with_the_iterator(items: list[ImageItem]) -> None:
    before = threading.active_count()
    loaded = load_many(items, NATIVE, workers=3, skip_unreadable=False)
    next(loaded)
    assert threading.active_count() > before
    loaded.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_all_unreadable_images_are_listed_in_one_error(broken: list[ImageItem]) -> None:
    with pytest.raises(ImageBatchError) as caught:
        list(load_many(broken, NATIVE, workers=2, skip_unreadable=False))
    assert caught.value.failures == tuple(zip([broken[place].path for place in (5, 7, 39)], REASONS, strict=True))
    assert caught.value.total == 40
    assert str(caught.value) == (
        "3 of 40 images cannot be read; remove or replace them:\n"
        f"  {broken[5].path}: the file is empty\n"
        f"  {broken[7].path}: its box (90, 90, 99, 99) holds no pixel of 11×8\n"
        f"  {broken[39].path}: there is no such file"
    )


def test_nothing_comes_after_the_first_unreadable_image(broken: list[ImageItem]) -> None:
    """So places have no gaps, and whoever counts along stays right until the error."""
    places = []
    with pytest.raises(ImageBatchError):
        for loaded in load_many(broken, NATIVE, workers=2, skip_unreadable=False):
            places.append(loaded.place)
    assert places == [0, 1, 2, 3, 4]


def test_unreadable_images_are_left_out_when_asked(broken: list[ImageItem]) -> None:
    loaded = list(load_many(broken, NATIVE, workers=2, skip_unreadable=True))
    assert [one.place for one in loaded] == [place for place in range(40) if place not in (5, 7, 39)]
    assert all(number_of(one) == one.place for one in loaded)


def test_each_item_has_a_result(broken: list[ImageItem]) -> None:
    results = list(load_each(broken, NATIVE, workers=2))
    assert [one.place for one in results] == list(range(40))
    unreadable = [one for one in results if isinstance(one, UnreadableImage)]
    assert unreadable == [
        UnreadableImage(place, broken[place].path, reason) for place, reason in zip((5, 7, 39), REASONS, strict=True)
    ]


def test_our_own_mistakes_are_not_taken_for_unreadable_images(
    items: list[ImageItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(path: Path, preprocessing: Preprocessing, box: Box | None = None) -> Pixels:
        raise ZeroDivisionError(path.stem)

    monkeypatch.setattr(image_loading, "load_pixels", mistaken)
    with pytest.raises(ZeroDivisionError, match="00"):
        list(load_each(items, NATIVE, workers=2))


def test_no_items_give_no_images() -> None:
    assert list(load_many([], NATIVE, workers=2, skip_unreadable=False)) == []
    assert embed_items(RecordingEmbedder(), []).shape == (0, 12)


def test_no_threads_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="`workers` is 0; reading takes at least one thread"):
        load_each([], NATIVE, workers=0)
    with pytest.raises(UsageError, match="`workers` is -1;"):
        load_many([], NATIVE, workers=-1, skip_unreadable=True)


@pytest.mark.parametrize("count", [1, EMBEDDING_BATCH, EMBEDDING_BATCH + 1, 2 * EMBEDDING_BATCH + 3])
def test_embeddings_are_those_of_each_image_alone(items: list[ImageItem], progress: Any, count: int) -> None:
    embedder = RecordingEmbedder()
    rows = embed_items(embedder, items[:count], progress=progress, description="counting")
    assert rows.shape == (count, 12)
    assert rows.dtype == np.float32
    for row, item in zip(rows, items[:count], strict=True):
        (loaded,) = load_many([item], NATIVE, workers=1, skip_unreadable=False)
        np.testing.assert_array_equal(row, FakeEmbedder(SPACE, NATIVE).embed([loaded.pixels])[0])
    assert sum(embedder.calls) == count
    assert max(embedder.calls) <= EMBEDDING_BATCH
    assert progress.announced == [("counting", count)]
    assert progress.done == count


def test_embedding_stops_at_the_first_unreadable_image_and_lists_all(broken: list[ImageItem]) -> None:
    embedder = RecordingEmbedder()
    with pytest.raises(ImageBatchError) as caught:
        embed_items(embedder, broken)
    assert len(caught.value.failures) == 3
    assert sum(embedder.calls) <= 5


@dataclass(frozen=True)
class Held:
    """Bytes in memory, as those of a store."""

    content: bytes
    name: str = "s3://bucket/a.png"
    signature: str = "1"

    def read(self) -> bytes:
        return self.content


def test_stored_images_and_hashed_ones_have_the_pixels_of_files(broken: list[ImageItem]) -> None:
    """Those that cannot be read have the same reasons, under the names that they go by."""
    plain = list(load_each(broken, NATIVE, workers=2))
    hashed = list(load_each(broken, NATIVE, workers=2, hashed=True))
    there = broken[:39]
    stored = [ImageItem(Path("a"), one.box, Held(one.path.read_bytes())) for one in there]
    held = list(load_each(stored, NATIVE, workers=2, hashed=True, ahead=20))
    for item, expected, *others in zip(there, plain, hashed, held, strict=False):
        sha256 = hashlib.sha256(item.path.read_bytes()).hexdigest()
        if isinstance(expected, UnreadableImage):
            assert others == [expected, replace(expected, path="s3://bucket/a.png")]
            continue
        for other in others:
            assert isinstance(other, LoadedImage)
            assert (other.place, other.sha256) == (expected.place, sha256)
            assert np.array_equal(other.pixels, expected.pixels)
    assert hashed[39] == plain[39] == UnreadableImage(39, broken[39].path, "there is no such file")
    assert len(held) == 39


def test_a_file_that_is_too_large_for_an_image_is_not_read(
    items: list[ImageItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_loading, "LARGEST_FILE_BYTES", 20)
    size = items[0].path.stat().st_size
    (result,) = load_each(items[:1], NATIVE, workers=1, hashed=True)
    assert result == UnreadableImage(0, items[0].path, f"it has {size} bytes, and an image at most 20")


def test_a_folder_is_no_image_file(tmp_path: Path) -> None:
    (result,) = load_each([ImageItem(tmp_path)], NATIVE, workers=1, hashed=True)
    assert result == UnreadableImage(0, tmp_path, "Is a directory")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes have names here")
@pytest.mark.parametrize("hashed", [False, True])
def test_a_pipe_is_no_image_file_and_nobody_waits_for_it(tmp_path: Path, *, hashed: bool) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (result,) = load_each([ImageItem(tmp_path / "a.jpg")], NATIVE, workers=1, hashed=hashed)
    assert result == UnreadableImage(0, tmp_path / "a.jpg", "it is a pipe, no file")
