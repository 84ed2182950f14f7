"""The run folder: how a run is recorded and recognised, and what is removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from aml_edge import __version__
from aml_edge.errors import UsageError
from aml_edge.training.recipe import Recipe
from aml_edge.training.report import TrainingReport, read_report, write_report
from aml_edge.training.run_folder import (
    RunRecord,
    begin_run,
    is_finished,
    prepare_run,
    read_run_record,
    remove_halves,
    require_free,
    require_same_run,
    sole_training,
)
from aml_edge.training.settings import Mining, Mode, TrainingSettings

SETTINGS = TrainingSettings(
    loss="contrastive", loss_options={"margin": 0.7, "form": "similarity"}, mining=Mining.HARD, learning_rate=1e-6
)
RECORD = RunRecord(
    Recipe("mine", {"paper": "a paper"}, SETTINGS, frozenset({"loss", "mining"}), frozenset({"learning_rate"})),
    Path("data/sfm"),
    Path("indexes/sfm"),
    "1" * 64,
    "2" * 64,
)
RUN_FILES = (
    "run.json",
    "log.csv",
    "epochs.csv",
    "student.safetensors",
    "student.json",
    "teacher.safetensors",
    "teacher.json",
    "last.safetensors",
    "last.json",
    "state.safetensors",
    "report.json",
)
EVENTS = "events.out.tfevents.1700000000.host.0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with every file that a run writes, and some that none does."""
    folder = tmp_path / "run"
    (folder / "tensorboard").mkdir(parents=True)
    for name in (*RUN_FILES, "notes.txt", f"tensorboard/{EVENTS}", "tensorboard/mine.txt"):
        (folder / name).write_text(name)
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def said(function: Callable[..., object], *arguments: object, **options: Any) -> str:
    """Returns the words in which something is refused."""
    with pytest.raises(UsageError) as caught:
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "record",
    [RECORD, replace(RECORD, index=None, validation_fingerprint=None, recipe=replace(RECORD.recipe, about={}))],
)
def test_a_record_comes_back(tmp_path: Path, record: RunRecord) -> None:
    begin_run(tmp_path / "runs" / "new", record)
    assert read_run_record(tmp_path / "runs" / "new") == record


def test_the_record_can_be_read_without_us(tmp_path: Path) -> None:
    begin_run(tmp_path, RECORD)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["recipe"] == {
        "name": "mine",
        "about": {"paper": "a paper"},
        "published": ["loss", "mining"],
        "changed": ["learning_rate"],
    }
    assert content["settings"] == json.loads(json.dumps(SETTINGS.to_json()))
    assert content["settings"]["loss_options"] == {"margin": 0.7, "form": "similarity"}
    assert (content["data"], content["index"]) == ("data/sfm", "indexes/sfm")
    assert (content["training_fingerprint"], content["validation_fingerprint"]) == ("1" * 64, "2" * 64)
    assert content["versions"]["aml-edge"] == __version__
    for package in ("torch", "timm", "accelerate", "numpy", "pillow"):
        assert content["versions"][package] == version(package)


def test_a_folder_where_nothing_was_begun_has_no_record(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert said(read_run_record, folder) == (
            f"`run` is {folder}, where no training was begun (run.json is not there); name another folder."
        )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: "", "Expecting value: line 1 column 1 (char 0)"),
        (lambda content: "{", "Expecting property name"),
        (lambda content: "[]", "list indices must be integers"),
        (lambda content: "[" * 100_000, "maximum recursion depth exceeded"),
        (lambda content: "1" * 5000, "Exceeds the limit"),
        (lambda content: {**content, "settings": []}, "'list' object has no attribute 'items'"),
        (lambda content: {**content, "settings": {"epoch": 3}}, "{file} has the key `epoch`, which is none of"),
        (
            lambda content: {**content, "settings": {"epochs": "3"}},
            "{file}: `epochs` is '3'; it must be a whole number",
        ),
        (
            lambda content: {**content, "settings": {"learning_rate": 1e999}},
            "`learning_rate` is inf; it must be a finite",
        ),
        (lambda content: {**content, "data": 3}, ""),
        (lambda content: {key: value for key, value in content.items() if key != "recipe"}, "'recipe'"),
        (lambda content: {**content, "recipe": "mine"}, "string indices must be integers"),
        (lambda content: {**content, "recipe": {**content["recipe"], "published": 3}}, "'int' object is not iterable"),
        (lambda content: {**content, "version": 2}, "its version is 2, this aml-edge reads 1"),
        (lambda content: {key: value for key, value in content.items() if key != "version"}, "'version'"),
    ],
)
def test_a_record_that_is_damaged_is_refused(tmp_path: Path, change: Callable[[Any], Any], problem: str) -> None:
    begin_run(tmp_path, RECORD)
    file = tmp_path / "run.json"
    content = change(json.loads(file.read_text()))
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    message = said(read_run_record, tmp_path)
    assert message.startswith(f"{file} cannot be read: {problem.format(file=file)}")
    assert message.endswith("; start again with --overwrite.")
    assert len(message.splitlines()) == 1


def test_no_text_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe")
    assert said(read_run_record, tmp_path).startswith(f"{tmp_path / 'run.json'} cannot be read: 'utf-8' codec")


def test_a_folder_without_a_run_is_free(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / EVENTS).write_text("of another program")
    for prepare in (require_free, prepare_run):
        prepare(tmp_path)
        prepare(tmp_path / "new")
    assert names(tmp_path) == {"notes.txt", f"tensorboard/{EVENTS}"}
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("refuse", [require_free, prepare_run])
def test_a_folder_with_a_run_is_refused(run: Path, refuse: Callable[[Path], None]) -> None:
    before = names(run)
    assert said(refuse, run) == (
        f"`run` is {run}, which holds another run ({', '.join(RUN_FILES)}); name another folder, or pass --overwrite."
    )
    (run / "report.json").unlink()
    assert said(refuse, run) == (
        f"`run` is {run}, which holds an unfinished run ({', '.join(RUN_FILES[:-1])}); go on with it: --resume; or "
        "name another folder, or pass --overwrite."
    )
    (run / "run.json").unlink()
    assert said(refuse, run) == (
        f"`run` is {run}, which holds another run ({', '.join(RUN_FILES[1:-1])}); name another folder, or pass "
        "--overwrite."
    )
    assert names(run) == before - {"report.json", "run.json"}


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_single_file_of_a_run_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    kind = "an unfinished" if name == "run.json" else "another"
    assert f"which holds {kind} run ({name}); " in said(prepare_run, tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    for options in ({}, {"overwrite": True}):
        assert said(prepare_run, tmp_path / "run", **options) == (
            f"`run` is {tmp_path / 'run'}, which is a file; name a folder."
        )
    assert (tmp_path / "run").read_text() == "mine"


def test_overwriting_removes_the_run_and_nothing_else(run: Path) -> None:
    prepare_run(run, overwrite=True)
    assert names(run) == {"notes.txt", "tensorboard/mine.txt"}
    prepare_run(run, overwrite=True)
    prepare_run(run.parent / "new", overwrite=True)


def test_a_run_that_is_half_removed_looks_finished_never_and_like_a_run_always(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, left = Path.unlink, []

    def watched(path: Path, *arguments: Any) -> None:
        if path.parent == run:
            left.append(names(run))
        unlink(path, *arguments)

    monkeypatch.setattr(Path, "unlink", watched)
    prepare_run(run, overwrite=True)
    assert len(left) == len(RUN_FILES)
    for files in left[1:]:
        assert "report.json" not in files
        assert "run.json" in files
        assert {"log.csv", "epochs.csv"} <= files or "state.safetensors" not in files


def test_halves_of_files_are_removed_and_nothing_else(run: Path) -> None:
    halves = [".state.123.partial.safetensors", ".last.7.partial.safetensors", ".student.7.partial.json"]
    others = [".mine.7.partial.safetensors", ".state.partial.txt", "state.7.partial.safetensors"]
    for name in (*halves, *others):
        (run / name).write_text("half")
    before = names(run)
    remove_halves(run)
    assert names(run) == before - set(halves)
    assert set(others) <= names(run)


def test_the_same_run_is_known_wherever_its_data_lie(tmp_path: Path) -> None:
    begin_run(tmp_path, RECORD)
    require_same_run(tmp_path, RECORD)
    renamed = replace(RECORD.recipe, name="other", about={}, published=frozenset())
    require_same_run(tmp_path, replace(RECORD, data=Path("moved"), index=None, recipe=renamed))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training_fingerprint": "3" * 64}, "training images, labels or teacher embeddings"),
        ({"validation_fingerprint": None}, "validation images, labels or teacher embeddings"),
        ({"epochs": 9, "seed": 1}, "`epochs`, `seed`"),
        ({"loss_options": {"margin": 0.8}}, "`loss_options`"),
        (
            {"training_fingerprint": "", "mode": Mode.SYMMETRIC, "warm_start": False},
            "training images, labels or teacher embeddings, `mode`, `warm_start`",
        ),
    ],
)
def test_another_run_is_refused_by_what_differs(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    begin_run(tmp_path, RECORD)
    prints = {name: value for name, value in changes.items() if name.endswith("fingerprint")}
    settings = replace(SETTINGS, **{name: value for name, value in changes.items() if name not in prints})
    other = replace(RECORD, recipe=replace(RECORD.recipe, settings=settings), **prints)
    assert said(require_same_run, tmp_path, other) == (
        f"`run` is {tmp_path}, whose training was begun with other {words}; go on with the same, or start again with "
        "--overwrite."
    )


def test_a_report_ends_a_run(run: Path) -> None:
    (run / "report.json").unlink()
    assert not is_finished(run)
    report = TrainingReport(run, "a recipe", 12, 2, 6, 0.1 + 0.2, 0.25, 2, None, 1.5, 3.0, 8.0)
    write_report(report)
    assert is_finished(run)
    values = json.loads((run / "report.json").read_text())
    assert (values["run"], values["first_loss"], values["best_validation_loss"]) == (str(run), 0.1 + 0.2, None)
    assert read_report(run) == report
    assert not (run / "state.safetensors").exists()
    assert names(run) >= set(RUN_FILES) - {"state.safetensors"}


def test_a_run_folder_is_one_training_s(tmp_path: Path) -> None:
    with sole_training(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
        with pytest.raises(UsageError) as refusal, sole_training(tmp_path / "new" / "run"):
            pass
        assert str(refusal.value) == (
            f"`run` is {tmp_path / 'new' / 'run'}, where another process trains; wait for it, or name another folder."
        )
        with sole_training(tmp_path / "another"):
            pass
    with sole_training(tmp_path / "new" / "run"):
        pass
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_file_is_no_folder_to_train_in(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="which is a file; name a folder"), sole_training(tmp_path / "run"):
        pass
