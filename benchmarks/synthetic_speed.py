"""How fast synthetic images are drawn on one core, beside encoding the same pixels as JPEG and doing nothing else.

Run as ``python -m aml_edge.benchmarks.synthetic_speed``. Encoding is the bound: whatever draws an image must encode it.
A run draws every landmark of a small data set into a new folder, files and all; the scenery that a process makes once
is timed apart.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from aml_edge.benchmarks.environment import LoadWatch
from aml_edge.benchmarks.latency import NS_PER_MS, LatencyReport, summarise
from aml_edge.datasets.synthetic.plan import Subject, subjects
from aml_edge.datasets.synthetic.scenery import Scenery
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import draw_subject, scenery_of

JPEG_QUALITY = 84
"""The middle of the qualities that the views have."""


@dataclass(frozen=True)
class SyntheticSpeed:
    """What was timed, all in one process.

    Args:
        images: of one run.
        drawing, encoding: of one image, averaged over a run; as many values as there were runs.
        scenery_ms: what a process needs once.
    """

    images: int
    drawing: LatencyReport
    encoding: LatencyReport
    scenery_ms: float


def measure_synthetic_speed(spec: SyntheticSpec, runs: int) -> SyntheticSpeed:
    """Draws the data set once without timing and `runs` times with it, encoding after each, so that both meet one load.

    Args:
        spec: what a run draws; a landmark's texture is shared by its images, so their number matters.
        runs: at least 1.
    """
    before = time.perf_counter_ns()
    scenery = scenery_of(spec)
    scenery_ms = (time.perf_counter_ns() - before) / NS_PER_MS
    planned = subjects(spec)
    images = sum(len(subject.shots) for subject in planned)
    pixels, _ = _draw(spec, planned, scenery)
    drawing, encoding = [], []
    for _ in range(runs):
        _, taken = _draw(spec, planned, scenery)
        drawing.append(taken // images)
        encoding.append(_encode(pixels) // images)
    return SyntheticSpeed(images, summarise(drawing), summarise(encoding), scenery_ms)


def _draw(spec: SyntheticSpec, planned: Sequence[Subject], scenery: Scenery) -> tuple[list[Image.Image], int]:
    """Returns the images and how long drawing them took, ns."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        before = time.perf_counter_ns()
        for subject in planned:
            draw_subject(out, spec, subject, scenery)
        taken = time.perf_counter_ns() - before
        return [Image.open(out / shot.path).convert("RGB") for subject in planned for shot in subject.shots], taken


def _encode(pixels: Sequence[Image.Image]) -> int:
    before = time.perf_counter_ns()
    for image in pixels:
        image.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
    return time.perf_counter_ns() - before


def main() -> None:
    """Prints images a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="timed runs")
    parser.add_argument("--image-size", type=int, default=256, help="longest side of an image, px")
    arguments = parser.parse_args()
    spec = SyntheticSpec(
        image_side_px=arguments.image_size, landmarks_train=8, landmarks_val=1, landmarks_test=8, distractors=24
    )
    watch = LoadWatch()
    speed = measure_synthetic_speed(spec, arguments.runs)
    load = watch.finish(time.process_time())
    print(
        f"one process, {speed.images} images of {spec.image_side_px} px a run, {arguments.runs} runs after one untimed"
    )
    for name, report in (("draw, encode, write", speed.drawing), ("encode alone", speed.encoding)):
        rate, slow, fast = (1000 / ms for ms in (report.p50_ms, report.p90_ms, report.fastest_ms))
        print(
            f"{name:20} median {rate:7.1f} images/s, 9 of 10 runs at least {slow:7.1f}, best {fast:7.1f} "
            f"({report.p50_ms:.3f} ms an image)"
        )
    whole = SyntheticSpec()
    images = sum(len(subject.shots) for subject in subjects(whole))
    rate = images / (images * speed.drawing.p50_ms + speed.scenery_ms) * 1000
    print(f"scenery, once a process: {speed.scenery_ms:.0f} ms; with it {images} images come at {rate:.1f} images/s")
    if load.other_work is not None:
        print(f"other processes took {load.other_work:.0%} of the machine meanwhile")


if __name__ == "__main__":
    main()
