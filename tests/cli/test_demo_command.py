"""`aml-edge demo`: the order of its steps, what it prints and how it ends. Every step has a stand-in that is at once
done; the steps themselves are tested in `test_demo_steps`, those of data and benchmark with their modules.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.artifact import Artifact, Precision, Verdict
from aml_edge.benchmarks import suite, tables
from aml_edge.benchmarks.environment import Environment, MachineLoad
from aml_edge.benchmarks.latency import LatencyPlan
from aml_edge.benchmarks.report import BenchmarkReport
from aml_edge.bootstrap import Interval
from aml_edge.cli import demo_steps as steps
from aml_edge.datasets.synthetic import writing
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.errors import AmlEdgeError, TeacherIndexError
from aml_edge.evaluation import RetrievalRow
from aml_edge.exporters.export import ExportReport
from aml_edge.exporters.judgement import Judgement
from aml_edge.exporters.verification import Verification
from aml_edge.formats import OperatorCensus, read_artifact
from aml_edge.networks import released
from aml_edge.ranking import RetrievalReport, SettingReport
from aml_edge.training.recipe import Recipe, read_recipe
from aml_edge.training.report import TrainingReport

CommandLine = Callable[..., Any]
Fail = dict[str, AmlEdgeError]


class StandIns:
    """Each step: notes that it was called and with which folder, and gives something of the right kind."""

    def __init__(self, report: SyntheticReport, file: Path) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail: Fail = {}
        self.verdict = Judgement(Verdict.VERIFIED)
        self.kept = False
        self._report, self._file = report, file

    def note(self, name: str, path: Path | str = "") -> None:
        self.calls.append((name, str(path)))
        if name in self.fail:
            raise self.fail[name]

    def data(self, out: Path, spec: SyntheticSpec, *, progress: object, workers: int) -> SyntheticReport:
        assert (spec, workers) == (SyntheticSpec(), os.cpu_count())
        self.note("data", out)
        return self._report

    def teacher(self, name: str) -> str:
        self.note("teacher", name)
        return "the teacher"

    def indexed(self, teacher: str, images: Path, out: Path, progress: object) -> str:
        assert teacher == "the teacher"
        self.note("indexed", f"{images.parent.name} {out}")
        return f"index of {images.parent.name}"

    def trained(
        self, index: str, images: Path, run: Path, recipe: Recipe, progress: object
    ) -> tuple[str, TrainingReport | None]:
        assert (index, images, recipe) == ("index of train", self._report.train_root, read_recipe("synthetic-reg"))
        self.note("trained", run)
        report = TrainingReport(
            run=run,
            recipe=recipe.name,
            images=6,
            epochs=1,
            steps=2,
            first_loss=0.2,
            last_loss=0.1,
            best_epoch=1,
            best_validation_loss=0.15,
            preparing_seconds=1.0,
            seconds=2.0,
            images_per_second=3.0,
        )
        return "student", None if self.kept else report

    def untrained(self, index: str, recipe: Recipe) -> str:
        assert (index, recipe.name) == ("index of train", "synthetic-reg")
        return "untrained"

    def evaluated(
        self, teacher: str, student: str, before: str, index: str, dataset: object, progress: object
    ) -> tuple[RetrievalRow, ...]:
        assert (teacher, student, before, index) == ("the teacher", "student", "untrained", "index of test")
        self.note("evaluated")
        half = Interval(0.5, 0.75)
        rows = []
        for queries, mean in (("student", 0.625), ("teacher", 0.75)):
            setting = SettingReport(mean, (0.5, 0.75), 1.0, 1.0, 1.0)
            rows.append(RetrievalRow(queries, "teacher", RetrievalReport(setting, setting, setting), half, half, half))
        return tuple(rows)

    def exported(
        self, student: str, index: str, out: Path, precisions: tuple[Precision, ...], progress: object
    ) -> list[tuple[Artifact, float]]:
        assert (student, index, precisions) == ("student", "index of test", (Precision.FP32,))
        self.note("exported", out)
        return [(read_artifact(self._file), 1.0)]

    def verified(
        self, files: list[tuple[Artifact, float]], student: str, index: str, dataset: object, progress: object
    ) -> tuple[ExportReport, ...]:
        assert (student, index) == ("student", "index of test")
        self.note("verified")
        ((artifact, seconds),) = files
        verification = Verification(artifact.path, artifact.manifest, self.verdict)
        census = OperatorCensus({}, {}, 0)
        return (ExportReport(artifact.path, 5, seconds, census, artifact.manifest, verification),)

    def benchmark(self, groups: Any, settings: suite.BenchmarkSettings, progress: object) -> BenchmarkReport:
        ((group,), truth) = groups, settings.truth
        assert truth is not None
        assert ([one.path for one in group.artifacts], group.checkpoint) == ([self._file], "student")
        assert str(truth.index) == "index of test"
        self.note("benchmark")
        environment = Environment("Linux", "a CPU", (), 2, None, None, None, (), "3.11", {})
        load = MachineLoad("now", 1.0, None, None, None)
        return BenchmarkReport(environment, load, LatencyPlan(), (1, 2), (), {})


@pytest.fixture
def stand_ins(synthetic: SyntheticReport, toy_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIns:
    made = StandIns(synthetic, toy_file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writing, "write_synthetic", made.data)
    monkeypatch.setattr(released, "resolve_teacher", made.teacher)
    for name in ("indexed", "trained", "untrained", "evaluated", "exported", "verified"):
        monkeypatch.setattr(steps, name, getattr(made, name))
    monkeypatch.setattr(suite, "run_benchmark", made.benchmark)
    monkeypatch.setattr(tables, "render_benchmark", lambda report, width: "the benchmark's table")
    return made


def test_each_step_works_on_what_the_one_before_has_made(
    command_line: CommandLine, stand_ins: StandIns, synthetic: SyntheticReport, toy_file: Path
) -> None:
    ended = command_line("demo", "--out", "there", "--json", "report.json")
    assert (ended.code, ended.err) == (0, "")
    assert stand_ins.calls == [
        ("data", "there/data/demo"),
        ("teacher", "imagenet:efficientnet_lite2"),
        ("indexed", "train there/indexes/demo-training"),
        ("indexed", "test there/indexes/demo"),
        ("trained", "there/runs/demo"),
        ("evaluated", ""),
        ("exported", "there/artifacts"),
        ("verified", ""),
        ("benchmark", ""),
    ]
    lines = ended.out.splitlines()
    assert [line[:3] for line in lines if re.match(r"\d/\d ", line)] == [f"{step}/7" for step in range(1, 8)]
    assert any(line.split()[:5] == ["student", "→", "teacher", "62.5", "[50.0,"] for line in lines)
    assert "student → teacher is 0.83 of teacher → teacher (medium); the aim is 0.8" in lines  # 0.625 / 0.75
    assert "the benchmark's table" in lines
    assert "kept the student" not in ended.out
    made = [
        "there/data/demo",
        "there/indexes/demo-training",
        "there/indexes/demo",
        "there/runs/demo",
        str(toy_file),
    ]
    assert lines[-6:-1] == [f"  {path}" for path in made]
    assert lines[-1] == "done in 0.0 minutes; `aml-edge --help` shows each step as a command of its own."
    numbers = json.loads(Path("report.json").read_text())
    assert list(numbers) == ["data", "training", "retrieval", "files", "benchmark", "seconds"]
    assert numbers["training"]["images"] == 6
    assert numbers["retrieval"][0]["report"]["hard"]["mean_average_precision"] == 0.625


def test_a_student_that_was_kept_is_said(command_line: CommandLine, stand_ins: StandIns) -> None:
    stand_ins.kept = True
    ended = command_line("demo", "--json", "-")
    assert ended.code == 0
    assert "kept the student of an earlier demo: runs/demo\n" in ended.err
    assert json.loads(ended.out)["training"] is None


@pytest.mark.parametrize(
    ("verdict", "code", "said"),
    [
        (Verdict.FAILED, 3, "failed verification, for the reasons above; do not ship it."),
        (Verdict.NOT_RUN, 1, "not verified, for the reasons above, so nothing is known of it; "),
    ],
)
def test_a_file_that_is_not_verified_is_measured_and_ends_in_its_code(
    command_line: CommandLine, stand_ins: StandIns, toy_file: Path, verdict: Verdict, code: int, said: str
) -> None:
    stand_ins.verdict = Judgement(verdict, ("the cosine is 0.1; it must be at least 0.9",))
    ended = command_line("demo", "--json", "report.json")
    assert ended.code == code
    assert "the cosine is 0.1; it must be at least 0.9" in ended.out
    assert stand_ins.calls[-1] == ("benchmark", "")
    assert ended.err.startswith(f"error: {toy_file}")
    assert said in ended.err
    assert json.loads(Path("report.json").read_text())["files"][0]["verification"]["judgement"]["verdict"] == verdict


def test_an_error_ends_the_demo_in_one_line(command_line: CommandLine, stand_ins: StandIns) -> None:
    stand_ins.fail["trained"] = TeacherIndexError("the index is gone; build it again.")
    ended = command_line("demo", "--json", "report.json")
    assert (ended.code, ended.err) == (1, "error: the index is gone; build it again.\n")
    assert stand_ins.calls[-1] == ("trained", "runs/demo")
    assert not Path("report.json").exists()
