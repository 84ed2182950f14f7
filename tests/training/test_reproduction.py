"""The paper's table on a tiny data set: what is trained, tested, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aml_edge.contestants import Contestants
from aml_edge.datasets.loading import load_test_set
from aml_edge.errors import DatasetError, UsageError
from aml_edge.evaluation import evaluate_contestants
from aml_edge.index import open_index
from aml_edge.networks.checkpoints import load_student, load_teacher
from aml_edge.training.reproduction import ReproducedRow, ReproductionPlan, reproduce
from aml_edge.training.settings import Mining

TINY = ("backbone=mobilenetv2_035", "epochs=1", "image_side_px=64", "frozen_stages=6", "batch_size=4", "negatives=2")
ALONE = (*TINY, "dimension=1280")


@pytest.fixture(scope="module")
def plan(few_landmarks: Path, tmp_path_factory: pytest.TempPathFactory) -> ReproductionPlan:
    out = tmp_path_factory.mktemp("out")
    return ReproductionPlan(few_landmarks, out, ("contr-alone", "contr", "reg"), ALONE, TINY)


@pytest.fixture(scope="module")
def rows(plan: ReproductionPlan) -> tuple[ReproducedRow, ...]:
    return reproduce(plan)


def test_the_table_says_what_each_row_is(rows: tuple[ReproducedRow, ...]) -> None:
    said = [
        (row.name, row.teacher, row.labels, row.mining, row.asymmetric_training, row.asymmetric is not None)
        for row in rows
    ]
    small = "mobilenetv2_035"
    assert said == [
        ("teacher", None, True, Mining.HARD, False, False),
        ("untrained", small, False, Mining.NONE, False, True),
        ("contr-alone", None, True, Mining.HARD, False, False),
        ("contr", small, True, Mining.HARD, True, True),
        ("reg", small, False, Mining.NONE, True, True),
    ]
    assert {row.network for row in rows} == {small}
    assert [row.training is None for row in rows] == [False, True, False, False, False]


def test_figures_are_those_of_the_runs_that_are_left(plan: ReproductionPlan, rows: tuple[ReproducedRow, ...]) -> None:
    """Evaluated again from the files, by the same protocol."""
    dataset, index = load_test_set(plan.test_root), open_index(plan.out / "indexes" / "test")
    teacher = load_teacher(plan.out / "runs" / "teacher")
    assert index.space == teacher.space()
    (own,) = evaluate_contestants(Contestants(teacher=teacher), (index,), dataset)
    assert rows[0].symmetric == own
    student = load_student(plan.out / "runs" / "reg")
    assert student.space == index.space
    symmetric, asymmetric = evaluate_contestants(Contestants(student=student), (index,), dataset)
    assert (rows[4].symmetric, rows[4].asymmetric) == (symmetric, asymmetric)
    alone = load_student(plan.out / "runs" / "contr-alone")
    assert alone.space.teacher == "contr-alone"


def test_what_is_trained_is_used_again(plan: ReproductionPlan, rows: tuple[ReproducedRow, ...]) -> None:
    files = sorted(path for path in plan.out.rglob("*") if path.is_file())
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    assert reproduce(plan) == rows
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files} == before


def test_another_recipe_trains_its_row_again(plan: ReproductionPlan, rows: tuple[ReproducedRow, ...]) -> None:
    other = ReproductionPlan(plan.data, plan.out, ("reg",), (*ALONE, "seed=1"), TINY)
    again = reproduce(other)
    assert [row.name for row in again] == ["teacher", "untrained", "reg"]
    assert again[0] == rows[0]
    record = json.loads((plan.out / "runs" / "reg" / "run.json").read_text())
    assert record["settings"]["seed"] == 1


def test_another_teacher_needs_another_folder(plan: ReproductionPlan, rows: tuple[ReproducedRow, ...]) -> None:
    other = ReproductionPlan(plan.data, plan.out, ("reg",), ALONE, (*TINY, "seed=1"))
    with pytest.raises(UsageError, match=r"`out` has .*training, an index of another teacher or of other images"):
        reproduce(other)


def test_an_unknown_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        ReproductionPlan(tmp_path, tmp_path, ("reg", "dr"))
    assert str(refusal.value) == (
        "`rows` has 'dr'; a row is one of contr-alone, contr, contr-plus, triplet, ms, reg, rkd, dark, csd, raml, ssp, "
        "d3still, rank-order."
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_both_sets_must_be_there(few_landmarks: Path, tmp_path: Path, part: str) -> None:
    other = {"train": "test", "test": "train"}[part]
    (tmp_path / other).symlink_to(few_landmarks / other)
    plan = ReproductionPlan(tmp_path, tmp_path / "out")
    with pytest.raises(DatasetError, match=f"has 0 data sets as {part}/NAME; it must hold one of each"):
        _ = (plan.training_root, plan.test_root)
