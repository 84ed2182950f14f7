"""`aml-edge search`: what a phone's query would find in the teacher's index."""

from __future__ import annotations

import io
import math
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import aml_edge
from aml_edge.cli.ann_options import ANN_METAVAR
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.cli.query_embedder import AskingOptions, open_query_embedder
from aml_edge.errors import UsageError
from aml_edge.printable import printable

if TYPE_CHECKING:
    from aml_edge.answers import Answer, Answers
    from aml_edge.pixels import Box
    from aml_edge.search_page import PageReport

TABLES = 20
"""Answers that get a table each; where there are more, each gets a line."""

LISTED = 5
"""Images without a picture that are named."""


@dataclass(frozen=True)
class FindingOptions:
    """What is looked for, and how many."""

    box: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Cut this out of the one query, px of the upright image.")
    ] = None
    k: Annotated[int, typer.Option("-k", min=1, help="How many images to find.")] = 10
    ann: Annotated[
        str | None,
        typer.Option(
            metavar=ANN_METAVAR,
            help="Ask an approximate index of the index, as it was built, in place of an exact search; after a colon "
            "how it is searched.",
        ),
    ] = None
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Answer the others where images cannot be read.")
    ] = False


@dataclass(frozen=True)
class PageOptions:
    """The page with the pictures."""

    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one page with the pictures.")] = None
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the page: the folder that the index was built from.")
    ] = None


@with_option_groups
def search(
    queries: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE…", help="Image files, folders of them, or - for standard input: an image, or paths of them."
        ),
    ],
    *,
    index: Annotated[Path, typer.Option(help="The teacher's index.")],
    asking: AskingOptions,
    finding: FindingOptions,
    page: PageOptions,
    json_target: JsonOption = None,
) -> None:
    """Find the images of a teacher's index that are nearest to a query."""
    from aml_edge.answers import SearchOptions, find_answers
    from aml_edge.approximate.approximate_index import open_approximate
    from aml_edge.approximate.specification import approximate_spec
    from aml_edge.index import open_index
    from aml_edge.query_images import query_items
    from aml_edge.search_page import PageFacts, require_page_size, write_search_page

    _require_page(page)
    console, opened = console_for(json_target), open_index(index)
    approximate = None if finding.ann is None else open_approximate(opened, approximate_spec(finding.ann))
    options = SearchOptions(
        finding.k,
        asking.device,
        skip_unreadable=finding.skip_unreadable,
        search=None if approximate is None else approximate.search,
    )
    piped = io.BytesIO() if sys.stdin is None else sys.stdin.buffer  # None where it was closed
    items = query_items(queries, piped, box=box_of(finding.box), absent_too=options.skip_unreadable)
    if page.html is not None:
        require_page_size(len(items), min(finding.k, len(opened.ids)))
    progress = ConsoleProgress(console, every_task=False)
    asks = open_query_embedder(asking, opened, ConsoleProgress(console))
    by = "" if approximate is None else f"; found and ranked by {approximate.description}, cosines exact"
    who = f"{asks.who}{by}"
    with closing(asks.embedder) as embedder:
        answers = find_answers(items, embedder, opened, options, progress=progress)
    _print_answers(answers, who, console)
    write_json(answers.answers, json_target)
    if page.html is not None and page.images is not None:
        facts = PageFacts(who, opened, page.images, finding.k, datetime.now().astimezone(), aml_edge.__version__)
        _print_page(write_search_page(page.html, answers, facts, progress=progress), page.images, console)


def box_of(text: str | None) -> Box | None:
    """Returns the box of an option's text, or None where there is none.

    Raises:
        UsageError: it is not four finite numbers, each edge before its opposite.
    """
    if text is None:
        return None
    try:
        left, top, right, bottom = (float(edge) for edge in text.split(","))
    except ValueError:
        left = top = right = bottom = math.nan
    if not (left < right and top < bottom and all(map(math.isfinite, (left, top, right, bottom)))):
        raise UsageError(
            f"`box` is {text!r}; it must be X0,Y0,X1,Y1 in px of the upright image, with X0 < X1 and Y0 < Y1."
        )
    return left, top, right, bottom


def _require_page(page: PageOptions) -> None:
    """Raises `UsageError` unless the options of the page go together, before any work is done for it."""
    if page.html is None:
        if page.images is not None:
            raise UsageError(f"`images` is '{page.images}', but no page is written; add --html FILE.")
        return
    if page.images is None:
        raise UsageError(
            f"`html` is '{page.html}', but where the pictures lie is not said; add --images DIR, the folder that the "
            "index was built from."
        )
    if not page.images.is_dir():
        raise UsageError(
            f"`images` is '{page.images}', which is no folder; give the one that the index was built from."
        )
    if page.html.is_dir():
        raise UsageError(f"`html` is '{page.html}', which is a folder; name a file.")


def _print_answers(answers: Answers, who: str, console: Console) -> None:
    console.print(f"queries by {escape(printable(who))}", soft_wrap=True)
    few = len(answers.answers) <= TABLES
    if not few:
        console.print("the nearest of each; --json and --html have the others")
    for answer in answers.answers:
        name = escape(printable(str(answer.image)))
        if few:
            console.print(f"[bold]{name}[/]", soft_wrap=True)
            console.print(_table(answer))
        else:
            nearest = next((f"{one.similarity:.4f}  {escape(printable(one.id))}" for one in answer.found), "–")
            console.print(f"{name}  {nearest}", soft_wrap=True)
    if answers.unreadable:
        total = len(answers.unreadable) + len(answers.answers)
        console.print(f"[yellow]{len(answers.unreadable)} of {total} images could not be read and were left out:[/]")
        for one, reason in answers.unreadable:
            console.print(f"  {escape(printable(f'{one}: {reason}'))}", soft_wrap=True)


def _table(answer: Answer) -> Table:
    table = Table(header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("image", overflow="fold")
    table.add_column("cosine", justify="right")
    for one in answer.found:
        table.add_row(str(one.rank), escape(printable(one.id)), f"{one.similarity:.4f}")
    return table


def _print_page(report: PageReport, images: Path, console: Console) -> None:
    shown, size = f"{report.pictures} of {report.found} found pictures", f"{report.size_bytes / 1e6:.1f} MB"
    console.print(f"page: {escape(str(report.path))}, {shown}, {size}", soft_wrap=True)
    if report.missing:
        count = len(report.missing)
        console.print(f"[yellow]images without a picture in {escape(str(images))}: {count}[/]", soft_wrap=True)
        for name, reason in report.missing[:LISTED]:
            console.print(f"  {escape(printable(f'{name}: {reason}'))}", soft_wrap=True)
        if count > LISTED:
            console.print(f"  … ({count} in all)")
        if not report.pictures:
            console.print("name the folder that the index's ids are relative to: --images")
