"""Recipes as tables: nothing of them is cut, bent or taken for markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from aml_edge.cli.recipe_tables import RecipeSummary, recipe_list, recipe_table, recipes_table
from aml_edge.training.recipe import Recipe, overridden, read_recipe, recipe_names
from aml_edge.training.settings import TrainingSettings

SMALL = """
[about]
paper = "a paper"
row = "a row"
result = "medium 40.3 [38, 42]"
[published]
backbone = "imagenet:efficientnet_b3"
teacher = "resnet101-gem"
loss = "contrastive"
mining = "hard"
[ours]
epochs = 3
loss_options.margin = 0.7
"""
ALONE = """
[published]
network = "teacher"
mode = "symmetric"
loss = "triplet"
mining = "random"
warm_start = false
backbone = "mobilenetv2_035"
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recipes in place of those that come with aml-edge."""
    (tmp_path / "small.toml").write_text(SMALL)
    (tmp_path / "alone.toml").write_text(ALONE)
    monkeypatch.setattr("aml_edge.training.recipe.RECIPES_FOLDER", tmp_path)
    return tmp_path


def lines_of(table: Table, width: int = 120) -> list[str]:
    """Returns what a terminal of so many columns shows."""
    console = Console(width=width, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_recipe_is_summed_up(recipes: Path) -> None:
    assert recipe_list() == (
        RecipeSummary("alone", "mobilenetv2_035 (teacher)", "–", "triplet", "random", "itself", ""),
        RecipeSummary(
            "small", "efficientnet_b3", "resnet101-gem", "contrastive", "hard", "teacher", "medium 40.3 [38, 42]"
        ),
    )


def test_the_list_has_a_line_for_each_and_its_published_result_below(recipes: Path) -> None:
    heading, rule, *rows = lines_of(recipes_table())
    assert heading.split() == ["recipe", "loss", "teacher", "negatives"]
    assert set(rule) == {"─"}
    assert [row.split() for row in rows] == [
        ["alone", "triplet", "–", "random"],
        ["small", "contrastive", "resnet101-gem", "hard"],
        ["medium", "40.3", "[38,", "42]"],
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_recipe_that_comes_with_us_is_named_in_full(width: int) -> None:
    lines = lines_of(recipes_table(), width)
    rule = next(place for place, line in enumerate(lines) if line.startswith("─"))
    assert [line.split()[0] for line in lines[rule + 1 :] if not line.startswith(" ")] == list(recipe_names())


def test_every_value_is_shown_with_who_chose_it(recipes: Path) -> None:
    recipe = overridden(read_recipe("small"), ["seed=7", "warm_start=false"])
    rows = [line.split() for line in lines_of(recipe_table(recipe)) if line]
    assert rows[0] == ["value", "is", "chosen", "by"]
    assert rows[2:5] == [["paper", "a", "paper"], ["row", "a", "row"], ["result", "medium", "40.3", "[38,", "42]"]]
    values = {row[0]: row[1:] for row in rows[5:]}
    assert len(values) == len(rows[5:]) == len(TrainingSettings.__dataclass_fields__)  # its one option of the loss too
    assert values["loss"] == ["contrastive", "published"]
    assert values["backbone"] == ["imagenet:efficientnet_b3", "published"]
    assert values["loss_options.margin"] == ["0.7", "ours"]
    assert values["epochs"] == ["3", "ours"]
    assert values["batch_size"] == ["32", "ours"]
    assert values["seed"] == ["7", "changed"]
    assert values["warm_start"] == ["false", "changed"]


def test_square_brackets_are_text() -> None:
    about = {"[bold]row[/]": "[red]a[/] [/x] \\[ :smile:"}
    recipe = Recipe("mine", about, TrainingSettings(backbone="[/]", loss_options={"[b]": "[/b]"}))
    shown = "\n".join(lines_of(recipe_table(recipe)))
    for text in ("[bold]row[/]", "[red]a[/] [/x] \\[ :smile:", " [/] ", "loss_options.[b]", "[/b]"):
        assert text in shown
