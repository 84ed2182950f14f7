"""How fast a million rows on disk are evaluated, beside the usual way, the disk and the matrix product.

Run as ``python -m aml_edge.benchmarks.evaluation_speed --folder DIR``; the rows, 12 GB, are made there the first time.
Ours and the usual way take turns, each turn in a process of its own, so that its peak memory is its own. What each
needs beyond the product is what is compared: of ours the whole less the same reading and product with nothing else,
of the usual way sorting and loop. The first evaluation of an opened index checks every row, which the usual way does
not; it is said apart. Bounds are the product alone, of a block in memory, and plain reading of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import torch

from aml_edge.benchmarks.environment import LoadWatch
from aml_edge.benchmarks.evaluation_data import EvaluationSize, open_or_make
from aml_edge.benchmarks.evaluation_turns import OurTurn, UsualTurn, our_turn, usual_turn
from aml_edge.index.record import IndexDtype
from aml_edge.labelled_ranks import MEMORY_BYTES
from aml_edge.progress import SilentProgress
from aml_edge.script_errors import errors_in_a_line

OURS, USUAL = "ours", "usual"


def largest_difference(ours: OurTurn, usual: UsualTurn) -> float:
    """Returns by how much an AP of the two ways differs; products are rounded otherwise, so neighbours may swap."""
    pairs = zip(ours.average_precisions, usual.average_precisions, strict=True)
    return max(abs(left - right) for one, other in pairs for left, right in zip(one, other, strict=True))


def describe(ours: Sequence[OurTurn], usual: Sequence[UsualTurn], size: EvaluationSize, item_bytes: int) -> str:
    """Returns the lines that are printed of both ways' turns, round by round."""
    rounds = list(zip(ours, usual, strict=True))
    ratios = [other.beyond_s / one.beyond_s for one, other in rounds]
    first_ratios = [other.beyond_s / one.first_beyond_s for one, other in rounds]
    gigabytes = size.rows * size.dimension * item_bytes / 1e9
    middle = {name: median(getattr(one, name) for one in ours) for name in ("product_alone_s", "whole_s", "reading_s")}
    from_disk = ours[0].from_disk
    lines = [
        f"ours: reading and product {_range([one.product_s for one in ours])} s, with ranks and measures "
        f"{_range([one.whole_s for one in ours])} s; beyond the product {_range([one.beyond_s for one in ours])} s, "
        f"and {_range([one.first_beyond_s for one in ours])} s the first time, which checks every row; "
        f"peak {_gigabytes([one.peak_bytes for one in ours])}",
        f"usual: loading {_range([one.load_s for one in usual])} s, product {_range([one.product_s for one in usual])} "
        f"s; sort {_range([one.sort_s for one in usual])} s and loop {_range([one.loop_s for one in usual])} s beyond "
        f"it; peak {_gigabytes([one.peak_bytes for one in usual])}",
        f"beyond the product, ours is {_range(ratios, '.1f')} times as fast, the first time "
        f"{_range(first_ratios, '.1f')}",
        f"bounds: product alone {middle['product_alone_s']:.2f} s, of which ours is "
        f"{middle['whole_s'] / middle['product_alone_s']:.2f} times; plain reading {middle['reading_s']:.2f} s "
        f"({gigabytes / middle['reading_s']:.1f} GB/s, "
        + ("where from is not known)" if from_disk is None else f"{from_disk:.0%} of it from the disk)"),
    ]
    cold = [(one.cold_reading_s, one.cold_whole_s) for one in ours]
    pairs = [(reading, whole) for reading, whole in cold if reading is not None and whole is not None]
    if pairs:
        reading, whole = (median(values) for values in zip(*pairs, strict=True))
        lines.append(
            f"from the disk: plain reading {reading:.2f} s ({gigabytes / reading:.1f} GB/s), ours {whole:.2f} s, "
            f"{whole / reading:.2f} times that"
        )
    largest = max(largest_difference(one, other) for one, other in rounds)
    return "\n".join([*lines, f"AP of the two ways differ by at most {largest:.1g}"])


def _range(values: Sequence[float], form: str = ".2f") -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _gigabytes(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known) / 1e9:.2f} GB" if known else "not known"


def _measured_elsewhere(way: str, dtype: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what another process measured in one turn."""
    command = [sys.executable, "-m", __spec__.name, "--folder", str(arguments.folder), "--way", way, "--dtypes", dtype]
    for name in ("rows", "dimension", "memory_bytes"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(ended.stdout)
    return measured


def _one_turn(arguments: argparse.Namespace) -> OurTurn | UsualTurn:
    size = EvaluationSize(arguments.rows, arguments.dimension)
    index = open_or_make(arguments.folder, size, arguments.dtypes[0], SilentProgress())
    return our_turn(index, size, arguments.memory_bytes) if arguments.way == OURS else usual_turn(index, size)


def main() -> None:
    """Prints what both ways take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the rows are, or are made")
    parser.add_argument("--rows", type=int, default=EvaluationSize().rows)
    parser.add_argument("--dimension", type=int, default=EvaluationSize().dimension)
    parser.add_argument("--dtypes", nargs="+", choices=get_args(IndexDtype), default=get_args(IndexDtype))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    parser.add_argument("--memory-bytes", type=int, default=MEMORY_BYTES, help="that evaluate_index may hold")
    parser.add_argument("--way", choices=(OURS, USUAL), help="take one turn here and print it as JSON")
    arguments = parser.parse_args()
    with errors_in_a_line(parser):
        if arguments.way is not None:
            print(json.dumps(asdict(_one_turn(arguments))))
            return
        size = EvaluationSize(arguments.rows, arguments.dimension)
        print(
            f"70 queries × {size.rows} × {size.dimension}, {torch.get_num_threads()} threads, "
            f"{arguments.rounds} rounds: median (lowest to highest)"
        )
        for dtype in arguments.dtypes:
            open_or_make(arguments.folder, size, dtype, SilentProgress())
            watch, before = LoadWatch(), sum(os.times()[:4])
            ours, usual = [], []
            for _ in range(arguments.rounds):
                ours.append(OurTurn(**_measured_elsewhere(OURS, dtype, arguments)))
                usual.append(UsualTurn(**_measured_elsewhere(USUAL, dtype, arguments)))
            print(f"\n{dtype}\n{describe(ours, usual, size, np.dtype(dtype).itemsize)}")
            load = watch.finish(sum(os.times()[:4]) - before)  # of this process and of those that took the turns
            if load.other_work is not None:
                print(f"other processes took {load.other_work:.0%} of the machine meanwhile", flush=True)


if __name__ == "__main__":
    main()
