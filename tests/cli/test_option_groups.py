"""A dataclass of options stands in a command's help and arrives filled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from aml_edge.cli.option_groups import with_option_groups


@dataclass(frozen=True)
class Pixels:
    """Two options that belong together."""

    side: Annotated[int, typer.Option(help="Side of the square.")] = 64
    fit_to: Annotated[Path | None, typer.Option("--like", help="An image of that shape.")] = None


@dataclass(frozen=True)
class Limits:
    """Another group."""

    cosine: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None


def commands(arrived: list[tuple[object, ...]]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def crop(
        paths: Annotated[list[Path], typer.Argument()],
        *,
        pixels: Pixels,
        limits: Limits,
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> None:
        """Crop images."""
        arrived.append((paths, pixels, limits, loud))

    return app


def run(*arguments: str) -> tuple[Any, list[tuple[object, ...]]]:
    arrived: list[tuple[object, ...]] = []
    return CliRunner().invoke(commands(arrived), list(arguments), env={"COLUMNS": "100"}), arrived


def test_options_arrive_in_their_groups() -> None:
    result, arrived = run("a.png", "b.png", "--side", "32", "--like", "c.png", "--cosine", "0.5", "--loud")
    assert result.exit_code == 0, result.output
    assert arrived == [([Path("a.png"), Path("b.png")], Pixels(32, Path("c.png")), Limits(0.5), True)]


def test_defaults_are_those_of_the_fields() -> None:
    _, arrived = run("a.png")
    assert arrived == [([Path("a.png")], Pixels(), Limits(), False)]


def test_help_shows_every_field_and_no_group() -> None:
    result, _ = run("--help")
    for shown in ("--side", "Side of the square.", "64", "--like", "--cosine", "--loud", "Crop images."):
        assert shown in result.output
    assert "--pixels" not in result.output
    assert "--limits" not in result.output


@dataclass(frozen=True)
class Target:
    """A group that has to be told something."""

    kind: Annotated[str, typer.Option()]


def test_a_field_without_a_default_is_a_required_option() -> None:
    app = typer.Typer()
    arrived: list[Target] = []

    @app.command()
    @with_option_groups
    def write(*, target: Target) -> None:
        arrived.append(target)

    missing = CliRunner().invoke(app, [])
    assert (missing.exit_code, arrived) == (2, [])
    assert "Missing option '--kind'" in missing.output
    assert "[required]" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).output
    assert CliRunner().invoke(app, ["--kind", "a"]).exit_code == 0
    assert arrived == [Target("a")]


@dataclass(frozen=True)
class Changes:
    """A group with a list, which is made anew each time."""

    assignments: Annotated[list[str], typer.Option("--set")] = field(default_factory=list)
    loud: Annotated[bool, typer.Option("--loud")] = False


def test_a_list_has_a_default_of_its_own_and_may_be_given_many_times() -> None:
    app = typer.Typer()
    arrived: list[Changes] = []

    @app.command()
    @with_option_groups
    def write(*, changes: Changes) -> None:
        arrived.append(changes)

    for arguments in ([], ["--set", "a=1", "--loud", "--set", "b=2"], []):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert arrived == [Changes(), Changes(["a=1", "b=2"], loud=True), Changes()]
    assert "[required]" not in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).output


@pytest.mark.parametrize("arguments", [("--cosine", "2"), ("--side", "large")])
def test_a_value_that_cannot_be_is_wrong_usage(arguments: tuple[str, str]) -> None:
    result, arrived = run("a.png", *arguments)
    assert result.exit_code == 2
    assert arrived == []
