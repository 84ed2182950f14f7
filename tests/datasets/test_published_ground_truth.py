"""The published ground truths of ROxford5k and RParis6k, `gnd_*.pkl`, as they were downloaded.

The oracle is Python's own unpickler, which may read these two files, for they are ours to trust.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.revisited import read_revisited
from aml_edge.errors import DatasetError
from aml_edge.protocol import Protocol

DATA = Path(__file__).parents[1] / "data"
SIZES = {"roxford5k": (70, 4993), "rparis6k": (70, 6322)}
"""Queries and database images, as the paper's section 3 gives them."""


@pytest.mark.parametrize("name", SIZES)
def test_a_published_ground_truth_is_read(name: str) -> None:
    path = DATA / f"gnd_{name}.pkl"
    dataset = read_revisited(path)
    content = pickle.loads(path.read_bytes())
    assert (dataset.name, dataset.protocol) == (name, Protocol.REVISITED)
    assert (len(dataset.query_items), len(dataset.database_ids)) == SIZES[name]
    assert dataset.database_ids == tuple(f"jpg/{one}.jpg" for one in content["imlist"])
    for item, truth, query, record in zip(
        dataset.query_items, dataset.ground_truth, content["qimlist"], content["gnd"], strict=True
    ):
        assert (str(item.path), item.box) == (str(DATA / "jpg" / f"{query}.jpg"), tuple(record["bbx"]))
        found = {"easy": truth.easy, "hard": truth.hard, "junk": truth.junk}
        assert found == {label: tuple(record[label]) for label in found}


def test_it_is_loaded_with_its_images(tmp_path: Path) -> None:
    path = DATA / "gnd_roxford5k.pkl"
    (tmp_path / path.name).write_bytes(path.read_bytes())
    dataset = read_revisited(path)
    (tmp_path / "jpg").mkdir()
    for item in (*dataset.query_items, *dataset.database_items):
        (tmp_path / "jpg" / Path(item.path).name).touch()
    assert len(load_test_set(tmp_path).database_items) == 4993
    (tmp_path / dataset.database_ids[7]).unlink()
    with pytest.raises(DatasetError, match=r"1 of 5063 images of .* are missing"):
        load_test_set(tmp_path)
