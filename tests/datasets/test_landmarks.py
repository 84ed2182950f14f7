"""Google Landmarks v2: clean training images and the retrieval task, whole and broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.landmarks import Usage, landmark_files, read_landmark_test, read_landmark_training
from aml_edge.datasets.loading import load_test_set
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import DatasetError, UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.image_loading import ImageItem
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.protocol import Protocol
from aml_edge.space import EmbeddingSpace

ZEROS = "0" * 14
SOLUTION = "ground_truth/retrieval_solution_v2.1.csv"
CLEAN = "train/train_clean.csv"


def place(folder: str, start: str) -> str:
    return f"{folder}/{start[0]}/{start[1]}/0/{start}{ZEROS}.jpg"


def test_the_clean_training_images_are_clustered_by_landmark(landmarks: Path) -> None:
    (split,) = read_landmark_training(landmarks)
    images, labels = split.images, split.images.labels
    assert images.ids == tuple(place("train", one) for one in ("0a", "2a", "1a", "3a"))
    assert tuple(images.items) == tuple(ImageItem(landmarks / one) for one in images.ids)
    assert labels is not None
    assert (split.name, labels.clusters, labels.query_rows) == ("train", (7, 7, 7, 9), (0, 1, 2))
    assert all(labels.positive_rows[row] in {0, 1, 2} - {row} for row in range(3))


def test_the_retrieval_task_is_read(landmarks: Path) -> None:
    dataset = load_test_set(landmarks)
    assert (dataset.name, dataset.protocol) == ("google-landmarks-v2", Protocol.LANDMARKS)
    assert dataset.database_ids == tuple(place("index", one) for one in ("3b", "2b", "1b", "0b"))  # as listed
    assert tuple(dataset.database_items) == tuple(ImageItem(landmarks / one) for one in dataset.database_ids)
    assert dataset.query_items == tuple(ImageItem(landmarks / place("test", one)) for one in ("0c", "2c"))
    assert list(dataset.ground_truth) == [QueryGroundTruth((2, 0), (), ()), QueryGroundTruth((3,), (), ())]


@pytest.mark.parametrize(("subset", "query"), [("public", "0c"), ("private", "2c")])
def test_a_subset_of_the_queries_can_be_taken(landmarks: Path, subset: str, query: str) -> None:
    dataset = load_test_set(landmarks, subset)
    assert dataset.query_items == (ImageItem(landmarks / place("test", query)),)
    assert len(dataset.ground_truth) == 1
    assert len(dataset.database_ids) == 4


def test_there_is_no_other_subset(landmarks: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_test_set(landmarks, "ignored")
    assert str(caught.value) == (
        f"`subset` is 'ignored', but the subsets of {landmarks} are: public, private; leave it out, or name one."
    )


def test_without_the_list_the_database_is_what_lies_there(landmarks: Path) -> None:
    (landmarks / "metadata" / "index.csv").unlink()
    (landmarks / "index" / "images_000.tar").touch()
    dataset = read_landmark_test(landmarks)
    assert dataset.database_ids == tuple(place("index", one) for one in ("0b", "1b", "2b", "3b"))
    assert list(dataset.ground_truth) == [QueryGroundTruth((1, 3), (), ()), QueryGroundTruth((0,), (), ())]
    (landmarks / "index" / "thumb.jpg").touch()
    with pytest.raises(DatasetError) as caught:
        read_landmark_test(landmarks)
    assert str(caught.value) == (f"{landmarks / 'index'} names an image 'thumb'; an id has 16 letters and digits.")


@pytest.mark.parametrize("folder", [".", "metadata", "ground_truth", "train"])
def test_a_list_may_lie_where_it_is_published_or_beside(landmarks: Path, folder: str) -> None:
    (landmarks / CLEAN).rename(landmarks / folder / "train_clean.csv")
    assert landmark_files(landmarks, ImageSplit.TRAIN) == (landmarks / folder / "train_clean.csv",)
    assert len(read_landmark_training(landmarks)[0].images.ids) == 4


def test_a_list_without_its_images_makes_no_data_set(landmarks: Path) -> None:
    for folder in ("train", "test"):
        (landmarks / folder).rename(landmarks / f"{folder}-elsewhere")
    (landmarks / "train_clean.csv").touch()
    assert [landmark_files(landmarks, split) for split in ImageSplit] == [(), ()]


def test_a_missing_list_is_said_so(landmarks: Path) -> None:
    (landmarks / CLEAN).unlink()
    with pytest.raises(DatasetError) as caught:
        read_landmark_training(landmarks)
    assert str(caught.value) == (
        f"{landmarks} does not hold train_clean.csv; get it from where Google Landmarks v2 is published."
    )


def test_an_index_without_images_is_said_so(landmarks: Path) -> None:
    (landmarks / "metadata" / "index.csv").unlink()
    (landmarks / "index").rename(landmarks / "elsewhere")
    with pytest.raises(DatasetError, match=r"holds neither index\.csv nor images in index/; get the index images"):
        read_landmark_test(landmarks)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (f"x,0a{ZEROS}", ": line 2: landmark_id is 'x', which is no whole number."),
        ("1,../../etc/passwd", ": line 2 names an image '../../etc/passwd'; an id has 16 letters and digits."),
        ("1,0a", ": line 2 names an image '0a'; an id has 16 letters and digits."),
        (f"1,0a{ZEROS},1", ": line 2 has 3 fields; it must have 2: landmark_id, images."),
        (
            f"1,0a{ZEROS}\n2,1a{ZEROS} 0a{ZEROS}",
            f" names 'train/0/a/0/0a{ZEROS}.jpg' 2 times; each image is listed once.",
        ),
        ("", " holds no records; get it again."),
    ],
)
def test_broken_training_lists_are_refused(landmarks: Path, lines: str, said: str) -> None:
    path = landmarks / CLEAN
    path.write_text(f"landmark_id,images\n{lines}\n")
    with pytest.raises(DatasetError) as caught:
        read_landmark_training(landmarks)
    assert str(caught.value) == f"{path}{said}"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (f"0c{ZEROS},0b{ZEROS},public", ": line 2 has the Usage 'public'; it is Public, Private or Ignored."),
        (f"0c{ZEROS},0a{ZEROS},Public", f": line 2 names '0a{ZEROS}', which is no index image; get the lists of one "),
        (f"0c{ZEROS},None,Public", ": line 2 names an image 'None'; an id has 16 letters and digits."),
        (f"0c{ZEROS},0b{ZEROS} 0b{ZEROS},Public", ": line 2: a query's ground truth labels database row 3 twice;"),
        (
            f"0c{ZEROS},0b{ZEROS},Public\n0c{ZEROS},1b{ZEROS},Private",
            f": line 3 has an image '0c{ZEROS}' that was there before; each query is listed once.",
        ),
        (f"0c{ZEROS},None,Ignored", " has no query with the Usage Public or Private; get it again."),
        (f"0c{ZEROS}", ": line 2 has 1 fields; it must have 3: id, images, Usage."),
    ],
)
def test_broken_answers_are_refused(landmarks: Path, lines: str, said: str) -> None:
    path = landmarks / SOLUTION
    path.write_text(f"id,images,Usage\n{lines}\n")
    with pytest.raises(DatasetError) as caught:
        read_landmark_test(landmarks)
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_query_without_answers_never_counts(landmarks: Path) -> None:
    (landmarks / SOLUTION).write_text(f"id,images,Usage\n0c{ZEROS},,Public\n1c{ZEROS},0b{ZEROS},Private\n")
    assert [len(truth.easy) for truth in read_landmark_test(landmarks, tuple(Usage)).ground_truth] == [0, 1]


def test_an_image_twice_in_the_index_is_refused(landmarks: Path) -> None:
    path = landmarks / "metadata" / "index.csv"
    path.write_text(f"id\n0b{ZEROS}\n0b{ZEROS}\n")
    with pytest.raises(DatasetError) as caught:
        read_landmark_test(landmarks)
    assert str(caught.value) == f"{path} names 'index/0/b/0/0b{ZEROS}.jpg' 2 times; each image is listed once."


def test_an_index_of_its_images_serves_its_queries(landmarks: Path, tmp_path: Path) -> None:
    """Items are made as the build asks for them; the index holds them in the order of the list."""
    embedder = FakeEmbedder(EmbeddingSpace("teacher", "0" * 64, 4), Preprocessing(16))
    index = build_index(embedder, image_source(landmarks), tmp_path / "index", IndexOptions(shard_images=3))
    dataset = load_test_set(landmarks)
    assert index.ids == dataset.database_ids
    assert index.rows_of(dataset.database_ids).tolist() == [0, 1, 2, 3]
    for item, row in zip(dataset.database_items, index.embeddings, strict=True):
        (expected,) = embedder.embed([load_pixels(Path(item.path), embedder.preprocessing)])
        assert np.array_equal(row, expected)
