"""From a recipe and two folders to a training: what goes into the plan, what is noted, what is refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.datasets.image_source import ImageSource, ImageSourceKind, image_source
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace, untrained_space
from aml_edge.training.planning import plan_training
from aml_edge.training.recipe import Recipe
from aml_edge.training.settings import Mining, Mode, Network, TrainingSettings

SPACE = EmbeddingSpace("block means", "b" * 64, 16)
SETTINGS = TrainingSettings(backbone="mobilenetv2_035", image_side_px=64, seed=5)
MINED = replace(SETTINGS, loss="triplet", loss_options={"margin": 0.1}, mining=Mining.HARD)
ALONE = replace(MINED, mode=Mode.SYMMETRIC, warm_start=False, dimension=8)
NOTE_ON_SPACE = (
    "the loss {loss} teaches which images are alike, not where the teacher puts them: the student will not fit the "
    "teacher's index. Use it where one network embeds queries and database; for asymmetric testing choose regression "
    "or contrastive_plus."
)


def recipe(settings: TrainingSettings = SETTINGS, **changes: Any) -> Recipe:
    return Recipe("mine", {}, replace(settings, **changes))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set in the SfM layout: six images to learn from, three to judge by; no test may change it."""
    root, generator = tmp_path_factory.mktemp("training set") / "toy", np.random.default_rng(0)
    names = [f"{letter}{number:05}" for letter, count in (("a", 6), ("b", 3)) for number in range(count)]
    for name in names:
        path = root / "ims" / name[-2:] / name[-4:-2] / name[-6:-4] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path, format="JPEG")
    splits: Mapping[str, Mapping[str, Sequence[object]]] = {
        "train": {"cids": names[:6], "cluster": [0, 0, 1, 1, 2, 2], "qidxs": [0, 2, 5], "pidxs": [1, 3, 4]},
        "val": {"cids": names[6:], "cluster": [7, 7, 8], "qidxs": [0], "pidxs": [1]},
    }
    (root / "toy.pkl").write_bytes(pickle.dumps(splits))
    return root


@pytest.fixture(scope="module")
def index(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TeacherIndex:
    """Of both splits."""
    teacher = FakeEmbedder(SPACE, Preprocessing(64))
    return build_index(teacher, image_source(data), tmp_path_factory.mktemp("indexes") / "both")


def index_of(data: Path, ids: Sequence[str], out: Path) -> TeacherIndex:
    """Builds an index of some images only."""
    source = image_source(data)
    items = dict(zip(source.ids, source.items, strict=True))
    chosen = ImageSource(data, ImageSourceKind.SFM, tuple(ids), tuple(items[one] for one in ids))
    return build_index(FakeEmbedder(SPACE, Preprocessing(64)), chosen, out)


def test_a_plan_has_both_splits_with_their_teacher_embeddings(data: Path, index: TeacherIndex) -> None:
    plan = plan_training(recipe(), data, index)
    assert (plan.recipe, plan.data, plan.index, plan.notes) == (recipe(), data, index.path, ())
    rows = {one: index.embeddings[place] for place, one in enumerate(index.ids)}
    assert plan.validation is not None
    for split, count in ((plan.training, 6), (plan.validation, 3)):
        assert len(split.items) == count
        assert split.teacher is not None and split.teacher.space == SPACE
        for item, row in zip(split.items, split.teacher.rows, strict=True):
            assert np.array_equal(row, rows[item.path.relative_to(data).as_posix()])
    assert plan.training.labels is not None and plan.validation.labels is not None
    assert plan.training.labels.clusters == (0, 0, 1, 1, 2, 2)
    assert (plan.training.labels.query_rows, plan.training.labels.positive_rows) == ((0, 2, 5), (1, 3, 4))
    assert plan.validation.labels.clusters == (7, 7, 8)


def test_a_student_claims_the_space_of_the_index(data: Path, index: TeacherIndex) -> None:
    start = plan_training(recipe(), data, index).start
    assert isinstance(start, StudentCheckpoint)
    assert (start.space, start.student.dimension, start.trained) == (SPACE, 16, False)
    assert start.preprocessing == Preprocessing(64, Fit.NATIVE)
    other = plan_training(recipe(seed=6), data, index).start
    assert isinstance(other, StudentCheckpoint)
    assert not torch.equal(start.student.adaptor.weight, other.student.adaptor.weight)


def test_a_network_alone_needs_no_index(data: Path) -> None:
    plan = plan_training(recipe(ALONE), data, None)
    assert plan.index is None and plan.notes == ()
    assert plan.training.teacher is None
    assert plan.validation is not None and plan.validation.teacher is None
    assert isinstance(plan.start, StudentCheckpoint)
    assert plan.start.space == untrained_space(8, "0" * 64)
    teacher = plan_training(recipe(ALONE, network=Network.TEACHER, dimension=0), data, None).start
    assert isinstance(teacher, TeacherCheckpoint)
    assert teacher.preprocessing == Preprocessing(64, Fit.NATIVE)


def test_a_folder_of_pictures_has_neither_labels_nor_validation(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, item in enumerate(image_source(data).items):
        shutil.copy(item.path, folder / f"{number}.jpg")
    teacher = FakeEmbedder(SPACE, Preprocessing(64))
    plan = plan_training(recipe(), folder, build_index(teacher, image_source(folder), tmp_path / "index"))
    assert len(plan.training.items) == 9
    assert (plan.training.labels, plan.validation, plan.notes) == (None, None, ())


@pytest.mark.parametrize(
    ("loss", "options", "mining"),
    [
        ("triplet", {"margin": 0.1}, Mining.HARD),
        ("multi_similarity", {}, Mining.RANDOM),
        ("relational", {}, Mining.NONE),
        ("dark_rank", {}, Mining.NONE),
        ("contrastive", {"margin": 0.7}, Mining.HARD),
        ("contrastive_plus", {"margin": 0.7}, Mining.HARD),
        ("regression", {}, Mining.NONE),
    ],
)
def test_a_loss_that_does_not_tie_to_the_teacher_is_noted_once(
    data: Path, index: TeacherIndex, loss: str, options: dict[str, float], mining: Mining
) -> None:
    """Of the paper's losses, contrastive, contrastive plus and regression pull the student to the teacher's own
    embeddings; the others compare distances or ranks."""
    plan = plan_training(recipe(loss=loss, loss_options=options, mining=mining), data, index)
    ties = loss in ("contrastive", "contrastive_plus", "regression")
    assert plan.notes == (() if ties else (NOTE_ON_SPACE.format(loss=loss),))


def test_an_index_without_the_validation_images_is_noted(data: Path, index: TeacherIndex, tmp_path: Path) -> None:
    small = index_of(data, index.ids[:6], tmp_path / "training only")
    plan = plan_training(recipe(MINED), data, small)
    assert plan.validation is None
    assert plan.notes == (
        NOTE_ON_SPACE.format(loss="triplet"),
        f"the index {small.path} holds none of the 3 validation images, so the last epoch's network is kept, not the "
        "best: build the index again to have them in it.",
    )


@pytest.mark.parametrize("left_out", [0, 7])
def test_an_index_that_lacks_some_images_is_refused(
    data: Path, index: TeacherIndex, tmp_path: Path, left_out: int
) -> None:
    ids = list(index.ids)
    missing = ids.pop(left_out)
    partial = index_of(data, ids, tmp_path / "partial")
    of = 6 if left_out < 6 else 3
    with pytest.raises(
        TeacherIndexError, match=rf"lacks 1 of {of} images \({missing}\); build it from the folder that"
    ):
        plan_training(recipe(), data, partial)


def test_what_contradicts_itself_is_refused(data: Path, index: TeacherIndex) -> None:
    for given, where, message in (
        (
            recipe(ALONE),
            index,
            f"`index` is {index.path}, but recipe 'mine' trains a network alone; leave --index out.",
        ),
        (
            recipe(),
            None,
            "recipe 'mine' learns from a teacher; give its index of the training images: --index. `aml-edge index "
            "build` makes one.",
        ),
        (
            recipe(teacher="resnet101-gem"),
            index,
            f"recipe 'mine' is for teacher 'resnet101-gem', but the index {index.path} is of 'block means'; take the "
            "recipe of that teacher, or --set teacher=any.",
        ),
        (
            recipe(ALONE, dimension=0),
            None,
            "`dimension` is 0, but no index says how many values an embedding has; set it.",
        ),
        (
            recipe(dimension=8),
            index,
            "`dimension` is 8, but the teacher's index has 16; set it to 0, or give an index of the teacher that the "
            "recipe is for.",
        ),
    ):
        with pytest.raises((UsageError, TeacherIndexError)) as caught:
            plan_training(given, data, where)
        assert str(caught.value) == message
    assert plan_training(recipe(teacher="block means", dimension=16), data, index).notes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "^`loss` is 'hinge'; it must be one of "),
        ({"mining": Mining.HARD}, "^`mining` is 'hard', but the loss regression is a function of"),
        (
            {"loss": "multi_similarity", "mining": Mining.NONE},
            "^`mining` is 'none', but the loss multi_similarity is a f",
        ),
        ({"loss_options": {"margin": 1}}, r"^`loss_options\.margin` is 1, but the loss regression has no such option"),
        ({"mode": Mode.SYMMETRIC, "warm_start": False}, "^`mode` is 'symmetric', but the loss regression needs a teac"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused_before_anything_is_read(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_training(recipe(**changes), Path("nowhere"), None)


def test_data_that_are_not_there_are_refused(index: TeacherIndex, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no folder"):
        plan_training(recipe(), tmp_path / "nowhere", index)


def test_an_index_is_found_again_by_the_plan(data: Path, index: TeacherIndex) -> None:
    """What goes on opens it by the path that the plan has, and comes to the same images."""
    plan = plan_training(recipe(), data, index)
    assert plan.index is not None
    again = plan_training(recipe(), plan.data, open_index(plan.index))
    assert again.training.fingerprint == plan.training.fingerprint
    assert plan.validation is not None and again.validation is not None
    assert again.validation.fingerprint == plan.validation.fingerprint != plan.training.fingerprint
