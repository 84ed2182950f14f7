"""Which images a whitening is learned from, whose rows, and what its record says."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.datasets.image_source import ImageSource, ImageSourceKind
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import DatasetError, SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_learning import learn_whitening, pca_whitening
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.whitening_building import (
    WhiteningImages,
    WhiteningOptions,
    build_whitening,
    rows_of_index,
    rows_of_student,
    whitening_images,
)

SPACE = EmbeddingSpace("toy", "a" * 64, 4)
PREPROCESSING = Preprocessing(16)
IMAGES, PAIRS = 12, 6
LEARNED, PCA = WhiteningKind.LEARNED, WhiteningKind.PCA


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training images in six pairs and two of validation, in the SfM layout."""
    root = tmp_path_factory.mktemp("data") / "toys"
    generator = np.random.default_rng(0)
    cids = [f"{number:032x}" for number in range(IMAGES + 2)]
    for cid in cids:
        path = root / "ims" / cid[-2:] / cid[-4:-2] / cid[-6:-4] / cid
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(path, "PNG")
    evens = list(range(0, IMAGES, 2))
    train = {
        "cids": cids[:IMAGES],
        "cluster": [number // 2 for number in range(IMAGES)],
        "qidxs": evens,
        "pidxs": [number + 1 for number in evens],
    }
    val = {"cids": cids[IMAGES:], "cluster": [0, 0], "qidxs": [0], "pidxs": [1]}
    (root / "toys.pkl").write_bytes(pickle.dumps({"train": train, "val": val}))
    return root


@pytest.fixture(scope="module")
def images(folder: Path) -> WhiteningImages:
    return whitening_images(folder, LEARNED)


@pytest.fixture(scope="module")
def index(images: WhiteningImages, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TeacherIndex:
    """Of the images in another order, and of one more."""
    stranger = folder / "stranger.png"
    Image.new("RGB", (16, 16)).save(stranger)
    ids, items = ("stranger.png", *reversed(images.ids)), (ImageItem(stranger), *reversed(images.items))
    source = ImageSource(folder, ImageSourceKind.FOLDER, ids, items)
    return build_index(FakeEmbedder(SPACE, PREPROCESSING), source, tmp_path_factory.mktemp("indexes") / "ix")


@pytest.fixture(scope="module")
def student() -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", 4), seed=1).eval()
    return StudentCheckpoint(network, "mine", SPACE, PREPROCESSING, trained=True)


@pytest.mark.parametrize("kind", WhiteningKind)
def test_the_training_split_of_a_set_with_pairs_is_taken(folder: Path, kind: WhiteningKind) -> None:
    found = whitening_images(folder, kind)
    assert (found.dataset, len(found.ids), len(found.items)) == ("toys", IMAGES, IMAGES)
    assert list(zip(found.query_rows, found.positive_rows, strict=True)) == [(n, n + 1) for n in range(0, IMAGES, 2)]


def test_pca_takes_the_training_images_of_a_set_that_has_both(tmp_path: Path) -> None:
    for name, image in (("train", "a.jpg"), ("test", "b.jpg")):
        (tmp_path / image).touch()
        (tmp_path / f"Ebay_{name}.txt").write_text(f"image_id class_id super_class_id path\n1 1 1 {image}\n")
    assert whitening_images(tmp_path, PCA).ids == ("a.jpg",)


def test_pca_takes_any_folder_and_a_learned_whitening_does_not(tmp_path: Path) -> None:
    root = tmp_path / "holiday"
    root.mkdir()
    Image.new("RGB", (8, 8)).save(root / "a.png")
    found = whitening_images(root, PCA)
    assert (found.dataset, found.ids, found.query_rows) == ("holiday", ("a.png",), ())
    with pytest.raises(DatasetError) as refusal:
        whitening_images(root, LEARNED)
    assert str(refusal.value) == (
        f"{root} does not say which of its images match; a learned whitening takes a data set in the SfM layout "
        "(ims/ beside NAME.pkl): give one, or learn one of kind 'pca', which needs no labels."
    )


def test_rows_are_found_by_id_and_those_of_strangers_left_alone(images: WhiteningImages, index: TeacherIndex) -> None:
    found = rows_of_index(index, images.ids)
    assert (found.network, found.weights_sha256, found.space) == ("toy", "a" * 64, SPACE)
    np.testing.assert_array_equal(found.rows, index.embeddings[:0:-1])


def test_an_index_that_lacks_images_is_refused(images: WhiteningImages, index: TeacherIndex) -> None:
    with pytest.raises(TeacherIndexError, match=r"lacks 1 of 13 images \(nobody\)"):
        rows_of_index(index, (*images.ids, "nobody"))


def test_an_embedding_of_an_index_that_cannot_be_one_is_named(images: WhiteningImages, index: TeacherIndex) -> None:
    rows = np.array(index.embeddings)
    rows[2] = np.nan
    with pytest.raises(TeacherIndexError, match=rf"holds an embedding that is not finite, for {index.ids[2]}; "):
        rows_of_index(replace(index, embeddings=rows), images.ids)


def test_a_whitened_index_is_refused(images: WhiteningImages, folder: Path, tmp_path: Path) -> None:
    whitening = Whitening(torch.zeros(4), torch.eye(4))
    embedder = FakeEmbedder(replace(SPACE, whitening_sha256=whitening.sha256), PREPROCESSING)
    source = ImageSource(folder, ImageSourceKind.SFM, images.ids, images.items)
    whitened = build_index(embedder, source, tmp_path / "ix", IndexOptions(whitening))
    with pytest.raises(UsageError) as refusal:
        rows_of_index(whitened, images.ids)
    assert str(refusal.value) == (
        f"the index {tmp_path / 'ix'} is whitened already ({whitening.sha256[:8]}); a whitening is learned on an index "
        "that was built without one: `aml-edge index build`."
    )


def test_a_student_s_rows_are_what_it_gives(images: WhiteningImages, student: StudentCheckpoint) -> None:
    embedder = FakeEmbedder(SPACE, PREPROCESSING)
    found = rows_of_student(student, embedder, images.items)
    assert (found.network, found.weights_sha256, found.space) == ("mine", student.weights_sha256, SPACE)
    pixels = [np.asarray(Image.open(item.path)) for item in images.items]
    np.testing.assert_array_equal(found.rows, embedder.embed(pixels))
    whitened = FakeEmbedder(replace(SPACE, whitening_sha256="b" * 64), PREPROCESSING)
    with pytest.raises(SpaceMismatchError, match=r"fake lives in .*, but student 'mine' in .*whitening_sha256"):
        rows_of_student(student, whitened, images.items)


def test_the_record_says_what_was_done(images: WhiteningImages, index: TeacherIndex) -> None:
    embedded = rows_of_index(index, images.ids)
    learned = build_whitening(images, embedded, WhiteningOptions(dimension=3))
    expected = learn_whitening(embedded.rows, images.query_rows, images.positive_rows, dimension=3)
    assert learned.whitening.sha256 == expected.sha256
    assert learned.record == WhiteningRecord(
        expected.sha256, LEARNED, "toy", "a" * 64, SPACE, "toys", IMAGES, PAIRS, 0.0
    )
    assert learned.space == EmbeddingSpace("toy", "a" * 64, 3, expected.sha256)
    pca = build_whitening(images, embedded, WhiteningOptions(PCA))
    expected = pca_whitening(embedded.rows)
    assert pca.record == WhiteningRecord(expected.sha256, PCA, "toy", "a" * 64, SPACE, "toys", IMAGES, None, 0.0)


def test_what_had_to_be_added_is_recorded(images: WhiteningImages, index: TeacherIndex) -> None:
    few = replace(images, query_rows=images.query_rows[:2], positive_rows=images.positive_rows[:2])
    embedded = rows_of_index(index, images.ids)
    assert build_whitening(few, embedded).record.regularisation == 1e-10
    asked = build_whitening(few, embedded, WhiteningOptions(regularisation=0.5))
    assert asked.record.regularisation == 0.5


def test_a_set_without_pairs_says_so(images: WhiteningImages, index: TeacherIndex) -> None:
    without = replace(images, query_rows=(), positive_rows=())
    with pytest.raises(UsageError, match="there are 0 pairs of images that match; a learned whitening needs them"):
        build_whitening(without, rows_of_index(index, images.ids))


def test_regularisation_is_not_dropped_in_silence() -> None:
    with pytest.raises(UsageError) as refusal:
        WhiteningOptions(PCA, regularisation=0.1)
    assert str(refusal.value) == (
        "`regularisation` is 0.1 and `kind` 'pca'; it is for the covariance of pairs: leave it out, and ask for a "
        "smaller `dimension` instead."
    )
