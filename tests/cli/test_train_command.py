"""`aml-edge train`: its options, what it prints and leaves behind, and what it says when it stops."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from aml_edge.datasets.image_source import ImageSource, ImageSourceKind, image_source
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.datasets.training_images import training_images
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import TrainingError
from aml_edge.index import open_index
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import load_student, load_teacher
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training.loop import Training
from aml_edge.training.recipe import recipe_names
from aml_edge.training.state import save_state

SPACE = EmbeddingSpace("block means", "b" * 64, 16)
SPEC = SyntheticSpec(
    image_side_px=64, landmarks_train=4, landmarks_val=2, views_train=2, landmarks_test=1, distractors=0
)
IMAGES, VALIDATION_IMAGES = 8, 4
RECIPE = """
[about]
row = "a row"
[published]
loss = "regression"
[ours]
backbone = "mobilenetv2_035"
epochs = 2
batch_size = 4
image_side_px = 64
frozen_stages = 4
"""
MINED = """
[ours]
backbone = "mobilenetv2_035"
loss = "{loss}"
loss_options.margin = 0.1
mining = "hard"
negatives = 1
epochs = 1
batch_size = 4
image_side_px = 64
frozen_stages = 4
warm_start = false
"""
ALONE = MINED + 'mode = "symmetric"\n'
COMPARED = ("student.safetensors", "last.safetensors", "log.csv", "epochs.csv")

CommandLine = Callable[..., Any]


@pytest.fixture(autouse=True)
def new_accelerate() -> Iterator[None]:
    """A process of the real command line makes one Accelerator, which remembers its precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set in the SfM layout, with a validation split; no test may change it."""
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "data", SPEC).train_root


@pytest.fixture(scope="module")
def index(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of both splits by a teacher without a network."""
    teacher = FakeEmbedder(SPACE, Preprocessing(64))
    return build_index(teacher, image_source(data), tmp_path_factory.mktemp("indexes") / "index").path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path / "small.toml"


@pytest.fixture
def arguments(data: Path, index: Path, recipe: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command that works; what is named again after it counts."""
    return ("train", "--recipe", recipe, "--data", data, "--index", index, "--out", tmp_path / "run", "--cpu")


def test_trains_into_the_run_folder(
    command_line: CommandLine, arguments: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    run, report = tmp_path / "runs" / "first", tmp_path / "report.json"
    done = command_line(*arguments, "--out", run, "--set", "epochs=3", "--json", report)
    assert (done.code, done.err) == (0, "")
    student = load_student(run)
    assert (student.space, student.student.spec.backbone) == (SPACE, "mobilenetv2_035")
    assert student.preprocessing.image_side_px == 64
    numbers = json.loads(report.read_text())
    assert numbers == json.loads((run / "report.json").read_text())
    assert (numbers["images"], numbers["epochs"], numbers["steps"]) == (IMAGES, 3, 6)
    lines = done.out.splitlines()
    assert lines[0] == f"recipe small; {IMAGES} images, {VALIDATION_IMAGES} for validation: {data}"
    for line, begin in zip(
        lines[1:5],
        ("frozen stages: 8/8, ", "warm start: 8/8, ", "frozen stages: 4/4, ", "training: 24/24, "),
        strict=True,
    ):
        assert line.startswith(begin)
    assert ", epoch 3, loss 0." in lines[4] and lines[4].endswith(" images/s")
    assert lines[5] == (
        f"3 epochs of 8 images in {numbers['seconds']:.1f} s ({numbers['images_per_second']:.1f} images/s), after "
        f"{numbers['preparing_seconds']:.1f} s of preparation; loss {numbers['first_loss']:.4f} → "
        f"{numbers['last_loss']:.4f}, validation {numbers['best_validation_loss']:.4f} after epoch "
        f"{numbers['best_epoch']}, which is kept"
    )
    assert lines[6:] == [str(run)]
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"] == {
        "name": "small",
        "about": {"row": "a row"},
        "published": ["loss"],
        "changed": ["epochs"],
    }
    assert (record["settings"]["epochs"], record["settings"]["frozen_stages"]) == (3, 4)


def test_json_on_standard_output_is_alone_there(command_line: CommandLine, arguments: tuple[object, ...]) -> None:
    done = command_line(*arguments, "--set", "epochs=1", "--set", "warm_start=false", "--json", "-")
    assert json.loads(done.out)["steps"] == 2
    assert "1 epoch of 8 images in " in done.err
    assert "warm start" not in done.err


def test_recipes_are_listed_without_anything_else(command_line: CommandLine) -> None:
    done = command_line("train", "--list", "--json", "-")
    assert done.code == 0
    listed = json.loads(done.out)
    assert [one["name"] for one in listed] == list(recipe_names())
    assert all(name in done.err for name in recipe_names())


def test_a_recipe_is_shown_with_what_is_changed(command_line: CommandLine, recipe: Path) -> None:
    done = command_line("train", "--recipe", recipe, "--set", "epochs=9", "--show", "--json", "-")
    assert done.code == 0
    shown = json.loads(done.out)
    assert (shown["name"], shown["about"], shown["published"]) == ("small", {"row": "a row"}, ["loss"])
    assert (shown["changed"], shown["settings"]["epochs"]) == (["epochs"], 9)
    rows = [line.split() for line in done.err.splitlines()]
    assert ["epochs", "9", "changed"] in rows
    assert ["loss", "regression", "published"] in rows
    assert ["frozen_stages", "4", "ours"] in rows


def test_the_default_recipe_is_said_in_the_help(command_line: CommandLine) -> None:
    assert "synthetic-reg" in command_line("train", "--help").out
    assert command_line("train", "--show", "--json", "-").out.startswith('{\n  "name": "synthetic-reg"')


def test_another_run_is_refused_before_anything_is_read(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "student.safetensors").write_bytes(b"precious")
    done = command_line(*arguments, "--data", "nowhere", "--index", "nowhere", "--recipe", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: `run` is {run}, which holds another run (student.safetensors); name another folder, or pass "
        "--overwrite.\n"
    )
    assert command_line(*arguments, "--overwrite").code == 0
    assert load_student(run).trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "synthetic-rag"), "`recipe` is 'synthetic-rag'; it must be a recipe's name or a TOML file: did"),
        (("--set", "epoch=3"), "`set` has the key `epoch`, which is none of a recipe's: did you mean epochs?"),
        (("--set", "epochs"), "`set` is 'epochs'; it must be NAME=VALUE, such as epochs=5."),
        (("--set", "epochs=0"), "`epochs` is 0; it must be at least 1."),
        (("--set", "loss=hinge"), "`loss` is 'hinge'; it must be one of"),
        (("--set", "backbone=mobilenetv2_0355"), "`backbone` is 'mobilenetv2_0355'"),
        (("--set", "dimension=8"), "`dimension` is 8, but the teacher's index has 16; set it to 0"),
        (("--set", "teacher=resnet101-gem"), "recipe 'small' is for teacher 'resnet101-gem', but the index"),
        (("--set", "mining=hard"), "`mining` is 'hard', but the loss regression is a function of"),
        (("--mixed-precision", "int8"), "`mixed_precision` is 'int8'; it must be no, fp16 or bf16."),
        (
            ("--mixed-precision", "fp16"),
            "`mixed_precision` is 'fp16', which a CPU does not train in; take bf16, or a GPU.",
        ),
        (("--index", "nowhere"), "nowhere holds no index"),
        (("--data", "nowhere"), "nowhere"),
        (("--resume",), "where no training was begun (run.json is not there); name another folder."),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = command_line(*arguments, *options)
    assert done.code in (1, 2)
    assert done.err.startswith("error: ") and message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("--out", "`out` is missing; name the run folder to write to: --out runs/NAME."),
        ("--data", "`data` is missing; name the folder of the training images: --data DIR."),
        (
            "--index",
            "recipe 'small' learns from a teacher; give its index of the training images: --index. `aml-edge index "
            "build` makes one.",
        ),
    ],
)
def test_what_is_missing_is_named(
    command_line: CommandLine, arguments: tuple[object, ...], left_out: str, message: str
) -> None:
    place = arguments.index(left_out)
    done = command_line(*arguments[:place], *arguments[place + 2 :])
    assert (done.code, done.out, done.err) == (2, "", f"error: {message}\n")


def test_images_that_the_index_lacks_are_named(
    command_line: CommandLine, arguments: tuple[object, ...], synthetic: Any, tmp_path: Path
) -> None:
    done = command_line(*arguments, "--data", synthetic.test_root)
    assert done.code == 1
    assert "lacks " in done.err
    assert not (tmp_path / "run").exists()


def test_notes_are_printed_as_warnings(
    command_line: CommandLine, arguments: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    """Of a loss that has no reason to stay in the teacher's space, and of an index without the validation images."""
    (tmp_path / "triplet.toml").write_text(MINED.format(loss="triplet"))
    trained_on = training_images(data).training
    images = ImageSource(data, ImageSourceKind.SFM, trained_on.ids, trained_on.items)
    index = build_index(FakeEmbedder(SPACE, Preprocessing(64)), images, tmp_path / "training only").path
    done = command_line(*arguments, "--recipe", tmp_path / "triplet.toml", "--index", index)
    assert done.code == 0
    assert [line for line in done.out.splitlines() if line.startswith("warning: ")] == [
        "warning: the loss triplet teaches which images are alike, not where the teacher puts them: the student will "
        "not fit the teacher's index. Use it where one network embeds queries and database; for asymmetric testing "
        "choose regression or contrastive_plus.",
        f"warning: the index {index} holds none of the 4 validation images, so the last epoch's network is kept, not "
        "the best: build the index again to have them in it.",
    ]
    assert done.out.startswith("recipe triplet; 8 images: ")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["best_validation_loss"] is None


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in COMPARED}


class StopsAfter:
    """In place of `Training.steps_of_epoch`: raises once so many steps are done."""

    def __init__(self, steps: int, ending: BaseException) -> None:
        self.steps, self.ending, self.original = steps, ending, Training.steps_of_epoch

    def __call__(self, training: Training) -> Iterator[Any]:
        for record in self.original(training):
            if record.step > self.steps:
                raise self.ending
            yield record


@pytest.mark.parametrize(("after", "kept"), [(1, "no network yet"), (3, "the network of epoch 1 in last.safetensors")])
@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (TrainingError("the loss is nan"), 1, "error: the loss is nan\n"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/log.csv"),
            1,
            "error: run/log.csv: No space left on device; free some space, or name a path on another disk.\n",
        ),
    ],
)
def test_a_training_that_stops_says_what_is_left_and_how_to_go_on(
    command_line: CommandLine,
    arguments: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    kept: str,
    ending: BaseException,
    code: int,
    said: str,
) -> None:
    run = tmp_path / "a run"
    stops = StopsAfter(after, ending)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "steps_of_epoch", lambda training: stops(training))
        done = command_line(*arguments, "--out", run, "--set", "epochs=3")
    assert (done.code, done.err) == (code, said)
    lines = done.out.splitlines()
    assert f"stopped: {run} holds {kept}." in lines
    goes_on = f"go on: aml-edge train --out '{run}' --resume"
    assert (goes_on in lines) is not isinstance(ending, TrainingError)
    assert (run / "student.safetensors").exists() == (after == 3)
    assert command_line("train", "--out", run, "--resume", "--cpu").code == 0
    assert command_line(*arguments, "--out", tmp_path / "unbroken" / "a run", "--set", "epochs=3").code == 0
    assert contents(run) == contents(tmp_path / "unbroken" / "a run")


def test_a_full_disk_loses_nothing_that_was_saved(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    saved: list[object] = []

    def full(*given: Any) -> None:
        if saved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[-1]))
        save_state(*given)
        saved.append(given)

    with monkeypatch.context() as patched:
        patched.setattr("aml_edge.training.run.save_state", full)
        done = command_line(*arguments)
    assert done.code == 1
    assert done.err.startswith(f"error: {run / 'state.safetensors'}: No space left on device; ")
    assert command_line("train", "--out", run, "--resume", "--cpu").code == 0
    assert command_line(*arguments, "--out", tmp_path / "unbroken" / "run").code == 0
    assert contents(run) == contents(tmp_path / "unbroken" / "run")


@pytest.fixture
def stopped(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run that was stopped in its second epoch."""
    stops = StopsAfter(3, KeyboardInterrupt())
    with monkeypatch.context() as patched:
        patched.setattr(Training, "steps_of_epoch", lambda training: stops(training))
        assert command_line(*arguments).code == 130
    return tmp_path / "run"


def test_a_run_that_was_stopped_is_not_begun_again_by_mistake(
    command_line: CommandLine, arguments: tuple[object, ...], stopped: Path
) -> None:
    done = command_line(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"error: `run` is {stopped}, which holds an unfinished run (run.json, log.csv, ")
    assert done.err.endswith("go on with it: --resume; or name another folder, or pass --overwrite.\n")


def test_a_run_goes_on_by_the_command_that_began_it_too(
    command_line: CommandLine, arguments: tuple[object, ...], stopped: Path
) -> None:
    assert command_line(*arguments, "--resume").code == 0
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    done = command_line(*arguments, "--resume")
    assert done.code == 0
    assert "2 epochs of 8 images in " in done.out
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_data_and_index_that_were_moved_are_named(
    command_line: CommandLine, stopped: Path, data: Path, index: Path, tmp_path: Path
) -> None:
    record = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps({**record, "data": "gone", "index": "gone too"}))
    resume = ("train", "--out", stopped, "--resume", "--cpu")
    done = command_line(*resume)
    assert (done.code, "gone too holds no index" in done.err) == (2, True)
    moved = tmp_path / "moved"
    shutil.copytree(data, moved / data.name)
    shutil.copytree(index, moved / "index")
    done = command_line(*resume, "--data", moved / data.name, "--index", moved / "index")
    assert done.code == 0
    assert f": {moved / data.name}" in done.out.splitlines()[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "epochs=9"), "`epochs`"),
        (("--recipe", "mined"), "`loss`, `loss_options`, `mining`, `negatives`, `epochs`, `warm_start`"),
    ],
)
def test_another_recipe_does_not_go_on(
    command_line: CommandLine, stopped: Path, tmp_path: Path, options: tuple[str, str], words: str
) -> None:
    (tmp_path / "mined.toml").write_text(MINED.format(loss="contrastive"))
    name, value = options
    done = command_line(
        *("train", "--out", stopped, "--resume", "--cpu"), name, value if value != "mined" else tmp_path / "mined.toml"
    )
    assert (done.code, done.err) == (
        2,
        f"error: `run` is {stopped}, whose training was begun with other {words}; go on with the same, or start again "
        "with --overwrite.\n",
    )


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(command_line: CommandLine, stopped: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # another process goes on
    done = command_line("train", "--out", stopped, "--resume", "--cpu", "--mixed-precision", "bf16")
    assert done.code == 1
    assert f"stopped: {stopped} holds the network of epoch 1 in last.safetensors." in done.out.splitlines()
    assert "differs in precision (no, now bf16); go on with the same, or start again with --overwrite." in done.err


def test_to_go_on_and_to_overwrite_exclude_each_other(command_line: CommandLine, stopped: Path) -> None:
    done = command_line("train", "--out", stopped, "--resume", "--overwrite", "--cpu")
    assert (done.code, done.err) == (
        2,
        "error: `resume` and `overwrite` exclude each other; go on with the run, or replace it.\n",
    )


def test_a_teacher_that_was_trained_alone_makes_an_index(
    command_line: CommandLine, arguments: tuple[object, ...], data: Path, index: Path, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "alone.toml", tmp_path / "teacher-run"
    recipe.write_text(ALONE.format(loss="contrastive") + 'network = "teacher"\n')
    done = command_line(*arguments, "--recipe", recipe, "--out", run)
    assert (done.code, done.err) == (
        2,
        f"error: `index` is {index}, but recipe 'alone' trains a network alone; leave --index out.\n",
    )
    begun = ("train", "--recipe", recipe, "--data", data, "--out", run, "--cpu")
    assert command_line(*begun).code == 0
    teacher = load_teacher(run)
    assert teacher.name == "teacher-run"
    done = command_line("index", "build", "--teacher", run, "--images", data, "--out", tmp_path / "its index")
    assert (done.code, done.err) == (0, "")
    assert open_index(tmp_path / "its index").space == teacher.space()


def test_images_without_labels_are_refused_before_anything_is_written(
    command_line: CommandLine, arguments: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    folder, recipe = tmp_path / "pictures", tmp_path / "alone.toml"
    folder.mkdir()
    for number, path in enumerate(sorted(path for path in (data / "ims").rglob("*") if path.is_file())):
        shutil.copy(path, folder / f"{number}.jpg")
    recipe.write_text(ALONE.format(loss="contrastive") + "dimension = 8\n")
    done = command_line("train", "--recipe", recipe, "--data", folder, "--out", tmp_path / "run", "--cpu")
    assert (done.code, done.err) == (
        1,
        "error: `mining` is 'hard', but the images have no labels of what matches; give a training set in the SfM "
        "layout or a folder of classes, CLASS/IMAGE, or a recipe whose loss needs no labels.\n",
    )
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_that_is_too_high_is_said_with_step_and_files(
    command_line: CommandLine, arguments: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    """A real loss that is not finite: Adam takes steps of the rate, and products of such weights overflow."""
    run = tmp_path / "run"
    rates = ("learning_rate=1e15", "warm_up=0", "frozen_stages=0", "warm_start=false", "batch_size=2", "epochs=2")
    done = command_line(*arguments, *(part for rate in rates for part in ("--set", rate)))
    assert done.code == 1
    first, *files = done.err.splitlines()
    assert re.fullmatch(
        r"error: the loss is \S+ and the norm of its gradient (nan|inf) at step \d \(epoch [12] of 2\); "
        r"try a `learning_rate` below 1e\+15, or look at the images of this step:",
        first,
    )
    assert len(files) == 2
    assert all(Path(file.strip()).is_relative_to(data) and Path(file.strip()).is_file() for file in files)
    assert f"stopped: {run} holds no network yet." in done.out.splitlines()
    assert "go on:" not in done.out
