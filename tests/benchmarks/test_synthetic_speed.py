"""The speed of drawing: what is counted and how often; times themselves are the machine's."""

from __future__ import annotations

import sys

import pytest

from aml_edge.benchmarks import synthetic_speed
from aml_edge.benchmarks.latency import summarise
from aml_edge.benchmarks.synthetic_speed import SyntheticSpeed, measure_synthetic_speed
from aml_edge.datasets.synthetic.spec import SyntheticSpec

SPEC = SyntheticSpec(
    image_side_px=32,
    landmarks_train=1,
    landmarks_val=1,
    views_train=2,
    landmarks_test=1,
    easy=1,
    hard=1,
    junk=1,
    distractors=2,
)


def test_every_run_draws_and_encodes_every_image() -> None:
    speed = measure_synthetic_speed(SPEC, 3)
    assert speed.images == 2 + 2 + (1 + 1 + 1 + 1) + 2
    assert (speed.drawing.runs, speed.encoding.runs) == (3, 3)
    for report in (speed.drawing, speed.encoding):
        assert 0 < report.fastest_ms <= report.p50_ms <= report.p90_ms
    assert speed.scenery_ms > 0


def test_the_command_prints_rates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[SyntheticSpec, int]] = []

    def measured(spec: SyntheticSpec, runs: int) -> SyntheticSpeed:
        asked.append((spec, runs))
        four, half = (summarise([ns, ns, ns]) for ns in (4_000_000, 500_000))
        return SyntheticSpeed(200, four, half, 352.0)

    monkeypatch.setattr(synthetic_speed, "measure_synthetic_speed", measured)
    monkeypatch.setattr(sys, "argv", ["synthetic_speed", "--runs", "3", "--image-size", "64"])
    synthetic_speed.main()
    ((spec, runs),) = asked
    assert (spec.image_side_px, runs) == (64, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one process, 200 images of 64 px a run, 3 runs after one untimed"
    assert lines[1].startswith("draw, encode, write  median   250.0 images/s")
    assert lines[1].endswith("(4.000 ms an image)")
    assert lines[2].startswith("encode alone         median  2000.0 images/s")
    # 480·3 + 80·3 training images, 40·12 of the test set, 120 distractors: 2280 in 2280·4 ms + 352 ms
    assert lines[3] == "scenery, once a process: 352 ms; with it 2280 images come at 240.7 images/s"
