"""`aml-edge data download NAME`: get a published data set, after saying how large it is and under which terms."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.errors import UsageError

if TYPE_CHECKING:
    from aml_edge.datasets.fetched_files import FetchOptions
    from aml_edge.datasets.fetching import FetchReport
    from aml_edge.datasets.published import PublishedDataset, PublishedFile

_DECLINED = 1
_SHOWN_RUN = 3
"""Of files that differ by a number only, so many are listed; of more, the first and the last."""


@dataclass(frozen=True)
class DownloadChoices:
    """What a person decides of a download."""

    by_hand: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Take files that were fetched by hand; they stay.")
    ] = None
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep what was downloaded.")] = False
    sha256: Annotated[
        list[str] | None, typer.Option(metavar="FILE=HEX", help="A hash that you know; may be given again.")
    ] = None
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False


@dataclass(frozen=True)
class ListedFile:
    """A file, for --json; the size is about that, and not known where it is None."""

    name: str
    url: str
    size_bytes: int | None
    has_hash: bool


@dataclass(frozen=True)
class DownloadPlan:
    """What would be downloaded, for --json."""

    name: str
    title: str
    terms: str
    page: str
    path: Path
    size_bytes: int
    unsized: int
    free_bytes: int
    files: tuple[ListedFile, ...]


@with_option_groups
def download(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A name that --list shows.")] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="DIR/NAME is made.")] = Path("data"),
    choices: DownloadChoices,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be downloaded, and stop.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Say which data sets there are, and stop.")] = False,
    json_target: JsonOption = None,
) -> None:
    """Get a published data set, after saying how large it is and under which terms."""
    from aml_edge.datasets.fetching import fetch, is_fetched, require_obtainable, require_room
    from aml_edge.datasets.published import PUBLISHED, published

    console = console_for(json_target)
    if listed or name is None:
        _print_list(PUBLISHED, console)
        write_json([_plan(dataset, out) for dataset in PUBLISHED.values()], json_target)
        return
    dataset, options = published(name), _options(choices)
    plan = _plan(dataset, out)
    if dry_run or not is_fetched(plan.path):
        _print_plan(dataset, plan, console)
    if dry_run:
        write_json(plan, json_target)
        return
    if not is_fetched(plan.path):
        require_obtainable(dataset, options)
        require_room(dataset, out, options)
        _require_consent(dataset, console, yes=choices.yes, download=options.by_hand is None)
    report = fetch(dataset, out, options, ConsoleProgress(console, every_task=False))
    _print_report(report, console)
    write_json(report, json_target)


def _options(choices: DownloadChoices) -> FetchOptions:
    from aml_edge.datasets.fetched_files import FetchOptions

    sha256 = {}
    for one in choices.sha256 or ():
        file, _, digits = one.rpartition("=")
        if not file or not 7 <= len(digits) <= 64 or not set(digits.lower()) <= set("0123456789abcdef"):
            raise UsageError(f"`sha256` is {one!r}; it must be FILE=HEX, 7 to 64 hex digits.")
        sha256[file] = digits.lower()
    return FetchOptions(choices.by_hand, choices.keep_archives, sha256)


def _require_consent(dataset: PublishedDataset, console: Console, *, yes: bool, download: bool) -> None:
    """Asks; raises `UsageError` where nobody can answer, and ends the command where the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{dataset.name} is not fetched unasked, and there is no terminal to ask at; pass --yes.")
    console.print(
        f"{'Download' if download else 'Unpack'} {dataset.name}, under these terms? [y/N] ", end="", markup=False
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        console.print("nothing was fetched")
        raise typer.Exit(_DECLINED)


def _plan(dataset: PublishedDataset, out: Path) -> DownloadPlan:
    from aml_edge.datasets.fetching import free_bytes

    return DownloadPlan(
        name=dataset.name,
        title=dataset.title,
        terms=dataset.terms,
        page=dataset.page,
        path=out / dataset.name,
        size_bytes=dataset.size_bytes,
        unsized=dataset.unsized,
        free_bytes=free_bytes(out),
        files=tuple(ListedFile(file.name, file.url, file.size_bytes, file.has_hash) for file in dataset.files),
    )


def _print_list(datasets: Mapping[str, PublishedDataset], console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("name", "size", "files"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for name, dataset in datasets.items():
        size = f"{'more than' if dataset.unsized else 'about'} {_in_units(dataset.size_bytes)}"
        table.add_row(name, size, str(len(dataset.files)), dataset.title)
    console.print(table)


def _print_plan(dataset: PublishedDataset, plan: DownloadPlan, console: Console) -> None:
    console.print(f"[bold]{escape(plan.name)}[/]  {escape(plan.title)}", soft_wrap=True)
    for files in _runs(dataset.files):
        first, last, several = files[0], files[-1], len(files) > 1
        names = f"{first.name} … {last.name} ({len(files)} files)" if several else first.name
        size = f"{_size(first.size_bytes)}{' each' if several else ''}"
        hashed = "hash published" if first.has_hash else "hash recorded on first use"
        console.print(f"{escape(names)}: {size}, {hashed}", soft_wrap=True)
        console.print(f"  {escape(first.url)}{'' if first.is_fetched else ' (by hand)'}", soft_wrap=True)
    console.print(f"in all: {_about(plan.size_bytes, plan.unsized)}; {_in_units(plan.free_bytes)} free", soft_wrap=True)
    terms = f"terms: {escape(plan.terms)} See {escape(plan.page)}"
    console.print(terms, soft_wrap=not console.is_terminal)  # a terminal would break it within a word


def _runs(files: Sequence[PublishedFile]) -> list[Sequence[PublishedFile]]:
    """Returns the files one by one, but long runs that differ by a number only as one."""
    runs: list[list[PublishedFile]] = []
    for file in files:
        alike = runs and (runs[-1][0].placement, runs[-1][0].size_bytes) == (file.placement, file.size_bytes)
        if alike and file.is_archive:
            runs[-1].append(file)
        else:
            runs.append([file])
    return [part for run in runs for part in ([run] if len(run) > _SHOWN_RUN else [[one] for one in run])]


def _print_report(report: FetchReport, console: Console) -> None:
    if report.holds is None:
        console.print(f"{escape(str(report.path))} is there already", soft_wrap=True)
        return
    console.print(escape(report.holds.describe()), soft_wrap=True)
    console.print(f"[bold]{escape(report.name)}[/]  {escape(str(report.path))}", soft_wrap=True)


def _size(size_bytes: int | None) -> str:
    return "of unknown size" if size_bytes is None else f"about {_in_units(size_bytes)}"


def _in_units(size_bytes: int) -> str:
    from aml_edge.downloading.http_transfer import in_units

    return in_units(size_bytes)


def _about(size_bytes: int, unsized: int) -> str:
    more = f" and {unsized} {'file' if unsized == 1 else 'files'} of unknown size" if unsized else ""
    return f"{_size(size_bytes)}{more}"
