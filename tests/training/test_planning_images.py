"""A training reads the images that its index was built from, or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.datasets.training_images import training_images
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import TeacherIndexError
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import SayingProgress
from aml_edge.space import EmbeddingSpace
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.planning import plan_training
from aml_edge.training.recipe import Recipe
from aml_edge.training.settings import TrainingSettings

SPACE = EmbeddingSpace("block means", "b" * 64, 16)
SPEC = SyntheticSpec(
    image_side_px=64, landmarks_train=2, landmarks_val=1, views_train=3, landmarks_test=1, distractors=0
)
RECIPE = Recipe("small", {}, TrainingSettings(backbone="mobilenetv2_035", batch_size=4, image_side_px=64))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set in the SfM layout with an index beside it, which no test may change."""
    root = write_synthetic(tmp_path_factory.mktemp("synthetic") / "data", SPEC).train_root
    build_index(FakeEmbedder(SPACE, Preprocessing(64)), image_source(root), root.parent / "index")
    return root.parent


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    shutil.copytree(drawn, tmp_path / "train")
    return tmp_path / "train" / SPEC.name


@pytest.fixture
def index(data: Path) -> TeacherIndex:
    return open_index(data.parent / "index")


def planned(data: Path, index: TeacherIndex, progress: SayingProgress | None = None) -> TrainingPlan:
    return plan_training(RECIPE, data, index, progress=progress)


def change_a_pixel(file: Path) -> None:
    """Changes the last byte before the end of a JPEG: the size stays, and the time too."""
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def test_both_splits_are_checked_at_once(data: Path, index: TeacherIndex, progress: Any) -> None:
    plan = planned(data, index, progress)
    assert plan.validation is not None
    assert (len(plan.training.items), len(plan.validation.items)) == (6, 3)
    assert progress.announced == [("checking images", 9)]
    assert progress.done == 9


@pytest.mark.parametrize("split", ["training", "validation"])
def test_an_image_that_was_changed_since_is_refused_by_name(data: Path, index: TeacherIndex, split: str) -> None:
    images = training_images(data)
    changed = images.training if split == "training" else images.validation
    assert changed is not None
    change_a_pixel(changed.items[1].path)
    with pytest.raises(TeacherIndexError) as caught:
        planned(data, index)
    assert str(caught.value) == (
        f"the index {index.path} was built from other images: 1 of 9 have other bytes now ({changed.ids[1]}); "
        "build it again from these, or give those that it was built from."
    )


def test_an_index_that_was_built_again_is_taken(data: Path, index: TeacherIndex) -> None:
    change_a_pixel(training_images(data).training.items[0].path)
    again = build_index(FakeEmbedder(SPACE, Preprocessing(64)), image_source(data), data.parent / "again")
    assert planned(data, again).index == again.path


def test_images_that_no_training_reads_may_change(data: Path, index: TeacherIndex, progress: Any) -> None:
    """An index of the training images alone says nothing of those of the validation, which are left out then."""
    images = training_images(data)
    source = image_source(data)
    assert images.validation is not None
    kept = set(images.training.ids)
    pairs = [(one, item) for one, item in zip(source.ids, source.items, strict=True) if one in kept]
    only = type(source)(source.root, source.kind, tuple(one for one, _ in pairs), tuple(item for _, item in pairs))
    index = build_index(FakeEmbedder(SPACE, Preprocessing(64)), only, data.parent / "training only")
    change_a_pixel(images.validation.items[0].path)
    assert planned(data, index, progress).validation is None
    assert progress.announced == [("checking images", 6)]


def test_an_older_index_is_taken_as_it_is(data: Path, index: TeacherIndex, progress: Any) -> None:
    """It does not say which bytes its images had."""
    record = json.loads((index.path / "index.json").read_text())
    del record["images_sha256"], record["embeddings_sha256"]
    (index.path / "index.json").write_text(json.dumps(record))
    (index.path / "images.sha256").unlink()
    change_a_pixel(training_images(data).training.items[0].path)
    plan = planned(data, open_index(index.path), progress)
    assert progress.announced == []
    assert plan.training.teacher is not None
