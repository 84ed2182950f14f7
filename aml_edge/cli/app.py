"""The command line, wired: one file per command, errors become one line and an exit code here."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

import aml_edge
from aml_edge.cli import data, index, quantize
from aml_edge.cli.bench import bench
from aml_edge.cli.compare import compare
from aml_edge.cli.demo import demo
from aml_edge.cli.eval import evaluate
from aml_edge.cli.export import export
from aml_edge.cli.failures import exit_with_error, say_interrupted
from aml_edge.cli.reproduce import reproduce
from aml_edge.cli.search import search
from aml_edge.cli.train import train
from aml_edge.cli.verify import verify
from aml_edge.cli.whitening import whitening

app = typer.Typer(
    name="aml-edge",
    help="Ship a small query encoder; keep the index you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

INTERRUPTED = 130
"""What typer exits with after Ctrl-C: 128 and the signal's number, as shells do."""

_debug = False


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"aml-edge {aml_edge.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it warns of is an error of ours, or harmless


app.command()(demo)
app.add_typer(data.app, name="data")
app.add_typer(index.app, name="index")
app.command()(train)
app.command()(whitening)
app.command("eval")(evaluate)
app.command()(compare)
app.add_typer(quantize.app, name="quantize")
app.command()(export)
app.command()(verify)
app.command()(bench)
app.command()(search)
app.command()(reproduce)


def main() -> None:
    """Runs the command line.

    Exit codes: 0 done; 1 error; 2 wrong usage; 3 verification failed; 4 done, but images that cannot be read were left
    out; 130 interrupted.
    """
    try:
        app(prog_name="aml-edge", standalone_mode=True)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            say_interrupted()
        raise
    except Exception as error:
        if _debug:
            raise
        sys.exit(exit_with_error(error).exit_code)
