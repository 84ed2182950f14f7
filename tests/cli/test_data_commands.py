"""`aml-edge data`: what is written, what is said of it, and how wrong input ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.synthetic import writing
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import SyntheticReport, write_synthetic

CommandLine = Callable[..., Any]
TINY = ("--image-size", 48, "--landmarks-train", 2, "--views-train", 3, "--landmarks-test", 2, "--distractors", 3)
COUNTS = {"training": (2, 6), "validation": (1, 3), "queries": (2, 2), "database": (2, 2 * (4 + 5 + 2) + 3)}


def test_synth_writes_both_data_sets_and_counts_them(command_line: CommandLine, tmp_path: Path) -> None:
    out, report = tmp_path / "new", tmp_path / "report.json"
    ended = command_line("data", "synth", out, *TINY, "--workers", 1, "--json", report)
    assert (ended.code, ended.err) == (0, "")
    images = sum(count for _, count in COUNTS.values())
    for name, (landmarks, count) in COUNTS.items():
        assert [name, str(landmarks), str(count)] in [line.split() for line in ended.out.splitlines()]
    assert f"{images} images drawn in " in ended.out
    assert ended.out.splitlines()[-3:] == [
        f"to train on: {out / 'train' / 'synth'}",
        f"to test on: {out / 'test' / 'synth'}",
        f"to look at: {out / 'contact_sheet.png'}",
    ]
    numbers = json.loads(report.read_text())
    assert (numbers["train_images"], numbers["database_images"], numbers["new_images"]) == (6, 25, images)
    assert sum(1 for path in out.rglob("*") if path.is_file() and "ims" in path.parts) == 9
    assert len(list((out / "test" / "synth" / "jpg").iterdir())) == 27

    again = command_line("data", "synth", out, *TINY, "--workers", 1)
    assert f"0 images drawn in 0.0 s, {images} were there" in again.out


def test_every_option_reaches_its_field(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[SyntheticSpec, int]] = []

    def stand_in(out: Path, spec: SyntheticSpec, *, progress: object, workers: int) -> SyntheticReport:
        asked.append((spec, workers))
        return SyntheticReport(out, out, out, out, spec, 0, 0, 0, 0, 0, 0.0)

    monkeypatch.setattr(writing, "write_synthetic", stand_in)
    spec = SyntheticSpec("other", 5, 100, 20, 6, 7, 8, 2, 3, 4, 9, 10)
    options = [
        word
        for field, value in asdict(spec).items()
        for word in (f"--{field.replace('image_side_px', 'image_size').replace('_', '-')}", value)
    ]
    assert command_line("data", "synth", tmp_path, *options, "--workers", 3).code == 0
    assert command_line("data", "synth", tmp_path).code == 0
    assert command_line("data", "synth", tmp_path, "--landmarks-train", 30).code == 0
    assert command_line("data", "synth", tmp_path, "--landmarks-train", 4).code == 0
    assert asked[0] == (spec, 3)
    assert asked[1][0] == SyntheticSpec()
    assert [one.landmarks_val for one, _ in asked[2:]] == [5, 1]  # a sixth, one at least


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-size", 8), "`image_side_px` is 8; it is between 32 and 2048."),
        (("--views-train", 1), "`views_train` is 1; it is at least 2 and at most 4294967295."),
        (("--workers", 0), "`workers` is 0; drawing takes at least one."),
        (("--name", "a/b"), "`name` is 'a/b'; a data set's name has 1 to 64 letters, digits, - and _."),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_nothing_is_written(
    command_line: CommandLine, tmp_path: Path, options: tuple[str, object], message: str
) -> None:
    ended = command_line("data", "synth", tmp_path / "new", *options)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "new").exists()


def test_synth_leaves_a_folder_of_something_else_alone(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    ended = command_line("data", "synth", tmp_path, *TINY)
    assert ended.code == 2
    assert ended.err == (
        f"error: `out` is {tmp_path}, which holds thesis.txt and no synthetic data set; give an empty or new folder.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_info_describes_both_data_sets(command_line: CommandLine, synthetic: SyntheticReport) -> None:
    ended = command_line("data", "info", synthetic.root)
    assert (ended.code, ended.err) == (0, "")
    lines = [line.rstrip() for line in ended.out.splitlines() if not line.startswith("looking at images: ")]
    assert lines.pop(0) == (
        f"{synthetic.root} is no data set, but holds 2 data sets; name the folder of one, as below, where a command "
        "takes a data set or images."
    )
    test = lines[: lines.index("nothing wrong was found") + 1]
    assert test[0] == f"synth  {synthetic.test_root}"
    assert test[1] == "layout    revisited"
    assert test[2].startswith("images    28, ")
    assert test[4:] == [
        "queries   2",
        "database  26, of which 4 answer no query",
        "easy      4 a query, 8 in all",
        "hard      5 a query, 10 in all",
        "junk      2 a query, 4 in all",
        "measures  mAP and mP@k, easy, medium and hard",
        "nothing wrong was found",
    ]
    train = lines[len(test) :]
    assert train[0] == f"synth  {synthetic.train_root}"
    assert train[4:] == [
        "train   6 images of 2 clusters (3 each), 4 pairs",
        "val     3 images of 1 cluster (3 each), 2 pairs",
        "nothing wrong was found",
    ]


@pytest.mark.parametrize("above", [1, 2, 3])
def test_info_of_a_folder_too_high_says_so(
    command_line: CommandLine, synthetic: SyntheticReport, tmp_path: Path, above: int
) -> None:
    root = Path(shutil.copytree(synthetic.train_root, tmp_path / "a" / "b" / "c" / "synth"))
    given = root.parents[above - 1]
    ended = command_line("data", "info", given)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[1:3] == [
        f"{given} is no data set, but holds a data set; name the folder of one, as below, where a command takes a data "
        "set or images.",
        f"synth  {root}",
    ]
    assert "is no data set" not in command_line("data", "info", root).out
    assert "is no data set" not in command_line("data", "info", f"{root}/").out


def test_info_says_what_is_wrong_and_goes_on(
    command_line: CommandLine, synthetic: SyntheticReport, tmp_path: Path
) -> None:
    root = tmp_path / "synth"
    shutil.copytree(synthetic.test_root, root)
    first = sorted((root / "jpg").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-200])
    report = tmp_path / "report.json"
    assert "nothing wrong was found" in command_line("data", "info", root).out
    ended = command_line("data", "info", root, "--decode", "--json", report)
    assert ended.code == 0
    assert f"1 of 28 images cannot be read, the first is {first}: " in ended.out
    (description,) = json.loads(report.read_text())
    assert len(description["problems"]) == 1
    assert description["ground_truth"]["distractors"] == 4


def test_info_of_nothing_is_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("data", "info", tmp_path / "nowhere")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"error: {tmp_path / 'nowhere'} is no folder; give the folder that holds the images.\n"


def test_json_on_standard_output_is_alone_there(command_line: CommandLine, synthetic: SyntheticReport) -> None:
    ended = command_line("data", "info", synthetic.train_root, "--json", "-")
    (description,) = json.loads(ended.out)
    assert description["kind"] == "SfM"
    assert [split["pairs"] for split in description["splits"]] == [4, 2]
    assert "nothing wrong was found" in ended.err


def test_a_long_path_is_not_cut_at_80_columns(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    out = Path("a_folder_with_a_long_name") / "and_another_one_below" / "that_holds_it_in_the_end"
    write_synthetic(out, SyntheticSpec(image_side_px=32, landmarks_train=1, landmarks_val=1, landmarks_test=1))
    ended = command_line("data", "synth", out, "--image-size", 32, "--landmarks-train", 1, "--landmarks-test", 1)
    assert ended.code == 0, ended.err
    assert f"to test on: {out / 'test' / 'synth'}\n" in ended.out
