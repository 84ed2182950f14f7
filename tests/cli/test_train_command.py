"""`aml-edge train`: its options, what it prints and leaves behind, and what it says when it stops."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from aml_edge.cli.train import SettingsOptions, train
from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import AmlEdgeError, TeacherIndexError, TrainingError, UsageError
from aml_edge.index_building import build_index
from aml_edge.networks.checkpoints import load_student
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training.loop import training_steps
from aml_edge.training.settings import TrainingSettings

SPACE = EmbeddingSpace("block means", "b" * 64, 16)
SMALL = ("--backbone", "mobilenetv2_035", "--batch-size", "4", "--image-side-px", "64", "--frozen-stages", "2")

app = typer.Typer()
app.command()(train)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight pictures."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(8):
        blobs = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        blobs.resize((64, 48), Image.Resampling.BICUBIC).save(root / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def index(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of them by a teacher without a network."""
    teacher = FakeEmbedder(SPACE, Preprocessing(64))
    return build_index(teacher, image_source(data), tmp_path_factory.mktemp("indexes") / "index").path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_options_are_the_settings_with_their_defaults() -> None:
    assert asdict(SettingsOptions()) == asdict(TrainingSettings())
    assert {field.name: field.default for field in fields(SettingsOptions)} == asdict(TrainingSettings())


def test_trains_into_the_run_folder(data: Path, index: Path, tmp_path: Path) -> None:
    run, report = tmp_path / "runs" / "first", tmp_path / "report.json"
    done = invoke("--data", data, "--index", index, "--out", run, "--epochs", 2, *SMALL, "--json", report)
    assert done.exit_code == 0, done.output
    student = load_student(run)
    assert student.space == SPACE
    assert student.student.spec.backbone == "mobilenetv2_035"
    assert student.preprocessing.image_side_px == 64
    settings = TrainingSettings(**json.loads((run / "settings.json").read_text()))
    assert settings == TrainingSettings(epochs=2, batch_size=4, image_side_px=64, frozen_stages=2)
    numbers = json.loads(report.read_text())
    assert (numbers["images"], numbers["epochs"], numbers["steps"]) == (8, 2, 4)
    assert numbers["run"] == str(run)
    lines = done.output.splitlines()
    assert lines[0] == f"8 images: image files of a folder {data}"
    assert lines[1].startswith("frozen stages: 8/8, ")
    assert lines[2].startswith("warm start: 8/8, ")
    assert lines[3].startswith("training: 16/16, ")
    assert lines[3].endswith(" images/s") and ", loss 0." in lines[3]
    assert lines[4] == (
        f"2 epochs of 8 images in {numbers['seconds']:.1f} s ({numbers['images_per_second']:.1f} images/s), after "
        f"{numbers['preparing_seconds']:.1f} s of preparation; "
        f"loss {numbers['first_loss']:.4f} → {numbers['last_loss']:.4f}"
    )
    assert lines[5] == str(run)


def test_json_on_standard_output_is_alone_there(data: Path, index: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick = (*SMALL, "--epochs", 1, "--no-warm-start")
    done = invoke("--data", data, "--index", index, "--out", run, *quick, "--json", "-")
    assert json.loads(done.stdout)["steps"] == 2
    assert "1 epoch of 8 images in " in done.stderr
    assert "warm start" not in done.stderr


def raised(*arguments: object) -> AmlEdgeError:
    """Returns the error that a command ends in; the program prints it as one line."""
    error = invoke(*arguments).exception
    assert isinstance(error, AmlEdgeError)
    return error


def test_another_run_is_refused_before_anything_is_read(data: Path, index: Path, tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").write_bytes(b"precious")
    error = raised("--data", "nowhere", "--index", "nowhere", "--out", tmp_path, *SMALL)
    assert isinstance(error, UsageError)
    assert str(error) == (
        f"`run` is {tmp_path}, which holds another run (student.safetensors); name another folder, or pass --overwrite."
    )
    done = invoke("--data", data, "--index", index, "--out", tmp_path, *SMALL, "--epochs", 1, "--overwrite")
    assert done.exit_code == 0, done.output
    assert load_student(tmp_path).trained


def test_images_that_the_index_lacks_are_named(data: Path, index: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for path in (*data.iterdir(), data / "0.png"):
        (more / ("9.png" if (more / path.name).exists() else path.name)).write_bytes(path.read_bytes())
    error = raised("--data", more, "--index", index, "--out", tmp_path / "run", *SMALL)
    assert isinstance(error, TeacherIndexError)
    assert "lacks 1 of 9 images (9.png)" in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--loss", "hinge", "`loss` is 'hinge'; it must be one of regression."),
        ("--epochs", "0", "`epochs` is 0; it must be at least 1."),
        ("--backbone", "mobilenetv2_0355", "`backbone` is 'mobilenetv2_0355'"),
        ("--index", "nowhere", "nowhere holds no index"),
        ("--data", "nowhere", "nowhere"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    data: Path, index: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    error = raised("--data", data, "--index", index, "--out", tmp_path / "run", *SMALL, option, value)
    assert message in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("after", "kept"), [(1, "no student yet"), (3, "the student of the last whole epoch")])
@pytest.mark.parametrize("ending", [KeyboardInterrupt(), TrainingError("the loss is nan")])
def test_a_training_that_stops_says_what_is_left(
    data: Path,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    kept: str,
    ending: BaseException,
) -> None:
    def stops(*arguments: Any) -> Any:
        for record in training_steps(*arguments):
            if record.step > after:
                raise ending
            yield record

    monkeypatch.setattr("aml_edge.training.run.training_steps", stops)
    run = tmp_path / "run"
    done = invoke("--data", data, "--index", index, "--out", run, *SMALL, "--epochs", 3)
    assert f"stopped: {run} holds {kept}." in done.output.splitlines()
    assert done.exit_code == (130 if isinstance(ending, KeyboardInterrupt) else 1)
    assert (run / "student.safetensors").exists() == (after == 3)
