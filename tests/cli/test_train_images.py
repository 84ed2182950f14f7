"""`aml-edge train` reads the images that its index was built from, or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from aml_edge.cli import console
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.embedder import FakeEmbedder
from aml_edge.index.building import build_index
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

SETTINGS = ("backbone=mobilenetv2_035", "batch_size=4", "image_side_px=64", "frozen_stages=4", "epochs=1")
CommandLine = Callable[..., Any]


@pytest.fixture(autouse=True)
def new_accelerate() -> Iterator[None]:
    """A process of the real command line makes one Accelerator, which remembers what it was told."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def arguments(synthetic: SyntheticReport, tmp_path: Path) -> tuple[object, ...]:
    """A command that works, on a set of nine images that may be changed."""
    data = Path(shutil.copytree(synthetic.train_root, tmp_path / "train" / "synth"))
    space = EmbeddingSpace("block means", "b" * 64, 16)
    index = build_index(FakeEmbedder(space, Preprocessing(64)), image_source(data), tmp_path / "ix").path
    changes = [word for setting in SETTINGS for word in ("--set", setting)]
    return ("train", "--data", data, "--index", index, "--out", tmp_path / "run", "--cpu", *changes)


def test_an_image_that_was_changed_since_is_one_line_and_nothing_is_written(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    changed = image_source(tmp_path / "train" / "synth")
    changed.items[2].path.write_bytes(changed.items[3].path.read_bytes())
    done = command_line(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: the index {tmp_path / 'ix'} was built from other images: 1 of 9 have other bytes now "
        f"({changed.ids[2]}); build it again from these, or give those that it was built from.\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_looks_at_its_images_again(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    assert command_line(*arguments).code == 0
    image = image_source(tmp_path / "train" / "synth").items[0].path
    image.write_bytes(image.read_bytes() + b"one byte more")
    done = command_line("train", "--out", tmp_path / "run", "--resume", "--cpu")
    assert done.code == 1
    assert "was built from other images: 1 of 9 have other bytes now" in done.err


def test_a_log_hears_of_a_check_that_takes_long_and_of_no_other(
    command_line: CommandLine, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = command_line(*arguments)
    assert quick.out.startswith("recipe ")
    monkeypatch.setattr(console, "PLAIN_LINE_SECONDS", 0.0)
    long = command_line(*arguments, "--overwrite")
    assert long.out.startswith("checking images: 1/9, ")
    assert any(line.startswith("checking images: 9/9, ") for line in long.out.splitlines())
