"""Which files a verification looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.revisited import RevisitedDataset
from aml_edge.errors import UsageError
from aml_edge.exporters.verification_images import images_of_dataset, images_of_folder
from aml_edge.image_loading import ImageItem
from aml_edge.ranking import QueryGroundTruth


@pytest.fixture
def dataset() -> RevisitedDataset:
    ids = tuple(f"jpg/{number}.jpg" for number in range(10))
    return RevisitedDataset(
        name="toy",
        root=Path("toy"),
        query_items=(ImageItem(Path("toy/jpg/q.jpg"), (0.0, 0.0, 5.0, 5.0)),),
        database_items=tuple(ImageItem(Path("toy") / one) for one in ids),
        database_ids=ids,
        ground_truth=(QueryGroundTruth((1,), (2,), ()),),
    )


def test_a_dataset_gives_all_queries_and_some_of_its_database(dataset: RevisitedDataset) -> None:
    images = images_of_dataset(dataset, 5)
    assert images.source == "toy"
    assert images.queries == dataset.query_items
    assert images.other_ids == ("jpg/0.jpg", "jpg/2.jpg", "jpg/4.jpg", "jpg/6.jpg", "jpg/8.jpg")
    assert [item.path for item in images.others] == [Path("toy") / one for one in images.other_ids]
    assert images.items == images.queries + images.others
    assert (images.ground_truth, images.database_ids) == (dataset.ground_truth, dataset.database_ids)


def test_a_folder_gives_ids_as_the_index_names_them(pictures: Path) -> None:
    images = images_of_folder(pictures)
    assert images.other_ids == tuple(f"jpg/{number:02}.png" for number in range(24))
    assert images.others[3] == ImageItem(pictures / "jpg" / "03.png")
    assert images.ground_truth == ()
    assert len(images_of_folder(pictures, 6).items) == 6


def test_no_images_are_too_few(pictures: Path) -> None:
    with pytest.raises(UsageError, match="`max_images` is 0; a verification needs images, 16 at least"):
        images_of_folder(pictures, 0)
