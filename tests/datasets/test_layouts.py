"""Which layout a folder has, and which sides of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.dataset_folders import datasets_below, is_dataset
from aml_edge.datasets.image_source import KINDS
from aml_edge.datasets.image_split import ImageSplit
from aml_edge.datasets.layouts import LAYOUTS, DatasetKind, find_layout
from aml_edge.errors import DatasetError

Record = dict[str, Any]
Write = Callable[[Record], Path]
BOTH = (ImageSplit.TRAIN, ImageSplit.TEST)


@pytest.fixture
def roots(
    distractors: Path,
    landmarks: Path,
    products: Path,
    birds: Path,
    write_revisited: Write,
    revisited_record: Record,
    write_sfm: Write,
    sfm_record: Record,
    write_instre: Write,
    instre_record: Record,
) -> dict[DatasetKind, Path]:
    """One data set of each layout, beside each other."""
    return {
        DatasetKind.REVISITED: write_revisited(revisited_record),
        DatasetKind.SFM: write_sfm(sfm_record),
        DatasetKind.DISTRACTORS: distractors,
        DatasetKind.INSTRE: write_instre(instre_record),
        DatasetKind.LANDMARKS: landmarks,
        DatasetKind.PRODUCTS: products,
        DatasetKind.BIRDS: birds,
    }


def test_each_layout_is_told_from_the_others(roots: dict[DatasetKind, Path], tmp_path: Path, classes: Path) -> None:
    assert roots.keys() == LAYOUTS.keys()
    for kind, root in roots.items():
        layout = find_layout(root)
        assert layout is LAYOUTS[kind]
        assert layout.kind is kind
        assert is_dataset(root)
    assert find_layout(classes) is None
    assert datasets_below(tmp_path) == tuple(sorted(roots.values()))


def test_the_sides_are_those_that_are_there(roots: dict[DatasetKind, Path]) -> None:
    sides = {kind: LAYOUTS[kind].splits(root) for kind, root in roots.items()}
    assert sides == {
        DatasetKind.REVISITED: (ImageSplit.TEST,),
        DatasetKind.SFM: (ImageSplit.TRAIN,),
        DatasetKind.DISTRACTORS: (ImageSplit.TRAIN,),
        DatasetKind.INSTRE: (ImageSplit.TEST,),
        DatasetKind.LANDMARKS: BOTH,
        DatasetKind.PRODUCTS: BOTH,
        DatasetKind.BIRDS: BOTH,
    }
    (roots[DatasetKind.PRODUCTS] / "Ebay_train.txt").unlink()
    assert LAYOUTS[DatasetKind.PRODUCTS].splits(roots[DatasetKind.PRODUCTS]) == (ImageSplit.TEST,)
    assert {(kind, split) for kind, splits in sides.items() for split in splits} == set(KINDS)


def test_two_data_sets_in_one_folder_are_refused(roots: dict[DatasetKind, Path]) -> None:
    root = roots[DatasetKind.PRODUCTS]
    (root / "gnd_instre.mat").touch()
    with pytest.raises(DatasetError) as caught:
        find_layout(root)
    assert str(caught.value) == (
        f"{root} holds the metadata of several data sets (gnd_instre.mat, Ebay_test.txt, Ebay_train.txt); "
        "move all but one away."
    )


def test_a_whitening_pickle_makes_no_training_set(roots: dict[DatasetKind, Path]) -> None:
    """`retrieval-SfM-120k-whiten.pkl` lies beside the other one; alone it holds no splits."""
    root = roots[DatasetKind.SFM]
    (root / "toy-SfM-whiten.pkl").write_bytes((root / "toy-SfM.pkl").read_bytes())
    assert LAYOUTS[DatasetKind.SFM].metadata(root) == (root / "toy-SfM.pkl",)
    (root / "toy-SfM.pkl").unlink()
    assert find_layout(root) is None
