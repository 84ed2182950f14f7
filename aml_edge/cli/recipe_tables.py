"""Recipes as tables: the list of all, and the values of one with who chose them."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from aml_edge.training.recipe import Recipe, read_recipe, recipe_names, values_of

_BY_MODE = {"asymmetric": "teacher", "symmetric": "itself"}


@dataclass(frozen=True)
class RecipeSummary:
    """A recipe in one line.

    Args:
        name: for `--recipe`.
        trains: backbone of what is trained, and whether it is a teacher.
        teacher: whose index it is for; "–" where it is trained alone.
        loss, mining, compared_with: what an anchor is compared with, and where negatives come from.
        published: figures of the paper, where we have them.
    """

    name: str
    trains: str
    teacher: str
    loss: str
    mining: str
    compared_with: str
    published: str


def recipe_list() -> tuple[RecipeSummary, ...]:
    """Returns one line for each recipe that comes with aml-edge."""
    return tuple(_summary(read_recipe(name)) for name in recipe_names())


def recipes_table() -> Table:
    """Returns all recipes, a line each."""
    table = _table("recipe", "loss", "teacher", "negatives")
    table.columns[0].no_wrap = True
    for one in recipe_list():
        table.add_row(one.name, one.loss, one.teacher, one.mining)
        if one.published:
            table.add_row("", Text(one.published), style="dim")
    return table


def recipe_table(recipe: Recipe) -> Table:
    """Returns the values of a recipe, a line each, under what it says of itself."""
    table = _table("value", "is", "chosen by")
    for key, text in recipe.about.items():
        table.add_row(Text(key), Text(text), "", style="dim")
    table.add_section()
    for name, value in values_of(recipe.settings).items():
        shown = str(value).lower() if isinstance(value, bool) else str(value)  # as in TOML
        table.add_row(Text(name), Text(shown), recipe.source_of(name))
    return table


def _summary(recipe: Recipe) -> RecipeSummary:
    settings = recipe.settings
    alone = settings.mode == "symmetric"
    return RecipeSummary(
        name=recipe.name,
        trains=settings.backbone.rpartition(":")[2] + (" (teacher)" if settings.network == "teacher" else ""),
        teacher="–" if alone else settings.teacher,
        loss=settings.loss,
        mining=str(settings.mining),
        compared_with=_BY_MODE[settings.mode],
        published=recipe.about.get("result", ""),
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
