"""How fast an index is built, beside the teacher's forward pass on the same pixels and nothing else.

Run as ``python -m aml_edge.benchmarks.embedding_speed --teacher T --images DIR``. The two take turns in one process,
with the same threads and images: a turn embeds all of them, from pixels in memory, or from their files into an index.
The ratio of a round is what reading, decoding, hashing and writing leave of the forward pass's speed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from aml_edge.benchmarks.environment import LoadWatch
from aml_edge.datasets.image_source import ImageSource, image_source
from aml_edge.embedder import Embedder
from aml_edge.image_loading import load_many
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.index.shard_embedding import IMAGES_AT_ONCE
from aml_edge.networks.released import resolve_teacher
from aml_edge.pixels import Pixels
from aml_edge.querying import sized
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.script_errors import errors_in_a_line


@dataclass(frozen=True)
class EmbeddingSpeed:
    """What was timed.

    Args:
        images: of a turn.
        forward: images a second of the forward pass alone, by round.
        building: images a second of building an index, by round.
    """

    images: int
    forward: tuple[float, ...]
    building: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Building's share of the forward pass's speed, by round."""
        return tuple(building / forward for building, forward in zip(self.building, self.forward, strict=True))


def measure_embedding_speed(
    embedder: Embedder, source: ImageSource, rounds: int, options: IndexOptions | None = None
) -> EmbeddingSpeed:
    """Returns both speeds after one turn of each without timing; which goes first changes from round to round.

    Args:
        embedder: the teacher.
        source: the images, all of which are held as pixels.
        rounds: at least 1.
        options: of the build.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
    """
    options = options or IndexOptions()
    items, preprocessing = source.items, embedder.preprocessing
    loaded = load_many(items, preprocessing, workers=options.workers, skip_unreadable=False)
    pixels = [one.pixels for one in loaded]
    forward, building = [], []
    for number in range(rounds + 1):
        if number % 2:
            taken_by_building = _building_seconds(embedder, source, options)
            taken_by_forward = _forward_seconds(embedder, pixels)
        else:
            taken_by_forward = _forward_seconds(embedder, pixels)
            taken_by_building = _building_seconds(embedder, source, options)
        forward.append(len(pixels) / taken_by_forward)
        building.append(len(pixels) / taken_by_building)
    return EmbeddingSpeed(len(pixels), tuple(forward[1:]), tuple(building[1:]))


def _forward_seconds(embedder: Embedder, pixels: Sequence[Pixels]) -> float:
    before = time.perf_counter_ns()
    for start in range(0, len(pixels), IMAGES_AT_ONCE):
        embedder.embed(pixels[start : start + IMAGES_AT_ONCE])
    return (time.perf_counter_ns() - before) / 1e9


def _building_seconds(embedder: Embedder, source: ImageSource, options: IndexOptions) -> float:
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter_ns()
        build_index(embedder, source, Path(folder) / "index", options)
        return (time.perf_counter_ns() - before) / 1e9


def main() -> None:
    """Prints both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True, help="as `aml-edge index build` takes it")
    parser.add_argument("--images", type=Path, required=True, help="a folder of images")
    parser.add_argument("--image-size", type=int, help="longest side of an image, px; the teacher's own")
    parser.add_argument("--most-images", type=int, default=256, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of the forward pass; PyTorch's own number")
    parser.add_argument("--workers", type=int, default=IndexOptions().workers, help="threads that read ahead")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with errors_in_a_line(parser):
        checkpoint, whole = resolve_teacher(arguments.teacher), image_source(arguments.images)
        part = slice(arguments.most_images)
        source = replace(whole, ids=whole.ids[part], items=whole.items[part])
        embedder = teacher_embedder(
            checkpoint,
            sized(checkpoint.preprocessing, arguments.image_size),
            threads=arguments.threads,
            device=arguments.device,
        )
        watch = LoadWatch()
        speed = measure_embedding_speed(embedder, source, arguments.rounds, IndexOptions(workers=arguments.workers))
        load = watch.finish(time.process_time())
        print(
            f"{checkpoint.name}, {embedder.name}; {speed.images} images of {source.root}, at most "
            f"{embedder.preprocessing.image_side_px} px; {arguments.rounds} rounds after one untimed"
        )
        for name, rates in (("forward alone", speed.forward), ("index build", speed.building)):
            print(f"{name:14} median {median(rates):7.2f} images/s, from {min(rates):.2f} to {max(rates):.2f}")
        ratios = speed.ratios
        print(f"{'ratio':14} median {median(ratios):7.1%}, from {min(ratios):.1%} to {max(ratios):.1%}")
        if load.other_work is not None:
            print(f"other processes took {load.other_work:.0%} of the machine meanwhile")


if __name__ == "__main__":
    main()
