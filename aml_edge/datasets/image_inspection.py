"""`look_at`: what the image files of a data set are, and which of them are missing or broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_edge.datasets.description import ImageCounts, Size
from aml_edge.decoding import read_upright_rgb, read_upright_size
from aml_edge.errors import ImageError
from aml_edge.image_loading import ImageItem
from aml_edge.progress import Progress


@dataclass(frozen=True)
class SeenImages:
    """What was found.

    Args:
        counts: of the files.
        sizes: of each that can be read.
        problems: what is wrong with the others.
    """

    counts: ImageCounts
    sizes: dict[Path, Size]
    problems: tuple[str, ...]


def look_at(items: Iterable[ImageItem], *, decode: bool, progress: Progress) -> SeenImages:
    """Returns what the files of some images are; one of several items is looked at once.

    Args:
        items: the images.
        decode: whether every image is decoded, which finds truncated ones; else only its header is read.
        progress: where to tell that it goes on.
    """
    paths = list(dict.fromkeys(Path(item.path) for item in items))
    sizes: dict[Path, Size] = {}
    size_bytes, missing, broken = 0, [], []
    with progress.task("looking at images", len(paths)) as task:
        for path in paths:
            if path.is_file():
                size_bytes += path.stat().st_size
                try:
                    sizes[path] = read_upright_rgb(path).size if decode else read_upright_size(path)
                except ImageError as problem:
                    broken.append(problem.failures[0])
            else:
                missing.append(path)
            task.advance()
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(paths)} images cannot be found, the first is {missing[0]}.")
    if broken:
        named, reason = broken[0]
        problems.append(f"{len(broken)} of {len(paths)} images cannot be read, the first is {named}: {reason}.")
    common = Counter(sizes.values()).most_common(3)
    counts = ImageCounts(
        count=len(paths),
        size_bytes=size_bytes,
        smallest=min(sizes.values(), key=_area, default=None),
        largest=max(sizes.values(), key=_area, default=None),
        common=tuple(common),
    )
    return SeenImages(counts, sizes, tuple(problems))


def problem_with(items: Sequence[ImageItem], what: str) -> list[str]:
    """Returns one sentence that counts the images and names the first, or nothing where there are none."""
    return [f"{what}: {len(items)}, the first is {items[0].path}."] if items else []


def _area(size: Size) -> tuple[int, int]:
    return size[0] * size[1], size[0]
