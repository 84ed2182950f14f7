"""Recipes: what their files may hold, what is refused in which words, and how values are replaced."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aml_edge.errors import UsageError
from aml_edge.preprocessing import Fit
from aml_edge.training.losses import loss_with_options
from aml_edge.training.objective import require_possible
from aml_edge.training.recipe import (
    DEFAULT_RECIPE,
    LARGEST_BYTES,
    QAT_RECIPE,
    RECIPES_FOLDER,
    Recipe,
    overridden,
    read_recipe,
    recipe_names,
    settings_from_json,
    values_of,
)
from aml_edge.training.settings import LARGEST, BatchNorm, Mining, Mode, Network, Schedule, TrainingSettings

NAMES = [field.name for field in fields(TrainingSettings)]
KNOWN = ", ".join(name for name in NAMES if name != "loss_options") + " and loss_options.NAME."
HUGE = "1" * 5000
"""Of more digits than Python turns into a number or a text."""


def written(folder: Path, text: str | bytes, name: str = "mine") -> str:
    """Returns the path of a recipe file."""
    path = folder / f"{name}.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refused(folder: Path, text: str | bytes) -> str:
    """Returns what is said of a recipe, without what every message begins with."""
    with pytest.raises(UsageError) as caught:
        read_recipe(written(folder, text))
    message = str(caught.value)
    for begin in (f"recipe '{folder}/mine.toml'", f"`recipe` is '{folder}/mine.toml'"):
        message = message.removeprefix(begin).removeprefix(":").removeprefix(",").strip()
    assert "\n" not in message
    return message


@pytest.fixture(params=recipe_names())
def shipped(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_there_are_recipes_and_one_of_them_is_the_default() -> None:
    assert DEFAULT_RECIPE in recipe_names()
    assert list(recipe_names()) == sorted(path.name.removesuffix(".toml") for path in RECIPES_FOLDER.iterdir())


def test_a_shipped_recipe_says_where_it_is_from_and_can_be_trained(shipped: str) -> None:
    recipe = read_recipe(shipped)
    assert {"paper", "row", "command"} <= set(recipe.about) <= {"paper", "row", "command", "result", "finding"}
    assert all(recipe.about.values())
    program, command, *options = shlex.split(recipe.about["command"])
    assert (program, command) == ("aml-edge", "train")
    needed = ["--recipe", "--data", "--index", "--out"]
    if recipe.settings.mode is Mode.SYMMETRIC:
        needed.remove("--index")
    if shipped == QAT_RECIPE:
        assert options.pop(0) == "--qat"  # whose recipe it is
        needed[0] = "--from"
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert list(given) == needed
    assert given.get("--recipe", QAT_RECIPE) == shipped
    require_possible(recipe.settings)
    loss_with_options(recipe.settings.loss, recipe.settings.loss_options)
    assert recipe.published and not recipe.changed


def test_a_shipped_recipe_opens_with_what_it_is_and_says_each_value_once(shipped: str) -> None:
    text = (RECIPES_FOLDER / f"{shipped}.toml").read_text(encoding="utf-8")
    tables = [line for line in text.splitlines() if line.startswith("[")]
    assert tables == ["[about]", "[published]", "[ours]"]
    content = tomllib.loads(text)
    said = [name for table in ("published", "ours") for name in flat(content[table])]
    assert len(said) == len(set(said))
    recipe = read_recipe(shipped)
    values = values_of(recipe.settings)
    for table in ("published", "ours"):
        for name, value in flat(content[table]).items():
            assert values[name] == value
            assert recipe.source_of(name) == table


def flat(table: Mapping[str, Any]) -> dict[str, object]:
    """Returns the values of a table by name, those of the loss as ``loss_options.margin``."""
    options = {f"loss_options.{name}": value for name, value in table.get("loss_options", {}).items()}
    return {**{name: value for name, value in table.items() if name != "loss_options"}, **options}


def test_every_value_is_taken_from_the_table_that_has_it(tmp_path: Path) -> None:
    text = """
    [about]
    paper = "a paper"
    [published]
    network = "student"
    backbone = "mobilenetv2_035"
    mode = "asymmetric"
    loss = "contrastive"
    mining = "hard"
    fit = "square"
    schedule = "exponential"
    learning_rate = 1
    [published.loss_options]
    margin = 0.7
    [ours]
    batch_norm = "trained"
    warm_start = false
    epochs = 7
    loss_options.form = "similarity"
    """
    text = text.replace('"square"', f'"{next(iter(Fit)).value}"')
    recipe = read_recipe(written(tmp_path, text))
    assert recipe == Recipe(
        "mine",
        {"paper": "a paper"},
        TrainingSettings(
            network=Network.STUDENT,
            backbone="mobilenetv2_035",
            mode=Mode.ASYMMETRIC,
            loss="contrastive",
            loss_options={"margin": 0.7, "form": "similarity"},
            mining=Mining.HARD,
            fit=next(iter(Fit)),
            schedule=Schedule.EXPONENTIAL,
            learning_rate=1.0,
            batch_norm=BatchNorm.TRAINED,
            warm_start=False,
            epochs=7,
        ),
        frozenset(
            {
                *("network", "backbone", "mode", "loss", "mining", "fit", "schedule", "learning_rate"),
                "loss_options.margin",
            }
        ),
    )
    assert type(recipe.settings.learning_rate) is float
    assert recipe.source_of("epochs") == recipe.source_of("loss_options.form") == recipe.source_of("seed") == "ours"
    assert recipe.source_of("loss") == recipe.source_of("loss_options.margin") == "published"


def test_an_empty_recipe_has_the_defaults(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, "")) == Recipe("mine", {}, TrainingSettings())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ours]\nepoch = 3", "has the key `epoch`, which is none of a recipe's: did you mean epochs?"),
        ("[ours]\nzzz = 3", f"has the key `zzz`, which is none of a recipe's: known are {KNOWN}"),
        ('[ours]\n"a\\nb" = 3', f"has the key `a\\nb`, which is none of a recipe's: known are {KNOWN}"),
        (
            "[ours]\nloss_options = 3",
            "has `loss_options` as one value; it is a table: write loss_options.NAME = VALUE.",
        ),
        ("[our]\nepochs = 3", "has `our`; a recipe has the tables about, published and ours."),
        ("epochs = 3\nseed = 1", "has `epochs`, `seed`; a recipe has the tables about, published and ours."),
        ('ours = "3"', "about, published and ours must be tables."),
        ("[[about]]\npaper = 'x'", "about, published and ours must be tables."),
        ("[about]\npaper = 3", "what `about` holds must be text."),
        (
            "[published]\nepochs = 3\nseed = 1\n[ours]\nseed = 1\nepochs = 3",
            "has `epochs`, `seed` both as published and as ours; say it once.",
        ),
        (
            "[published]\nloss_options.margin = 3\n[ours]\nloss_options.margin = 3",
            "has `loss_options.margin` both as published and as ours; say it once.",
        ),
        ("[ours]\nepochs = true", "`epochs` is True; it must be a whole number."),
        ("[ours]\nepochs = 3.0", "`epochs` is 3.0; it must be a whole number."),
        ('[ours]\nepochs = "3"', "`epochs` is '3'; it must be a whole number."),
        ("[ours]\nepochs = [3]", "`epochs` is [3]; it must be a whole number."),
        ("[ours]\nepochs = 2020-01-01", "`epochs` is datetime.date(2020, 1, 1); it must be a whole number."),
        ("[ours]\nlearning_rate = true", "`learning_rate` is True; it must be a number."),
        ('[ours]\nlearning_rate = "1"', "`learning_rate` is '1'; it must be a number."),
        ("[ours]\nwarm_start = 1", "`warm_start` is 1; it must be true or false."),
        ("[ours]\nbackbone = 1", "`backbone` is 1; it must be a word."),
        ("[ours]\nmode = 'both'", "`mode` is 'both'; it must be one of 'symmetric', 'asymmetric'."),
        ("[ours]\nmode = ['symmetric']", "`mode` is ['symmetric']; it must be one of 'symmetric', 'asymmetric'."),
        ("[ours.mode]\na = 1", "`mode` is {'a': 1}; it must be one of 'symmetric', 'asymmetric'."),
        ("[ours.epochs]\na = 1", "`epochs` is {'a': 1}; it must be a whole number."),
        ("[ours]\nloss_options.margin = true", "`loss_options.margin` is True; it must be a number or a word."),
        ("[ours]\nloss_options.a.b = 1", "`loss_options.a` is {'b': 1}; it must be a number or a word."),
        (
            "[ours]\nloss_options.margin = nan",
            "`loss_options.margin` is nan; it must be finite, and no such large number.",
        ),
        (
            f"[ours]\nloss_options.margin = {LARGEST + 1}",
            f"`loss_options.margin` is {LARGEST + 1}; it must be finite, and no such large number.",
        ),
        (
            f"[ours]\nepochs = {LARGEST + 1}",
            f"`epochs` is {LARGEST + 1}; it must be a whole number, and no such large one.",
        ),
        (
            f"[ours]\nepochs = 0x{'f' * 5000}",
            "`epochs` is a number of thousands of digits; it must be a whole number, and no such large one.",
        ),
        (
            f"[ours]\nlearning_rate = 0x{'f' * 5000}",
            "`learning_rate` is a number of thousands of digits; it must be a number.",
        ),
        (f"[ours]\nepochs = '{'x' * 200}'", f"`epochs` is '{'x' * 79}…; it must be a whole number."),
        ("[ours]\nlearning_rate = nan", "`learning_rate` is nan; it must be a finite number, and no such large one."),
        ("[ours]\nlearning_rate = inf", "`learning_rate` is inf; it must be a finite number, and no such large one."),
        ("[ours]\nwarm_up = -inf", "`warm_up` is -inf; it must be a finite number, and no such large one."),
        ("[ours]\nepochs = 0", "`epochs` is 0; it must be at least 1."),
        (
            "[ours]\nmode = 'symmetric'",
            "`warm_start` is true; it must be false for `mode` 'symmetric', which has no targets.",
        ),
        (
            b"\x89PNG\r\n\x1a\n",
            "which is no TOML: 'utf-8' codec can't decode byte 0x89 in position 0: invalid start byte; correct it.",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refused(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[ours", "Expected ']' at the end of a table declaration"),
        ("[ours]\nepochs = 1\nepochs = 2", "Cannot overwrite a value"),
        (f"[ours]\nepochs = {HUGE}", "Exceeds the limit (4300"),
        (f"[ours]\nepochs = {'[' * 30_000}", "maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_toml_is_refused_in_python_s_words(tmp_path: Path, text: str, problem: str) -> None:
    message = refused(tmp_path, text)
    assert message.startswith(f"which is no TOML: {problem}")
    assert message.endswith("; correct it.")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    text = "# " + "x" * (LARGEST_BYTES - 2)
    assert read_recipe(written(tmp_path, text)).settings == TrainingSettings()
    assert refused(tmp_path, text + "x") == f"of {LARGEST_BYTES + 1} bytes; a recipe has at most {LARGEST_BYTES}."
    sparse = tmp_path / "sparse.toml"
    with sparse.open("wb") as stream:
        stream.truncate(2**40)  # more than any memory
    with pytest.raises(UsageError, match=f"of {2**40} bytes; a recipe has at most {LARGEST_BYTES}"):
        read_recipe(str(sparse))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smal-reg", "did you mean small-reg or small-dr?"),
        ("hug", "did you mean huge?"),
        ("small", "did you mean small-dr or small-reg?"),
        ("qqq", "`aml-edge train --list` shows them."),
        ("", "`aml-edge train --list` shows them."),
        ("a\0b", "`aml-edge train --list` shows them."),
        (".", "`aml-edge train --list` shows them."),
    ],
)
def test_a_recipe_that_is_not_there_has_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    for one in ("small-reg", "small-dr", "huge"):
        written(tmp_path, "", name=one)
    monkeypatch.setattr("aml_edge.training.recipe.RECIPES_FOLDER", tmp_path)
    with pytest.raises(UsageError) as caught:
        read_recipe(name)
    assert str(caught.value) == f"`recipe` is {name!r}; it must be a recipe's name or a TOML file: {hint}"


def test_a_file_and_a_recipe_of_the_same_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "[ours]\nepochs = 99", name=DEFAULT_RECIPE)
    monkeypatch.chdir(tmp_path)
    assert read_recipe(DEFAULT_RECIPE).settings.epochs != 99
    assert read_recipe(f"{DEFAULT_RECIPE}.toml").settings.epochs == 99


LINES = ("[about]", "[published]", "[ours]", "[ours.loss_options]", "epochs = 3", "epochs = nan", "mode = 'symmetric'")
PIECES = st.one_of(
    st.sampled_from(LINES), st.text(max_size=12), st.from_regex(r"[a-z_.]+ = [0-9.e+x_-]+", fullmatch=True)
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=8).map(lambda lines: "\n".join(lines).encode())))
@example(f"[ours]\nseed = {HUGE}".encode())
@example(f"[ours]\nloss_options.a = -0x{'f' * 5000}".encode())
@example(b"[ours]\nloss_options.a = 1e400")
@example(b"\xef\xbb\xbf[ours]")
def test_any_bytes_are_a_recipe_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, name="fuzzed")
    try:
        recipe = read_recipe(path)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        values = values_of(recipe.settings)
        assert recipe.published <= values.keys()
        again = settings_from_json(recipe.settings.to_json(), where="it")
        assert again == recipe.settings


@pytest.fixture
def base() -> Recipe:
    return Recipe("base", {}, TrainingSettings(loss_options={"margin": 0.5}), frozenset({"epochs", "loss"}))


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("epochs=5", "epochs", 5),
        (" epochs = 5 ", "epochs", 5),
        ("epochs=1_000", "epochs", 1000),
        ("learning_rate=1e-4", "learning_rate", 1e-4),
        ("learning_rate=2", "learning_rate", 2.0),
        ("warm_start=false", "warm_start", False),
        ("backbone=imagenet:efficientnet_lite0", "backbone", "imagenet:efficientnet_lite0"),
        ('backbone="mobilenetv2_035"', "backbone", "mobilenetv2_035"),
        ("backbone='mobilenetv2_035'", "backbone", "mobilenetv2_035"),
        ("teacher=resnet101-gem", "teacher", "resnet101-gem"),
        ("teacher=a=b", "teacher", "a=b"),
        ("mode=asymmetric", "mode", Mode.ASYMMETRIC),
        ("loss_options.margin=0.7", "loss_options.margin", 0.7),
        ("loss_options.form=similarity", "loss_options.form", "similarity"),
    ],
)
def test_a_value_is_replaced(base: Recipe, assignment: str, name: str, value: object) -> None:
    before = replace(base)
    after = overridden(base, [assignment])
    values = values_of(after.settings)
    assert values[name] == value
    assert type(values[name]) is type(value)
    assert {**values_of(base.settings), name: value} == values
    assert (after.name, after.about, after.published) == (base.name, base.about, base.published)
    assert after.changed == {name}
    assert after.source_of(name) == "changed"
    assert base == before


def test_the_last_of_several_assignments_counts_and_all_are_known_as_changed(base: Recipe) -> None:
    after = overridden(overridden(base, ["epochs=5", "seed=1"]), ["epochs=6"])
    assert (after.settings.epochs, after.settings.seed) == (6, 1)
    assert after.changed == {"epochs", "seed"}
    assert after.source_of("loss") == "published"
    assert overridden(base, []) == base


def test_values_that_need_each_other_are_judged_together(base: Recipe) -> None:
    """In the order of the words either would be refused alone."""
    after = overridden(base, ["mode=symmetric", "warm_start=false"])
    assert (after.settings.mode, after.settings.warm_start) == (Mode.SYMMETRIC, False)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "`set` is 'epochs'; it must be NAME=VALUE, such as epochs=5."),
        ("=5", "`set` is '=5'; it must be NAME=VALUE, such as epochs=5."),
        ("", "`set` is ''; it must be NAME=VALUE, such as epochs=5."),
        ("epoch=5", "`set` has the key `epoch`, which is none of a recipe's: did you mean epochs?"),
        ("qqq=5", f"`set` has the key `qqq`, which is none of a recipe's: known are {KNOWN}"),
        (
            "loss_option.margin=5",
            "`set` has the key `loss_option.margin`, which is none of a recipe's: did you mean loss_options.NAME?",
        ),
        (
            "loss_options={margin=1}",
            "`set` has `loss_options` as one value; it is a table: write loss_options.NAME = VALUE.",
        ),
        ("epochs=", "`set`: `epochs` is ''; it must be a whole number."),
        ("epochs=many", "`set`: `epochs` is 'many'; it must be a whole number."),
        ("epochs=2.0", "`set`: `epochs` is 2.0; it must be a whole number."),
        ("epochs=5\nseed=1", "`set`: `epochs` is '5\\nseed=1'; it must be a whole number."),
        ("epochs=0", "`epochs` is 0; it must be at least 1."),
        ("warm_start=True", "`set`: `warm_start` is 'True'; it must be true or false."),
        ("learning_rate=nan", "`learning_rate` is nan; it must be a finite number, and no such large one."),
        ("fit=none", f"`set`: `fit` is 'none'; it must be one of {', '.join(repr(one.value) for one in Fit)}."),
        (f"epochs={HUGE}", f"`set`: `epochs` is '{'1' * 79}…; it must be a whole number."),
        (f"epochs={'[' * 9999}", f"`set`: `epochs` is '{'[' * 79}…; it must be a whole number."),
        ("loss_options.margin=[1]", "`set`: `loss_options.margin` is [1]; it must be a number or a word."),
    ],
)
def test_an_assignment_that_cannot_be_is_refused_by_name(base: Recipe, assignment: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        overridden(base, [assignment])
    assert str(caught.value) == message


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["", "epochs=", "backbone=", "loss_options.margin=", "loss_options="]))
def test_any_assignment_is_taken_or_refused(text: str, begin: str) -> None:
    recipe = Recipe("base", {}, TrainingSettings())
    try:
        after = overridden(recipe, [begin + text])
    except UsageError:
        return
    assert len(after.changed) == 1


def test_settings_come_back_from_their_json() -> None:
    changed = TrainingSettings(
        loss="contrastive", loss_options={"margin": 0.7, "form": "similarity"}, mining=Mining.HARD
    )
    for one in (TrainingSettings(), changed):
        assert settings_from_json(one.to_json(), where="it") == one
    with pytest.raises(
        UsageError, match=r"^it has the key `epoch`, which is none of a recipe's: did you mean epochs\?$"
    ):
        settings_from_json({"epoch": 3}, where="it")
    with pytest.raises(UsageError, match=r"^it: `epochs` is '3'; it must be a whole number"):
        settings_from_json({"epochs": "3"}, where="it")
