"""What images find: in groups as alone, and what becomes of those that cannot be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aml_edge import answers
from aml_edge.answers import FoundImage, SearchOptions, find_answers
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.errors import ImageBatchError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy", "0" * 64, 2)
PREPROCESSING = Preprocessing(8, Fit.SQUASH)


class Greys(FakeEmbedder):
    """Embeds a grey of g to (cos g°, sin g°), and counts."""

    def __init__(self) -> None:
        super().__init__(SPACE, PREPROCESSING)
        self.batches: list[int] = []

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        self.batches.append(len(images))
        angles = np.radians([float(image.mean()) for image in images])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def index_of(*degrees: float) -> TeacherIndex:
    rows = np.array([[math.cos(math.radians(one)), math.sin(math.radians(one))] for one in degrees], np.float32)
    return TeacherIndex(Path("ix"), SPACE, PREPROCESSING, tuple(f"{one}°" for one in degrees), rows, None)


@pytest.fixture
def greys(tmp_path: Path) -> list[ImageItem]:
    """Images of 0, 10, …, 80."""
    for grey in range(0, 90, 10):
        Image.new("L", (9, 9), grey).save(tmp_path / f"{grey}.png")
    return [ImageItem(tmp_path / f"{grey}.png") for grey in range(0, 90, 10)]


def test_the_nearest_come_first_with_their_cosines(greys: list[ImageItem]) -> None:
    found = find_answers(greys[3:4], Greys(), index_of(80, 20, 25, 60), SearchOptions(3))
    assert (found.items, found.unreadable) == (tuple(greys[3:4]), ())
    (answer,) = found.answers
    assert answer.image == greys[3].path
    assert [(one.rank, one.id) for one in answer.found] == [(1, "25°"), (2, "20°"), (3, "60°")]
    cosines = [math.cos(math.radians(degrees)) for degrees in (5, 10, 30)]
    assert [one.similarity for one in answer.found] == pytest.approx(cosines, abs=1e-6)  # float32


@pytest.mark.parametrize(("group", "batch"), [(1, 16), (2, 16), (4, 3), (9, 2), (256, 16)])
def test_groups_and_batches_change_nothing(
    greys: list[ImageItem], group: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = find_answers(greys, Greys(), index_of(80, 20, 25, 60), SearchOptions())
    monkeypatch.setattr(answers, "GROUP", group)
    monkeypatch.setattr(answers, "EMBEDDING_BATCH", batch)
    embedder = Greys()
    found = find_answers(greys, embedder, index_of(80, 20, 25, 60), SearchOptions())
    assert found.items == expected.items == tuple(greys)
    assert [[one.id for one in answer.found] for answer in found.answers] == [
        [one.id for one in answer.found] for answer in expected.answers
    ]
    assert sum(embedder.batches) == len(greys)
    assert max(embedder.batches) <= min(group, batch)


def test_progress_counts_images(greys: list[ImageItem], progress: Any) -> None:
    find_answers(greys, Greys(), index_of(80), SearchOptions(), progress=progress)
    assert (progress.announced, progress.done) == ([("searching", 9)], 9)


@pytest.fixture
def with_broken(greys: list[ImageItem], tmp_path: Path) -> list[ImageItem]:
    """The images with a broken one as the second and an absent one as the seventh."""
    (tmp_path / "broken.png").write_bytes(b"no")
    return [*greys[:1], ImageItem(tmp_path / "broken.png"), *greys[1:5], ImageItem(tmp_path / "gone.png"), *greys[5:]]


@pytest.mark.parametrize("group", [1, 3, 256])
def test_unreadable_images_are_all_named_and_the_others_not_embedded(
    with_broken: list[ImageItem], group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "GROUP", group)
    embedder = Greys()
    with pytest.raises(ImageBatchError) as refusal:
        find_answers(with_broken, embedder, index_of(80), SearchOptions())
    folder = with_broken[0].path.parent
    assert str(refusal.value) == (
        "2 of 11 images cannot be read; remove or replace them, or pass --skip-unreadable:\n"
        f"  {folder / 'broken.png'}: it is no image, or of a format that is not read\n"
        f"  {folder / 'gone.png'}: there is no such file"
    )
    assert sum(embedder.batches) <= 1


@pytest.mark.parametrize("group", [1, 3, 256])
def test_the_readable_ones_are_answered_where_told_to(
    with_broken: list[ImageItem], greys: list[ImageItem], group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "GROUP", group)
    degrees = range(0, 90, 10)
    found = find_answers(with_broken, Greys(), index_of(*degrees), SearchOptions(1, skip_unreadable=True))
    assert found.items == tuple(greys)
    assert [answer.image for answer in found.answers] == [item.path for item in greys]
    assert [[one.id for one in answer.found] for answer in found.answers] == [[f"{one}°"] for one in degrees]
    assert [Path(name).name for name, _ in found.unreadable] == ["broken.png", "gone.png"]


def test_where_none_can_be_read_there_is_nothing_to_skip(with_broken: list[ImageItem]) -> None:
    with pytest.raises(ImageBatchError, match="1 of 1 images cannot be read; remove or replace them:"):
        find_answers(with_broken[1:2], Greys(), index_of(80), SearchOptions(skip_unreadable=True))


def test_found_images_say_what_json_holds() -> None:
    assert list(FoundImage.__dataclass_fields__) == ["rank", "id", "similarity"]
    assert list(answers.Answer.__dataclass_fields__) == ["image", "found"]
