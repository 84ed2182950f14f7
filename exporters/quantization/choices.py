"""What each step of post-training quantization is worth, and which draw of calibration images, in simulated int8.

Run as ``python -m aml_edge.exporters.quantization.choices --student S --index I --dataset D --calibrate-on C``; with
``--draws SEEDS`` it compares draws and counts of calibration images instead. Stem and head mean the first convolution,
and GeM with L2.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aml_edge.datasets.loading import load_test_set
from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.exporters.agreement import agreement_of, centred_cosines
from aml_edge.exporters.quantization.query_set import QuerySet, load_query_set
from aml_edge.exporters.quantization.sensitivity import embed_float, embed_quantized
from aml_edge.index import open_index
from aml_edge.map_drop import Drop, measure_drop
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.released import resolve_student
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit
from aml_edge.quantization.calibration import CalibrationOptions, calibration_images
from aml_edge.quantization.post_training import PostTrainingOptions, observed_for_quantization, quantize_post_training
from aml_edge.quantization_record import Draw
from aml_edge.runtimes.torch_runtime import TorchEmbedder
from aml_edge.script_errors import errors_in_a_line
from aml_edge.space import require_same_space

STOCK = PostTrainingOptions(equalise=False, correct_bias=False, clip=False, float_stem=False)
STEPS: dict[str, PostTrainingOptions] = {
    "stem in integers too": STOCK,
    "stem in floating point": replace(STOCK, float_stem=True),
    "and ranges equalised": replace(STOCK, float_stem=True, equalise=True),
    "or biases corrected": replace(STOCK, float_stem=True, correct_bias=True),
    "or ranges clipped": replace(STOCK, float_stem=True, clip=True),
    "all but clipped": PostTrainingOptions(clip=False),
    "all (the default)": PostTrainingOptions(),
}
"""The first is what a stock recipe does of a network with a head in floating point."""
COUNTS = (32, 128)


@dataclass(frozen=True)
class ChoiceReport:
    """What integers chosen in one way do to the embeddings of the queries.

    Args:
        smallest, mean: centred cosine to those in floating point.
        pair_error: largest error of the similarity of two.
        drop: asymmetric mAP (medium) lost.
    """

    smallest: float
    mean: float
    pair_error: float
    drop: Drop


def measure_steps(
    network: DeployableStudent, images: Sequence[Pixels], queries: QuerySet
) -> Iterator[tuple[str, ChoiceReport]]:
    """Yields what each of `STEPS` comes to.

    Args:
        network: of the student.
        images: (H, W, 3) uint8, calibrate.
        queries: fitted alike.
    """
    float_rows = embed_float(observed_for_quantization(network, images, STOCK).graph, queries.images)
    for name, options in STEPS.items():
        rows = embed_quantized(quantize_post_training(network, images, options), queries.images)
        yield name, _report(float_rows, rows, queries)


def measure_draws(
    checkpoint: StudentCheckpoint, source: Path, queries: QuerySet, seeds: int
) -> Iterator[tuple[int, Draw, tuple[ChoiceReport, ...]]]:
    """Yields for each count and draw what each seed comes to.

    Args:
        checkpoint: the student, its preprocessing that of the file.
        source: of the calibration images.
        queries: fitted alike.
        seeds: how many.
    """
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    embedder = TorchEmbedder(checkpoint.student, space=checkpoint.space, preprocessing=checkpoint.preprocessing)
    with closing(embedder):
        float_rows = embedder.embed(queries.images)
        for count, draw in itertools.product(COUNTS, Draw):
            reports = []
            for seed in range(seeds):
                drawn = calibration_images(CalibrationOptions(source, count, seed, draw), embedder)
                rows = embed_quantized(quantize_post_training(network, drawn.images), queries.images)
                reports.append(_report(float_rows, rows, queries))
            yield count, draw, tuple(reports)


def _report(float_rows: Embeddings, rows: Embeddings, queries: QuerySet) -> ChoiceReport:
    centred = centred_cosines(float_rows, rows)
    truth = queries.ground_truth
    drop = measure_drop(float_rows, rows, queries.database, truth, range(len(truth)))
    pair_error = agreement_of(float_rows, rows).pair_error.largest
    return ChoiceReport(float(centred.min()), float(centred.mean()), pair_error, drop)


def _step_line(name: str, one: ChoiceReport) -> str:
    drop = one.drop
    return (
        f"| {name} | {one.smallest:.4f} | {one.mean:.4f} | {one.pair_error:.4f} "
        f"| {drop.points:.2f} [{drop.low:.2f}, {drop.high:.2f}] |"
    )


def _draw_line(count: int, draw: Draw, reports: Sequence[ChoiceReport]) -> str:
    columns = ([one.mean for one in reports], [one.smallest for one in reports], [one.drop.points for one in reports])
    shown = (
        f"{np.mean(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
        for values, digits in zip(columns, (4, 4, 2), strict=True)
    )
    return f"| {count} | {draw} | {' | '.join(shown)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", help="as elsewhere; the newest run's")
    parser.add_argument("--index", type=Path, required=True, help="the teacher's index of the data set")
    parser.add_argument("--dataset", type=Path, required=True, help="a data set in the revisited layout")
    parser.add_argument("--calibrate-on", type=Path, required=True, help="images that choose the ranges")
    parser.add_argument("--draws", type=int, default=0, metavar="SEEDS", help="compare draws, by so many seeds")
    arguments = parser.parse_args()
    with errors_in_a_line(parser):
        if arguments.draws < 0:
            raise UsageError(f"`draws` is {arguments.draws}; it is how many seeds are drawn by: 1 or more.")
        index = open_index(arguments.index)
        checkpoint = resolve_student(arguments.student, space=index.space_before_whitening)
        require_same_space(
            checkpoint.space,
            index.space,
            left_name=f"student '{checkpoint.name}'",
            right_name=f"the index {arguments.index}",
        )
        own = checkpoint.preprocessing
        fit = Fit.LETTERBOX if own.fit is Fit.NATIVE else own.fit
        checkpoint = replace(checkpoint, preprocessing=own.fitted(fit, own.image_side_px))
        queries = load_query_set(load_test_set(arguments.dataset), index, checkpoint.preprocessing)
        print(f"student {checkpoint.name}, {own.image_side_px} px, {len(queries.images)} queries, simulated int8\n")
        if arguments.draws:
            print("| images | draw | mean centred cosine [over seeds] | smallest | mAP lost, medium |")
            print("| ---: | --- | ---: | ---: | ---: |")
            for count, draw, reports in measure_draws(checkpoint, arguments.calibrate_on, queries, arguments.draws):
                print(_draw_line(count, draw, reports), flush=True)
            return
        network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
        embedder = TorchEmbedder(checkpoint.student, space=checkpoint.space, preprocessing=checkpoint.preprocessing)
        with closing(embedder):
            images = calibration_images(CalibrationOptions(arguments.calibrate_on), embedder).images
        print("| in integers | centred cosine ≥ | mean | pair error ≤ | mAP lost, medium [95 %] |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, report in measure_steps(network, images, queries):
            print(_step_line(name, report), flush=True)


if __name__ == "__main__":
    main()
