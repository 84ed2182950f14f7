"""A page with what a search found: one HTML file that holds its pictures and asks no network for anything.

Names of files and ids of an index are anyone's text. The template (`search_page.html`) escapes whatever it is given;
were something to slip through, the page's own content policy allows no script, no form and no address.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from importlib.resources import files
from itertools import islice
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from aml_edge.answers import Answer, Answers
from aml_edge.errors import ImageError, UsageError
from aml_edge.files import written_atomically
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.pixels import Box
from aml_edge.printable import printable
from aml_edge.progress import Progress, SilentProgress
from aml_edge.query_images import STANDARD_INPUT
from aml_edge.read_ahead import read_ahead
from aml_edge.thumbnails import Thumbnail, picture_file, thumbnail_of

LARGEST_PAGE_PICTURES = 5000
"""About 80 MB; browsers become slow."""

_WORKERS = 2
_REMEMBERED = 256
"""Pictures kept in memory, since several queries find the same ones."""

_PART_ENDS = re.compile(r"(?<=[/_-])")

Picture = Thumbnail | str
"""A picture, or why there is none."""


@dataclass(frozen=True)
class PageFacts:
    """What the head of the page says.

    Args:
        queries_by: what embedded the queries.
        index: what was asked.
        images: folder in which its images lie, as paths that their ids are.
        k: how many each query was to find.
        made: when.
        version: of aml-edge.
    """

    queries_by: str
    index: TeacherIndex
    images: Path
    k: int
    made: datetime
    version: str


@dataclass(frozen=True)
class PageReport:
    """What a page came to.

    Args:
        path: the file.
        size_bytes: of it.
        found: images, counted for each query that found them.
        pictures: how many of these it shows.
        missing: (id, reason) of each found image that has no picture there, once.
    """

    path: Path
    size_bytes: int
    found: int
    pictures: int
    missing: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Share:
    """A box in percent of a picture's width and height."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class _FoundPicture:
    rank: int
    id: str
    similarity: float
    picture: Picture


@dataclass(frozen=True)
class _ShownAnswer:
    name: str
    picture: Picture
    box: _Share | None
    found: tuple[_FoundPicture, ...]


def require_page_size(queries: int, k: int) -> None:
    """Raises `UsageError` where a page of so many queries, each with k found images, could not be looked at."""
    pictures = queries * (1 + k)
    if pictures > LARGEST_PAGE_PICTURES:
        raise UsageError(
            f"`html` would be a page of {pictures} pictures, {queries} queries with {k} found images each, and holds "
            f"at most {LARGEST_PAGE_PICTURES}; give fewer images or a smaller -k, or take --json."
        )


def write_search_page(
    path: Path, answers: Answers, facts: PageFacts, *, progress: Progress | None = None
) -> PageReport:
    """Writes the page of a search, atomically and piece by piece: memory does not grow with it.

    Args:
        path: of the page.
        answers: what was found.
        facts: what the head of the page says.
        progress: where the work is announced, one step a picture.
    """
    found_count = sum(len(answer.found) for answer in answers.answers)
    missing: list[tuple[str, str]] = []
    shown = _shown_answers(answers, facts.images)
    with (progress or SilentProgress()).task("pictures", len(answers.answers) + found_count) as task:

        def counted() -> Iterator[_ShownAnswer]:
            for answer in shown:
                missing.extend((one.id, one.picture) for one in answer.found if isinstance(one.picture, str))
                task.advance(1 + len(answer.found))
                yield answer

        pieces = _template().generate(
            title=_title(answers.answers),
            facts=facts,
            names=[_name(answer) for answer in answers.answers],
            answers=counted(),
            missing=missing,
            found_count=found_count,
        )
        with written_atomically(path) as partial_file, closing(shown), partial_file.open("w", encoding="utf-8") as page:
            page.writelines(pieces)
    return PageReport(path, path.stat().st_size, found_count, found_count - len(missing), tuple(dict(missing).items()))


def _template() -> Template:
    source = files("aml_edge").joinpath("search_page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"printable": _printable, "parts": _parts}
    return environment.from_string(source)


def _printable(value: object) -> str:
    return printable(str(value))


def _parts(value: object) -> list[str]:
    """Returns the parts of a path or an id, between which a line may be broken."""
    return _PART_ENDS.split(_printable(value))


def _shown_answers(answers: Answers, images: Path) -> Generator[_ShownAnswer, None, None]:
    """Yields each answer with its pictures, which threads make ahead."""
    load = lru_cache(_REMEMBERED)(partial(_picture, images))
    wanted = (
        one
        for item, answer in zip(answers.items, answers.answers, strict=True)
        for one in (item, *(found.id for found in answer.found))
    )
    with closing(read_ahead(load, wanted, workers=_WORKERS)) as pictures:
        for item, answer in zip(answers.items, answers.answers, strict=True):
            query, *theirs = islice(pictures, 1 + len(answer.found))
            found = tuple(
                _FoundPicture(one.rank, one.id, one.similarity, picture)
                for one, picture in zip(answer.found, theirs, strict=True)
            )
            box = None if item.box is None or isinstance(query, str) else _share(item.box, query)
            yield _ShownAnswer(_name(answer), query, box, found)


def _picture(images: Path, wanted: ImageItem | str) -> Picture:
    """Returns the picture of a query, or of an id below the folder of images."""
    try:
        return thumbnail_of(ImageItem(picture_file(images, wanted)) if isinstance(wanted, str) else wanted)
    except ImageError as error:
        ((_, reason),) = error.failures
        return reason


def _share(box: Box, picture: Thumbnail) -> _Share:
    width, height = picture.full_width_px, picture.full_height_px
    left, right = (min(max(edge / width, 0), 1) * 100 for edge in box[::2])
    top, bottom = (min(max(edge / height, 0), 1) * 100 for edge in box[1::2])
    return _Share(left, top, right - left, bottom - top)


def _title(answers: Sequence[Answer]) -> str:
    if len(answers) > 1:
        return f"What {len(answers)} images find"
    piped = answers[0].image == STANDARD_INPUT
    return f"What {'the image of standard input' if piped else answers[0].image.name} finds"


def _name(answer: Answer) -> str:
    return "standard input" if answer.image == STANDARD_INPUT else str(answer.image)
