"""Calibration images: real, different, and the same for the same seed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from PIL import Image

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import DatasetError, ImageBatchError, QuantizationError, UsageError
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization.calibration import (
    CalibrationOptions,
    CalibrationSet,
    LeftOut,
    calibration_images,
    calibration_source,
)
from aml_edge.quantization_record import Draw
from aml_edge.space import EmbeddingSpace

SIDE = 32
FITTED = Preprocessing(SIDE, Fit.LETTERBOX)
EMBEDDER = FakeEmbedder(EmbeddingSpace("toy teacher", "a" * 64, 16), FITTED)
NAMES = ("astronaut", "coffee", "chelsea", "rocket")


def noise(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def crops() -> list[npt.NDArray[np.uint8]]:
    """40 different crops of four photographs."""
    generator = np.random.default_rng(0)
    photographs = [np.asarray(Image.fromarray(getattr(skimage.data, name)()).resize((200, 160))) for name in NAMES]
    found = []
    for number in range(40):
        left, top = generator.integers(0, 100), generator.integers(0, 80)
        found.append(photographs[number % 4][top : top + 80, left : left + 100])
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, crops: list[npt.NDArray[np.uint8]]) -> Path:
    """A folder of 40 photographs; no test may change it."""
    root = tmp_path_factory.mktemp("photos")
    for number, crop in enumerate(crops):
        save(root / f"{'deep/' if number % 3 else ''}{number:02}.png", crop)
    return root


def drawn(root: Path, count: int = 16, seed: int = 0, draw: Draw = Draw.RANDOM) -> CalibrationSet:
    return calibration_images(CalibrationOptions(root, count, seed, draw), EMBEDDER)


@pytest.mark.parametrize("draw", Draw)
def test_so_many_images_are_drawn_and_fitted_for_the_file(photos: Path, draw: Draw) -> None:
    found = drawn(photos, 20, draw=draw)
    assert len(found.images) == len(set(found.ids)) == 20
    assert list(found.ids) == sorted(found.ids)
    for one, pixels in zip(found.ids, found.images, strict=True):
        assert np.array_equal(pixels, load_pixels(photos / one, FITTED))
    assert found.left_out.describe() == ""


@pytest.mark.parametrize("draw", Draw)
def test_the_same_seed_gives_the_same_images_and_record(photos: Path, draw: Draw) -> None:
    first, second = drawn(photos, seed=3, draw=draw), drawn(photos, seed=3, draw=draw)
    assert (first.ids, first.record) == (second.ids, second.record)
    assert all(np.array_equal(*pair) for pair in zip(first.images, second.images, strict=True))
    assert any(drawn(photos, seed=seed, draw=draw).ids != first.ids for seed in (4, 5))


@pytest.mark.parametrize("draw", Draw)
def test_the_order_of_the_file_system_changes_nothing(
    photos: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn(photos, draw=draw)
    walk = os.walk

    def shuffled(*arguments: Any, **options: Any) -> Any:
        for here, folders, files in walk(*arguments, **options):
            folders.sort(reverse=True)
            random.Random(1).shuffle(files)
            yield here, folders, files

    monkeypatch.setattr(os, "walk", shuffled)
    after = drawn(photos, draw=draw)
    assert (after.ids, after.record) == (before.ids, before.record)


@pytest.mark.parametrize("draw", Draw)
def test_the_same_bytes_in_another_folder_give_the_same(photos: Path, draw: Draw, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(photos, copied)
    there, here = drawn(copied, draw=draw), drawn(photos, draw=draw)
    assert there.ids == here.ids
    assert there.record.sha256 == here.record.sha256
    assert there.record.source == str(copied)


def test_the_hash_is_that_of_the_list_as_sha256sum_writes_it(photos: Path) -> None:
    found = drawn(photos)
    lines = [f"{hashlib.sha256((photos / one).read_bytes()).hexdigest()}  {one}\n" for one in sorted(found.ids)]
    assert found.record.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (found.record.count, found.record.seed, found.record.draw) == (16, 0, Draw.RANDOM)


def test_another_byte_is_another_hash(photos: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(photos, copied)
    before = drawn(copied, 40)
    with (copied / before.ids[0]).open("ab") as stream:
        stream.write(b"\0")
    after = drawn(copied, 40)
    assert after.ids == before.ids
    assert after.record.sha256 != before.record.sha256


def test_a_random_draw_is_even(photos: Path) -> None:
    counts = dict.fromkeys(drawn(photos, 40).ids, 0)
    for seed in range(30):
        for one in drawn(photos, 20, seed).ids:
            counts[one] += 1
    assert sum(counts.values()) == 600
    assert 4 <= min(counts.values()) <= max(counts.values()) <= 26  # binomial of 30 and a half: mean 15, deviation 2.7


def test_a_diverse_draw_takes_of_every_kind(tmp_path: Path, crops: list[npt.NDArray[np.uint8]]) -> None:
    base = np.asarray(Image.fromarray(crops[0]).resize((64, 64)), np.int64)
    generator = np.random.default_rng(1)
    for number in range(40):  # one picture, hardly different
        save(
            tmp_path / f"same{number:02}.png",
            (base + generator.integers(-3, 4, base.shape)).clip(0, 255).astype(np.uint8),
        )
    for number in range(15):  # and a few of their own
        save(tmp_path / f"other{number:02}.png", crops[number + 1])
    others = {f"other{number:02}.png" for number in range(15)}
    assert others < set(drawn(tmp_path, 16, draw=Draw.DIVERSE).ids)
    assert not others < set(drawn(tmp_path, 16, draw=Draw.RANDOM).ids)


def test_fewer_than_asked_for_are_all_there_are(photos: Path) -> None:
    for draw in Draw:
        found = drawn(photos, 128, draw=draw)
        assert found.record.count == len(found.ids) == 40


def test_repetitions_one_colour_and_noise_do_not_count(tmp_path: Path, crops: list[npt.NDArray[np.uint8]]) -> None:
    for number in range(16):
        save(tmp_path / f"{number:02}.png", crops[number])
    save(tmp_path / "again.png", crops[3])
    save(tmp_path / "again.bmp", crops[3])
    save(tmp_path / "grey.png", np.full((40, 40, 3), 90, np.uint8))
    for seed in range(3):
        save(tmp_path / f"noise{seed}.png", noise(seed))
    for draw in Draw:
        found = drawn(tmp_path, 16, draw=draw)
        assert len(found.ids) == 16
        assert not {"grey.png", "noise0.png", "noise1.png", "noise2.png"} & set(found.ids)
    everything = drawn(tmp_path, 64)
    assert everything.left_out == LeftOut(repeated=2, one_colour=1, noise=3)
    assert everything.left_out.describe() == "2 repeat another, 1 are of one colour, 3 are noise"


RULE = "; fewer than 16 do not show how far activations go: name a folder with more."


@pytest.mark.parametrize("draw", Draw)
def test_a_folder_of_noise_is_refused(tmp_path: Path, draw: Draw) -> None:
    for seed in range(30):
        save(tmp_path / f"{seed}.png", noise(seed))
    with pytest.raises(QuantizationError) as refusal:
        drawn(tmp_path, draw=draw)
    assert str(refusal.value) == (
        f"`calibrate_on` is {tmp_path}, where 0 of 30 images drawn are different pictures (30 are noise)" + RULE
    )


def test_too_few_pictures_are_refused(tmp_path: Path, crops: list[npt.NDArray[np.uint8]]) -> None:
    for number in range(15):
        save(tmp_path / f"{number:02}.png", crops[number])
    with pytest.raises(QuantizationError) as refusal:
        drawn(tmp_path)
    assert str(refusal.value) == (
        f"`calibrate_on` is {tmp_path}, where 15 of 15 images drawn are different pictures" + RULE
    )
    save(tmp_path / "15.png", crops[14])
    save(tmp_path / "16.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(QuantizationError) as refusal:
        drawn(tmp_path)
    assert str(refusal.value) == (
        f"`calibrate_on` is {tmp_path}, where 15 of 17 images drawn are different pictures "
        "(1 repeat another, 1 are of one colour)" + RULE
    )


def test_128_images_are_drawn_at_random_unless_something_else_is_asked_for(tmp_path: Path) -> None:
    assert CalibrationOptions(tmp_path) == CalibrationOptions(tmp_path, 128, 0, Draw.RANDOM)


@pytest.mark.parametrize("count", [15, 0, -1])
def test_a_count_that_is_too_small_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError) as refusal:
        CalibrationOptions(tmp_path, count)
    assert str(refusal.value) == (
        f"`calibration_count` is {count}; fewer than 16 images do not show how far activations go: give 16 or more."
    )


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        CalibrationOptions(tmp_path, seed=-1)
    assert str(refusal.value) == "`calibration_seed` is -1; a seed is 0 or more."


def test_images_that_cannot_be_read_are_all_listed(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "cut.png").write_bytes((photos / "00.png").read_bytes()[:200])
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageBatchError) as refusal:
        drawn(tmp_path, 45)
    lines = str(refusal.value).splitlines()
    assert lines[0] == "5 of 45 images cannot be read; remove or replace them:"
    found = {Path(line.split(": ")[0].strip()).name: line.split(": ", 1)[1] for line in lines[1:]}
    assert found["empty.jpg"] == "the file is empty"
    assert found["text.png"] == "it is no image, or of a format that is not read"
    assert found["gone.png"] == "there is no such file"
    assert found["pipe.png"] == "it is a pipe, no file"
    assert set(found) == {"empty.jpg", "text.png", "gone.png", "cut.png", "pipe.png"}


def test_an_image_that_is_too_large_is_listed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    save(tmp_path / "huge.png", np.zeros((120, 120, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ImageBatchError, match=r"huge\.png: it has more than 10000 pixels, Pillow's limit"):
        drawn(tmp_path, 41)


def test_circles_of_links_hidden_files_and_others_do_not_matter(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    (tmp_path / "deep" / "circle").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    assert drawn(tmp_path, 40).ids == drawn(photos, 40).ids


def test_a_folder_without_images_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no image; files count by suffix"):
        drawn(tmp_path)
    with pytest.raises(UsageError, match="is no folder; give the folder that holds the images"):
        drawn(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data set: 18 training images, a database of 19, one query."""
    root = tmp_path_factory.mktemp("landmarks")
    few = SyntheticSpec(
        image_side_px=48, landmarks_train=4, landmarks_val=2, landmarks_test=1, easy=1, hard=1, junk=0, distractors=17
    )
    write_synthetic(root, few, workers=1)
    return root


@pytest.mark.parametrize(("part", "count"), [("train", 18), ("test", 19)])
def test_training_images_and_the_database_of_a_data_set_calibrate(landmarks: Path, part: str, count: int) -> None:
    found = drawn(landmarks / part / "synth", 64)
    assert found.ids == tuple(sorted(image_source(landmarks / part / "synth").ids))
    assert len(found.ids) == count


def test_progress_is_told_for_reading_and_embedding(photos: Path, progress: Any) -> None:
    calibration_images(CalibrationOptions(photos, 16, draw=Draw.DIVERSE), EMBEDDER, progress)
    assert progress.announced == [("reading calibration images", 40), ("embedding images to draw from", 40)]
    assert progress.done == 80


def test_a_random_draw_embeds_nothing(photos: Path, progress: Any) -> None:
    calibration_images(CalibrationOptions(photos, 16, draw=Draw.RANDOM), EMBEDDER, progress)
    assert progress.announced == [("reading calibration images", 16)]
    assert progress.done == 16


def test_what_was_named_for_it_goes_before_the_images_of_the_index() -> None:
    assert calibration_source(Path("photos"), Path("index")) == Path("photos")
    assert calibration_source(None, Path("index")) == Path("index")
    with pytest.raises(UsageError) as refusal:
        calibration_source(None, None)
    assert str(refusal.value) == (
        "`calibrate_on` is not given, and an index does not say where its images lie; real images choose the integers "
        "of activations: name a folder or a data set with --calibrate-on DIR."
    )
