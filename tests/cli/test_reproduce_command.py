"""`aml-edge reproduce`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aml_edge.training.findings import FINDINGS

CommandLine = Callable[..., Any]
TINY = ("backbone=mobilenetv2_035", "epochs=1", "image_side_px=64", "frozen_stages=6", "batch_size=4", "negatives=2")
CHANGES = [part for value in TINY for part in ("--set", value, "--set-teacher", value)]


def test_the_table_is_printed_and_written(command_line: CommandLine, few_landmarks: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    out = tmp_path / "out"
    ended = command_line(
        "reproduce",
        "--data",
        few_landmarks,
        "--out",
        out,
        "--rows",
        "reg,rkd",
        *CHANGES,
        "--json",
        report,
        "--set-teacher",
        "dimension=1280",
    )
    assert ended.code == 0, ended.err
    numbers = json.loads(report.read_text())
    assert [row["name"] for row in numbers["rows"]] == ["teacher", "untrained", "reg", "rkd"]
    assert [finding["text"] for finding in numbers["findings"]] == list(FINDINGS)
    table = (out / "table.md").read_text().splitlines()
    assert table[0] == (
        "| network | teacher | labels | mining | asym | loss | sym. medium | hard | asym. medium | hard |"
    )
    medium = [row["symmetric"]["report"]["medium"]["mean_average_precision"] for row in numbers["rows"]]
    interval = numbers["rows"][2]["symmetric"]["medium_interval"]
    shown = f"{100 * medium[2]:.1f} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"
    assert table[4].startswith(f"| mobilenetv2_035 | mobilenetv2_035 |  | – | ✓ | reg | {shown} | ")
    assert table[2].startswith("| mobilenetv2_035 | – | ✓ | hard |  | teacher | ") and table[2].endswith("| – | – |")
    assert table[3].startswith("| mobilenetv2_035 | – |  | – |  | untrained | ")
    assert len(table) == 2 + 4 + 1 + 2 + len(FINDINGS)
    judged = {line.split(" | ")[0][2:]: line.split(" | ")[1] for line in table[9:]}
    assert judged["asymmetric: Contr⁺ comes before Contr"] == "not tested"
    assert "row reg: recipe small-reg" in ended.out
    assert str(out / "table.md") in ended.out


def test_an_unknown_row_is_one_line(command_line: CommandLine, few_landmarks: Path, tmp_path: Path) -> None:
    ended = command_line("reproduce", "--data", few_landmarks, "--out", tmp_path / "out", "--rows", "reg,dr")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: `rows` has 'dr'; a row is one of contr-alone, contr, ")
    assert not (tmp_path / "out").exists()


def test_data_without_a_test_set_is_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("reproduce", "--data", tmp_path, "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"error: {tmp_path} has 0 data sets as test/NAME; it must hold one of each" in ended.err


def test_a_folder_that_is_not_there_is_wrong_usage(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("reproduce", "--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert ended.code == 2
    assert f"error: {tmp_path / 'nowhere'} has 0 data sets as test/NAME" in ended.err
