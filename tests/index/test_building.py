"""Building an index: what is in it, what it refuses, and that being killed at any moment changes no byte of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save

from aml_edge.datasets.image_source import ImageSource, image_source
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.errors import ImageBatchError, TeacherIndexError, UsageError
from aml_edge.index import open_index, shard_embedding
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.index.images import read_image_hashes
from aml_edge.index.shards import sole_builder
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Pixels, load_pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("teacher", "a" * 64, 8)
PREPROCESSING = Preprocessing(image_side_px=16)
SMALL = IndexOptions(shard_images=4)
KILLED_BUILDS = Path(__file__).with_name("building_killed.py")


class CountingEmbedder(FakeEmbedder):
    """Counts what it embeds, and can break down or fill the row of an image with a value."""

    def __init__(self, *, fails_after: int | None = None, row_of: tuple[int, float] = (-1, 0.0)) -> None:
        super().__init__(SPACE, PREPROCESSING)
        self.embedded = 0
        self._fails_after, self._row_of = fails_after, row_of

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        if self._fails_after is not None and self.embedded >= self._fails_after:
            raise RuntimeError("power cut")
        rows = super().embed(images)
        place, value = self._row_of
        if self.embedded <= place < self.embedded + len(images):
            rows[place - self.embedded] = value
        self.embedded += len(images)
        return rows


class RecordingProgress:
    """Adds up the steps of the one task there is."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.steps: list[int] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        assert description == "embedding"
        self.total = total
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.done += steps
        self.steps.append(steps)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(folder: Path, count: int) -> ImageSource:
    """Pictures of several shapes in a folder and in one below it."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("sub" if number % 3 == 0 else ".") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(0, 256, size=(12 + number % 4, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return image_source(folder)


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    return pictures(tmp_path / "images", 11)


def break_image(source: ImageSource, place: int) -> Path:
    source.items[place].path.write_bytes(b"no picture")
    return source.items[place].path


def test_holds_the_embedding_of_every_image(source: ImageSource, tmp_path: Path) -> None:
    built = build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path / "index", SMALL)
    index = open_index(tmp_path / "index")
    assert built.ids == index.ids == source.ids
    assert len(index.ids) == 11
    assert (index.space, index.preprocessing, index.skipped) == (SPACE, PREPROCESSING, ())
    embedder = FakeEmbedder(SPACE, PREPROCESSING)
    for row, item in zip(index.embeddings, source.items, strict=True):
        assert row.tolist() == embedder.embed([load_pixels(item.path, PREPROCESSING)])[0].tolist()
    assert sorted(contents(tmp_path / "index")) == ["embeddings.npy", "ids.txt", "images.sha256", "index.json"]
    assert not (tmp_path / "index.partial").exists()


def test_size_of_shards_changes_nothing(source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = FakeEmbedder(SPACE, PREPROCESSING)
    build_index(embedder, source, tmp_path / "whole")
    for size, at_once in ((1, 1), (4, 3), (11, 4), (12, 64)):
        monkeypatch.setattr(shard_embedding, "IMAGES_AT_ONCE", at_once)
        build_index(embedder, source, tmp_path / f"by-{size}", IndexOptions(shard_images=size))
        assert contents(tmp_path / f"by-{size}") == contents(tmp_path / "whole")


def test_embeddings_file_is_what_numpy_writes(source: ImageSource, tmp_path: Path) -> None:
    index = build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path / "index", SMALL)
    np.save(tmp_path / "by-numpy.npy", index.embeddings)
    assert (tmp_path / "index" / "embeddings.npy").read_bytes() == (tmp_path / "by-numpy.npy").read_bytes()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not there")
def test_images_are_written_down_as_sha256sum_does(tmp_path: Path) -> None:
    """Backslashes too, which a name of a plain folder may have."""
    source = pictures(tmp_path / "images", 5)
    source.items[4].path.rename(tmp_path / "images" / "back\\slash.png")
    break_image(source, 2)
    options = replace(SMALL, skip_unreadable=True)
    index = build_index(FakeEmbedder(SPACE, PREPROCESSING), image_source(tmp_path / "images"), tmp_path / "ix", options)
    assert len(index.ids) == 4
    written = (tmp_path / "ix" / "images.sha256").read_bytes()
    by_it = subprocess.run(["sha256sum", "--", *index.ids], cwd=tmp_path / "images", capture_output=True, check=True)
    assert written == by_it.stdout
    record = json.loads((tmp_path / "ix" / "index.json").read_text())
    assert record["images_sha256"] == index.images_sha256 == hashlib.sha256(written).hexdigest()
    embeddings = (tmp_path / "ix" / "embeddings.npy").read_bytes()
    assert record["embeddings_sha256"] == hashlib.sha256(embeddings).hexdigest()


def test_shards_of_an_older_version_are_made_again(source: ImageSource, tmp_path: Path) -> None:
    """They do not say which bytes the images had."""
    build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path / "undisturbed", SMALL)
    with pytest.raises(RuntimeError):
        build_index(CountingEmbedder(fails_after=8), source, tmp_path / "index", SMALL)
    shard = tmp_path / "index.partial" / "shards" / "000001.safetensors"
    with safe_open(shard, framework="numpy") as opened:
        metadata, rows = opened.metadata(), opened.get_tensor("embeddings")
    shard.write_bytes(save({"embeddings": rows}, metadata))
    second = CountingEmbedder()
    build_index(second, source, tmp_path / "index", SMALL)
    assert second.embedded == 7
    assert contents(tmp_path / "index") == contents(tmp_path / "undisturbed")


def test_goes_on_where_it_broke_down(source: ImageSource, tmp_path: Path) -> None:
    build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path / "undisturbed", SMALL)
    with pytest.raises(RuntimeError, match="power cut"):
        build_index(CountingEmbedder(fails_after=8), source, tmp_path / "index", SMALL)
    assert not (tmp_path / "index").exists()
    second, progress = CountingEmbedder(), RecordingProgress()
    build_index(second, source, tmp_path / "index", SMALL, progress=progress)
    assert second.embedded == 3
    assert (progress.total, progress.done, progress.steps[0]) == (11, 11, 8)
    assert contents(tmp_path / "index") == contents(tmp_path / "undisturbed")


def killed(how: str, source: ImageSource, outs: Path) -> int:
    """Returns how many times builds into folders of `outs` were killed."""
    command = [sys.executable, str(KILLED_BUILDS), how, str(source.root), str(outs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_before_anything_that_it_does_to_a_file(tmp_path: Path) -> None:
    source = pictures(tmp_path / "images", 5)
    break_image(source, 3)
    options = IndexOptions(shard_images=2, skip_unreadable=True)
    build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path / "undisturbed", options)
    kills = killed("events", source, tmp_path / "outs")
    assert kills > 25  # a lock, a plan, three shards, an index of four files, and the clean-up
    expected = contents(tmp_path / "undisturbed")
    for kill in range(1, kills + 1):
        assert contents(tmp_path / "outs" / f"killed-at-{kill}") == expected, f"killed at event {kill}"
        assert not (tmp_path / "outs" / f"killed-at-{kill}.partial").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_from_outside_at_random_moments(source: ImageSource, tmp_path: Path) -> None:
    """A network in a process of its own, killed again and again until it came to its end; seeded times."""
    break_image(source, 3)
    assert killed("random", source, tmp_path / "outs") > 6  # of 12 builds, each killed again and again
    expected = contents(tmp_path / "outs" / "undisturbed")
    assert len(expected) == 4
    for build in range(12):
        assert contents(tmp_path / "outs" / f"killed-{build}") == expected
        assert not (tmp_path / "outs" / f"killed-{build}.partial").exists()


def test_damaged_shards_and_changed_images_are_made_again(source: ImageSource, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        build_index(CountingEmbedder(fails_after=8), source, tmp_path / "index", SMALL)
    first = tmp_path / "index.partial" / "shards" / "000000.safetensors"
    first.write_bytes(first.read_bytes()[:-1])
    changed = source.items[5].path
    Image.new("RGB", (20, 20), (200, 10, 10)).save(changed)
    second = CountingEmbedder()
    index = build_index(second, source, tmp_path / "index", SMALL)
    assert second.embedded == 11
    row = FakeEmbedder(SPACE, PREPROCESSING).embed([load_pixels(changed, PREPROCESSING)])[0]
    assert index.embeddings[5].tolist() == row.tolist()


def test_all_unreadable_images_are_listed_and_what_was_embedded_is_kept(source: ImageSource, tmp_path: Path) -> None:
    broken = [break_image(source, place) for place in (5, 10)]
    embedder = CountingEmbedder()
    progress = RecordingProgress()
    with pytest.raises(ImageBatchError) as refusal:
        build_index(embedder, source, tmp_path / "index", SMALL, progress=progress)
    assert [path for path, _ in refusal.value.failures] == broken
    assert str(refusal.value).startswith("2 of 11 images cannot be read; ")
    assert "pass --skip-unreadable" in str(refusal.value)
    assert embedder.embedded == 4  # nothing is embedded after the first unreadable image
    assert progress.done == 11
    assert not (tmp_path / "index").exists()
    embedder = CountingEmbedder()
    index = build_index(embedder, source, tmp_path / "index", replace(SMALL, skip_unreadable=True))
    assert embedder.embedded == 5
    assert index.skipped == (source.ids[5], source.ids[10])
    assert index.ids == tuple(one for one in source.ids if one not in index.skipped)
    assert index.rows_of([source.ids[6]]).tolist() == [5]
    assert len(index.embeddings) == 9


def test_what_was_skipped_is_not_skipped_the_next_time(source: ImageSource, tmp_path: Path) -> None:
    break_image(source, 0)
    skipping = replace(SMALL, skip_unreadable=True)
    with pytest.raises(RuntimeError):
        build_index(CountingEmbedder(fails_after=7), source, tmp_path / "index", skipping)
    with pytest.raises(ImageBatchError):
        build_index(CountingEmbedder(), source, tmp_path / "index", SMALL)


def test_nothing_readable_is_no_index(source: ImageSource, tmp_path: Path) -> None:
    for place in range(11):
        break_image(source, place)
    with pytest.raises(TeacherIndexError, match=r"none of the 11 images of .*images can be read; give another folder"):
        build_index(CountingEmbedder(), source, tmp_path / "index", replace(SMALL, skip_unreadable=True))
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 2.0])
def test_embeddings_that_are_not_finite_or_not_of_unit_length_are_refused(
    source: ImageSource, tmp_path: Path, value: float
) -> None:
    with pytest.raises(TeacherIndexError) as refusal:
        build_index(CountingEmbedder(row_of=(6, value)), source, tmp_path / "index", SMALL)
    assert str(refusal.value) == (
        f"fake gives 1 embeddings that are not finite or not of unit length, the first for {source.ids[6]}; an index "
        "takes none of those: check the teacher's weights, or, where it is an image of next to nothing, pass "
        "--skip-unreadable."
    )
    assert not (tmp_path / "index").exists()


def test_an_image_in_which_the_network_finds_nothing_is_left_out_with_the_unreadable_ones(
    source: ImageSource, tmp_path: Path
) -> None:
    """A row of 0.25 stands for what L2 with an eps leaves of a picture of one colour; NaN is never such a picture."""
    break_image(source, 2)
    skipping = replace(SMALL, skip_unreadable=True)
    sixth = 5  # that reaches the embedder
    index = build_index(CountingEmbedder(row_of=(sixth, 0.25)), source, tmp_path / "index", skipping)
    assert index.skipped == (source.ids[2], source.ids[6])
    kept = [item.path for place, item in enumerate(source.items) if place not in (2, 6)]
    assert [path.relative_to(source.root).as_posix() for path in kept] == list(index.ids)
    expected = FakeEmbedder(SPACE, PREPROCESSING).embed([load_pixels(path, PREPROCESSING) for path in kept])
    np.testing.assert_array_equal(index.embeddings, expected)
    assert read_image_hashes(index) == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in kept)
    with pytest.raises(TeacherIndexError, match="1 embeddings that are not finite"):
        build_index(CountingEmbedder(row_of=(sixth, np.nan)), source, tmp_path / "another", skipping)


def test_a_plan_without_scales_is_of_one(source: ImageSource, tmp_path: Path) -> None:
    """A build that an older version began."""
    with pytest.raises(RuntimeError):
        build_index(CountingEmbedder(fails_after=8), source, tmp_path / "index", SMALL)
    plan = tmp_path / "index.partial" / "plan.json"
    record = json.loads(plan.read_text())
    assert record.pop("scales") == [1.0]
    plan.write_text(json.dumps(record))
    several = replace(SMALL, scales=(1.0, 0.5))
    with pytest.raises(TeacherIndexError, match=r"of another plan \(different scales\); finish that one"):
        build_index(CountingEmbedder(), source, tmp_path / "index", several)
    embedder = CountingEmbedder()
    assert build_index(embedder, source, tmp_path / "index", SMALL).scales == (1.0,)
    assert embedder.embedded == 3
    assert build_index(embedder, source, tmp_path / "several", several).scales == (1.0, 0.5)


def test_another_plan_is_refused_or_started_again(source: ImageSource, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        build_index(CountingEmbedder(fails_after=8), source, tmp_path / "index", SMALL)
    other = FakeEmbedder(replace(SPACE, teacher="other"), Preprocessing(image_side_px=32))
    other.name = "newer fake"
    with pytest.raises(TeacherIndexError) as refusal:
        build_index(other, source, tmp_path / "index", SMALL)
    assert str(refusal.value) == (
        f"{tmp_path / 'index.partial'} holds an unfinished index of another plan (different space, preprocessing, "
        "engine); finish that one with its own arguments, pass --restart to throw it away, or give another --out."
    )
    fewer = ImageSource(source.root, source.kind, source.ids[1:], source.items[1:])
    with pytest.raises(TeacherIndexError, match="different images, ids_sha256"):
        build_index(CountingEmbedder(), fewer, tmp_path / "index", SMALL)
    index = build_index(other, source, tmp_path / "index", replace(SMALL, restart=True))
    assert index.space.teacher == "other"
    build_index(other, source, tmp_path / "undisturbed", SMALL)
    assert contents(tmp_path / "index") == contents(tmp_path / "undisturbed")


def test_a_plan_of_which_nothing_was_embedded_binds_nobody(source: ImageSource, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        build_index(CountingEmbedder(fails_after=0), source, tmp_path / "index", SMALL)
    assert not list((tmp_path / "index.partial" / "shards").iterdir())
    fewer = ImageSource(source.root, source.kind, source.ids[1:], source.items[1:])
    assert build_index(CountingEmbedder(), fewer, tmp_path / "index", SMALL).ids == source.ids[1:]


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000])
def test_a_plan_that_cannot_be_read_is_another_one(source: ImageSource, tmp_path: Path, text: str) -> None:
    (tmp_path / "index.partial").mkdir()
    (tmp_path / "index.partial" / "plan.json").write_text(text)
    with pytest.raises(TeacherIndexError, match=r"another plan \(different all of it\)"):
        build_index(CountingEmbedder(), source, tmp_path / "index", SMALL)


def test_an_index_is_never_written_over(source: ImageSource, tmp_path: Path) -> None:
    build_index(CountingEmbedder(), source, tmp_path / "index", SMALL)
    before = contents(tmp_path / "index")
    with pytest.raises(TeacherIndexError) as refusal:
        build_index(CountingEmbedder(), source, tmp_path / "index", replace(SMALL, restart=True))
    assert str(refusal.value) == (
        f"{tmp_path / 'index'} is there already, and an index is never written over; remove it to build it again, "
        "or give another --out."
    )
    assert contents(tmp_path / "index") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TeacherIndexError, match="file is there already"):
        build_index(CountingEmbedder(), source, tmp_path / "file", SMALL)


def test_an_empty_folder_may_become_an_index(source: ImageSource, tmp_path: Path) -> None:
    (tmp_path / "new" / "index").mkdir(parents=True)
    assert len(build_index(CountingEmbedder(), source, tmp_path / "new" / "index", SMALL).ids) == 11


def test_a_folder_of_somebody_else_is_left_alone(source: ImageSource, tmp_path: Path) -> None:
    (tmp_path / "index.partial").mkdir()
    (tmp_path / "index.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(TeacherIndexError, match=r"index\.partial is in the way, and it is no unfinished index"):
        build_index(CountingEmbedder(), source, tmp_path / "index", replace(SMALL, restart=True))
    assert (tmp_path / "index.partial" / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_two_builders_do_not_meet(source: ImageSource, tmp_path: Path) -> None:
    with sole_builder(tmp_path / "index.partial"):
        with pytest.raises(TeacherIndexError, match=r"is being built by another process; wait for it, or give another"):
            build_index(CountingEmbedder(), source, tmp_path / "index", SMALL)
    build_index(CountingEmbedder(), source, tmp_path / "index", SMALL)


def test_whitening_of_the_space_is_kept(source: ImageSource, tmp_path: Path) -> None:
    whitening = Whitening(torch.zeros(12), torch.ones(8, 12))
    embedder = FakeEmbedder(replace(SPACE, whitening_sha256=whitening.sha256), PREPROCESSING)
    index = build_index(embedder, source, tmp_path / "index", replace(SMALL, whitening=whitening))
    assert index.whitening is not None
    assert index.whitening.sha256 == whitening.sha256
    with pytest.raises(UsageError) as refusal:
        build_index(embedder, source, tmp_path / "without", SMALL)
    assert str(refusal.value) == (
        f"`whitening` is none, but the embedder's space has {whitening.sha256[:8]}; give the one that the embedder "
        "ends in."
    )
    with pytest.raises(UsageError, match="but the embedder's space has none"):
        build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path / "too-much", IndexOptions(whitening))


def test_shards_need_images() -> None:
    with pytest.raises(UsageError, match="`shard_images` is 0; a shard holds at least one image"):
        IndexOptions(shard_images=0)
