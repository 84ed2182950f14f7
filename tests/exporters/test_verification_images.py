"""Which files a verification looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import UsageError
from aml_edge.exporters.verification_images import images_of_dataset, images_of_folder
from aml_edge.image_loading import ImageItem
from aml_edge.ranking import QueryGroundTruth


@pytest.fixture
def dataset() -> RetrievalDataset:
    ids = tuple(f"jpg/{number}.jpg" for number in range(30))
    return RetrievalDataset(
        name="toy",
        root=Path("toy"),
        query_items=(ImageItem(Path("toy/jpg/q.jpg"), (0.0, 0.0, 5.0, 5.0)),),
        database_items=tuple(ImageItem(Path("toy") / one) for one in ids),
        database_ids=ids,
        ground_truth=(QueryGroundTruth((1,), (2,), ()),),
    )


def test_a_dataset_gives_all_queries_and_some_of_its_database(dataset: RetrievalDataset) -> None:
    images = images_of_dataset(dataset, 15)
    assert images.source == "toy"
    assert images.queries == dataset.query_items
    assert images.other_ids == tuple(f"jpg/{number}.jpg" for number in range(0, 30, 2))
    assert [item.path for item in images.others] == [Path("toy") / one for one in images.other_ids]
    assert images.items == images.queries + images.others
    assert (images.ground_truth, images.database_ids) == (dataset.ground_truth, dataset.database_ids)


def test_a_folder_gives_ids_as_the_index_names_them(pictures: Path) -> None:
    images = images_of_folder(pictures)
    assert images.other_ids == tuple(f"jpg/{number:02}.png" for number in range(24))
    assert images.others[3] == ImageItem(pictures / "jpg" / "03.png")
    assert images.ground_truth == ()
    assert len(images_of_folder(pictures, 16).items) == 16


@pytest.mark.parametrize("count", [15, 1, 0, -3])
def test_fewer_images_than_prove_anything_are_refused(pictures: Path, count: int) -> None:
    with pytest.raises(UsageError) as refusal:
        images_of_folder(pictures, count)
    assert str(refusal.value) == (
        f"`max_images` is {count}; a verification takes at least 16 images, so give 16 or more, or leave it out."
    )


@pytest.mark.parametrize(("queries", "least"), [(1, 15), (6, 10), (15, 1), (16, 1), (70, 1)])
def test_queries_count_among_the_images(dataset: RetrievalDataset, queries: int, least: int) -> None:
    """One image of the database is needed in any case."""
    asked = replace(
        dataset, query_items=dataset.query_items * queries, ground_truth=tuple(dataset.ground_truth) * queries
    )
    assert len(images_of_dataset(asked, least).items) == queries + least
    with pytest.raises(UsageError) as refusal:
        images_of_dataset(asked, least - 1)
    assert str(refusal.value) == (
        f"`max_images` is {least - 1}; a verification takes at least 16 images, so give {least} or more beside the "
        f"{queries} queries of the data set, or leave it out."
    )
