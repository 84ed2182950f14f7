"""How fast training is, beside the published way of doing it: images/s of Reg and Contr⁺, and mining.

Run as ``python -m aml_edge.training.speed --data data/synth/train/synth --index indexes/training``. Three ways train
the same student on the same tuples in one process, by turns: the published one, ours, and ours with batches of one
shape (`BatchOrder.BY_SHAPE`). A round reads its images from disk. Weights are random.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.datasets.training_images import training_images
from aml_edge.index import open_index
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student
from aml_edge.pixels import read_fitted_size
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import SilentProgress
from aml_edge.script_errors import errors_in_a_line
from aml_edge.training.cpu_speed import keep_kernels_and_memory, without_needless_copies
from aml_edge.training.folded_batch_norm import folded_batch_norm
from aml_edge.training.inputs import InputOptions, training_inputs
from aml_edge.training.loop import Training
from aml_edge.training.losses import loss_with_options
from aml_edge.training.mining import hardest_negatives
from aml_edge.training.processes import Processes
from aml_edge.training.published_way import AnchorImages, hardest_by_full_ranks, train_one_by_one
from aml_edge.training.settings import Mining, Mode, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.starting_network import starting_network
from aml_edge.training.training_set import TrainingSet, training_set_of
from aml_edge.training.tuples import Tuples, one_shape_a_batch

IMAGE_SIDE_PX = 224
BATCH = 5
WORKERS = 2
LOSSES: dict[str, dict[str, float]] = {"regression": {}, "contrastive_plus": {"margin": 0.7}}
QUERIES, POOL, DIMENSION, CLUSTERS, NEGATIVES = 2000, 20_000, 2048, 551, 5


@dataclass(frozen=True)
class SpeedReport:
    """Images per second of the three ways.

    Args:
        backbone, loss: of the student.
        published, drawn, by_shape: images/s of each round.
    """

    backbone: str
    loss: str
    published: tuple[float, ...]
    drawn: tuple[float, ...]
    by_shape: tuple[float, ...]


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one round of batches of one shape, part by part, each alone, so that none hides behind another.

    Args:
        images: of the round.
        decode: reading the images, two threads.
        forward: through the network, and the loss.
        backward: the gradients.
        update: Adam.
        whole: of the round as it is trained.
    """

    images: int
    decode: float
    forward: float
    backward: float
    update: float
    whole: float


@dataclass(frozen=True)
class MiningReport:
    """Seconds of mining hard negatives for 2000 queries in a pool of 20 000, 2048-D.

    Args:
        product: the matrix product alone.
        published, ours: product included.
    """

    product: float
    published: float
    ours: float


def measure_training(
    training_set: TrainingSet, settings: TrainingSettings, *, tuples: int, rounds: int
) -> tuple[SpeedReport, StepTimes]:
    """Returns the speed of the three ways by turns, after a round of each that does not count, and where it goes.

    Args:
        training_set: with labels and teacher embeddings.
        settings: backbone, loss and batch size; asymmetric.
        tuples: of a round.
        rounds: of each way, at least one.
    """
    assert training_set.teacher is not None
    start = starting_network(settings, training_set.teacher.space)
    assert isinstance(start, StudentCheckpoint)
    student, preprocessing = start.student, start.preprocessing
    network, one_by_one = copy.deepcopy(student), copy.deepcopy(student)
    split, training = _ours(network, training_set, settings, preprocessing)
    drawn = split.tuples(np.random.default_rng(0)).part(0, tuples)
    shapes = [read_fitted_size(training_set.items[row].path, preprocessing) for row in drawn.anchors]
    by_shape = one_shape_a_batch(drawn, shapes, settings.batch_size, np.random.default_rng(0))
    rows = torch.from_numpy(training_set.teacher.rows)
    loss = loss_with_options(settings.loss, settings.loss_options)
    images = AnchorImages(training_set.items, drawn.anchors.tolist(), preprocessing)

    def train(tuples: Tuples) -> None:
        training.tuples = tuples
        for _ in training.steps_of_epoch():
            pass
        training.end_epoch()

    ways: tuple[Callable[[], object], ...] = (
        lambda: train_one_by_one(one_by_one, images, drawn, rows, loss, settings),
        lambda: train(drawn),
        lambda: train(by_shape),
    )
    with folded_batch_norm(network.backbone.trunk), without_needless_copies(network):
        seconds = np.array([[_seconds(way) for way in ways] for _ in range(1 + rounds)])[1:]  # (R, 3)
        parts = _step_times(split, training, by_shape, float(np.median(seconds[:, 2])))
    speeds = (tuple(column) for column in (tuples / seconds).T.tolist())
    return SpeedReport(settings.backbone, settings.loss, *speeds), parts


def measure_mining(*, clusters: int = CLUSTERS) -> MiningReport:
    """Returns how long both ways mine, and asserts that they find the same."""
    generator = np.random.default_rng(0)
    pool, queries = (generator.normal(size=(count, DIMENSION)).astype(np.float32) for count in (POOL, QUERIES))
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    of_pool, of_queries = (generator.integers(clusters, size=count) for count in (POOL, QUERIES))
    found: list[npt.NDArray[Any]] = []
    product = _seconds(lambda: found.append(queries @ pool.T))
    published = _seconds(lambda: found.append(hardest_by_full_ranks(queries, of_queries, pool, of_pool, NEGATIVES)))
    ours = _seconds(lambda: found.append(hardest_negatives(queries, of_queries, pool, of_pool, NEGATIVES)))
    assert (found[1] == found[2]).mean() > 0.999  # but for ties of rounded products
    return MiningReport(product, published, ours)


def _ours(
    network: Student, training_set: TrainingSet, settings: TrainingSettings, preprocessing: Preprocessing
) -> tuple[Split, Training]:
    from accelerate import Accelerator

    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its overloads
    processes = Processes(Accelerator(cpu=True))
    options = InputOptions(settings.frozen_stages, WORKERS)
    inputs = training_inputs(network, training_set, preprocessing, options, progress=SilentProgress())
    split = Split(network, inputs, training_set, settings, processes)
    return split, Training(network, split, settings, processes)


def _step_times(split: Split, training: Training, tuples: Tuples, whole: float) -> StepTimes:
    chunks = [chunk for batch in split.batches(tuples) for chunk in split.chunks(batch)]
    started = time.perf_counter()
    groups = list(split.load(chunks))
    decoded = time.perf_counter()
    forward = backward = update = 0.0
    for chunk, group in zip(chunks, groups, strict=True):
        begun = time.perf_counter()
        loss = split.loss_sum(chunk, group)
        middle = time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        end = time.perf_counter()
        training.optimiser.step()
        training.optimiser.zero_grad()
        forward, backward, update = (
            forward + middle - begun,
            backward + end - middle,
            update + time.perf_counter() - end,
        )
    return StepTimes(len(tuples), decoded - started, forward, backward, update, whole)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a training set in the SfM layout")
    parser.add_argument("--index", type=Path, required=True, help="a teacher's index of it")
    parser.add_argument("--backbones", default="efficientnet_lite0,efficientnet_b3", help="separated by commas")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--tuples", type=int, default=60, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="of each way")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.tuples, arguments.rounds) < 1:
        parser.error("--threads, --tuples and --rounds must be at least 1")
    with errors_in_a_line(parser):
        _print_tables(arguments)


def _print_tables(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    keep_kernels_and_memory()  # the published way's too
    images = training_images(arguments.data)
    training_set = training_set_of(images.training, open_index(arguments.index))
    print(
        f"{IMAGE_SIDE_PX} px, batch {BATCH}, {arguments.threads} threads, {arguments.rounds} rounds of "
        f"{arguments.tuples} images by turns, torch {torch.__version__}\n"
    )
    print("| student | loss | published way, images/s | as drawn | ratio | one shape a batch | ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    parts: list[tuple[SpeedReport, StepTimes]] = []
    for backbone in arguments.backbones.split(","):
        for loss, options in LOSSES.items():
            settings = TrainingSettings(
                backbone=backbone,
                mode=Mode.ASYMMETRIC,
                loss=loss,
                loss_options=options,
                mining=Mining.NONE if loss == "regression" else Mining.RANDOM,
                negatives=NEGATIVES,
                batch_size=BATCH,
                image_side_px=IMAGE_SIDE_PX,
                frozen_stages=0,
                warm_start=False,
            )
            parts.append(measure_training(training_set, settings, tuples=arguments.tuples, rounds=arguments.rounds))
            print(_speed_row(parts[-1][0]), flush=True)
    print("\n| student | loss | decode | forward | backward | Adam | a round as trained |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for report, one in parts:
        seconds = (one.decode, one.forward, one.backward, one.update, one.whole)
        cells = " | ".join(f"{1000 * value / one.images:.1f} ms" for value in seconds)
        print(f"| {report.backbone} | {report.loss} | {cells} |")
    mining = measure_mining()
    print(
        f"\nmining, {QUERIES} queries in a pool of {POOL}, {DIMENSION}-D: published way {mining.published:.2f} s, here "
        f"{mining.ours:.2f} s, of which the matrix product {mining.product:.2f} s"
    )


def _speed_row(report: SpeedReport) -> str:
    published, *ours = (np.array(values) for values in (report.published, report.drawn, report.by_shape))
    cells = [f"{report.backbone} | {report.loss} | {np.median(published):.1f}"]
    for speeds in ours:
        ratios = speeds / published  # round by round
        cells.append(f"{np.median(speeds):.1f} | {np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}]")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
