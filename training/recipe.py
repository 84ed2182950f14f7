"""Recipes: settings in TOML that say where each value comes from.

A recipe has three tables. `[about]` tells paper, row, command and published result in words; `[published]` and `[ours]`
hold the values of `TrainingSettings`, each in the table that says who chose it. What a recipe leaves out has the
default of the settings and counts as ours.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import get_type_hints

from aml_edge.errors import UsageError
from aml_edge.training.settings import LARGEST, TrainingSettings

RECIPES_FOLDER = Path(__file__).parent / "recipes"
DEFAULT_RECIPE = "synthetic-reg"
QAT_RECIPE = "qat"
ABOUT, PUBLISHED, OURS = "about", "published", "ours"
LOSS_OPTIONS = "loss_options"
LARGEST_BYTES = 2**16
LONGEST_SHOWN = 80
_TYPES = {name: kind for name, kind in get_type_hints(TrainingSettings).items() if name != LOSS_OPTIONS}


@dataclass(frozen=True)
class Recipe:
    """Settings with their sources.

    Args:
        name: of the file, without its suffix.
        about: a few words by key: paper, row, command, result.
        settings: the values.
        published: names of the values that a paper or its authors' files give; ``loss_options.margin`` for an option.
        changed: names of the values that were overridden afterwards.
    """

    name: str
    about: Mapping[str, str]
    settings: TrainingSettings
    published: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()

    def source_of(self, name: str) -> str:
        """Returns who chose a value: "published", "ours" or "changed"."""
        if name in self.changed:
            return "changed"
        return PUBLISHED if name in self.published else OURS


def recipe_names() -> tuple[str, ...]:
    """Returns the names of the recipes that come with aml-edge."""
    return tuple(sorted(path.stem for path in RECIPES_FOLDER.glob("*.toml")))


def read_recipe(name: str) -> Recipe:
    """Returns a recipe that comes with aml-edge, or the one in a file.

    Args:
        name: of a recipe, or the path of a TOML file.

    Raises:
        UsageError: there is none, it is no TOML, or holds a key or value that cannot be; the message names it.
    """
    known = recipe_names()
    path = RECIPES_FOLDER / f"{name}.toml" if name in known else Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`aml-edge train --list` shows them."
        raise UsageError(f"`recipe` is {name!r}; it must be a recipe's name or a TOML file: {hint}")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise UsageError(f"`recipe` is {name!r}, of {size} bytes; a recipe has at most {LARGEST_BYTES}.")
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as problem:  # no UTF-8, no TOML, or a number of too many digits
        raise UsageError(f"`recipe` is {name!r}, which is no TOML: {problem}; correct it.") from None
    return _recipe(path.stem, tables, where=f"recipe {name!r}")


def overridden(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Returns the recipe with some values replaced.

    Args:
        recipe: left as it is.
        assignments: ``name=value`` each, the value as in TOML; words need no quotes.

    Raises:
        UsageError: there is no such name, or the value cannot be.
    """
    values, changed = _values(recipe.settings), set(recipe.changed)
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise UsageError(f"`set` is {assignment!r}; it must be NAME=VALUE, such as epochs=5.")
        _require_known(name, where="`set`")
        values[name] = _parsed(text)
        changed.add(name)
    return replace(recipe, settings=_settings(values, where="`set`"), changed=frozenset(changed))


def settings_from_json(values: Mapping[str, object], *, where: str) -> TrainingSettings:
    """Returns the settings that `TrainingSettings.to_json` wrote; raises `UsageError` on anything else."""
    return _settings(_flattened(values, where), where=where)


def values_of(settings: TrainingSettings) -> dict[str, object]:
    """Returns every value by its name, options of the loss as ``loss_options.margin``, in the order of the fields."""
    return _values(settings)


def _recipe(name: str, tables: Mapping[str, object], where: str) -> Recipe:
    unknown = set(tables) - {ABOUT, PUBLISHED, OURS}
    if unknown:
        raise UsageError(f"{where} has {_listed(unknown)}; a recipe has the tables about, published and ours.")
    about, published, ours = (tables.get(table, {}) for table in (ABOUT, PUBLISHED, OURS))
    if not (isinstance(about, dict) and isinstance(published, dict) and isinstance(ours, dict)):
        raise UsageError(f"{where}: about, published and ours must be tables.")
    if not all(isinstance(text, str) for text in about.values()):
        raise UsageError(f"{where}: what `about` holds must be text.")
    published, ours = _flattened(published, where), _flattened(ours, where)
    twice = published.keys() & ours.keys()
    if twice:
        raise UsageError(f"{where} has {_listed(twice)} both as published and as ours; say it once.")
    settings = _settings({**published, **ours}, where=where)
    return Recipe(name, about, settings, frozenset(published))


def _flattened(table: Mapping[str, object], where: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        if name == LOSS_OPTIONS and isinstance(value, Mapping):
            flat.update({f"{LOSS_OPTIONS}.{option}": one for option, one in value.items()})
        else:
            _require_known(name, where=where)
            flat[name] = value
    return flat


def _values(settings: TrainingSettings) -> dict[str, object]:
    flat: dict[str, object] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        flat |= (
            {f"{LOSS_OPTIONS}.{key}": one for key, one in value.items()}
            if field.name == LOSS_OPTIONS
            else {field.name: value}
        )
    return flat


def _settings(values: Mapping[str, object], where: str) -> TrainingSettings:
    prefix = f"{LOSS_OPTIONS}."
    options: dict[str, float | int | str] = {}
    plain: dict[str, object] = {}
    for name, value in values.items():
        if not name.startswith(prefix):
            plain[name] = _converted(name, value, where)
        elif isinstance(value, bool) or not isinstance(value, float | int | str):
            raise UsageError(f"{where}: `{name}` is {_shown(value)}; it must be a number or a word.")
        elif not isinstance(value, str) and not abs(value) <= LARGEST:
            raise UsageError(f"{where}: `{name}` is {_shown(value)}; it must be finite, and no such large number.")
        else:
            options[name.removeprefix(prefix)] = value
    return TrainingSettings(**plain, loss_options=options)  # type: ignore[arg-type]  # _converted checked each type


def _converted(name: str, value: object, where: str) -> object:
    """Returns the value in the type of the setting; a whole number may stand for a float, nothing else is bent."""
    kind = _TYPES[name]
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(repr(str(one.value)) for one in kind)
            raise UsageError(f"{where}: `{name}` is {_shown(value)}; it must be one of {allowed}.") from None
    if kind is float and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where}: `{name}` is {_shown(value)}; it must be {_KINDS[kind]}.")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise UsageError(f"{where}: `{name}` is {_shown(value)}; it must be {_KINDS[kind]}, and no such large one.")
    return value


_KINDS: dict[object, str] = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def _require_known(name: str, where: str) -> None:
    if name in _TYPES or name.startswith(f"{LOSS_OPTIONS}."):
        return
    if name == LOSS_OPTIONS:
        raise UsageError(f"{where} has `{name}` as one value; it is a table: write {name}.NAME = VALUE.")
    near = difflib.get_close_matches(name, [*_TYPES, f"{LOSS_OPTIONS}.NAME"], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_TYPES)} and {LOSS_OPTIONS}.NAME."
    raise UsageError(f"{where} has the key {_listed([name])}, which is none of a recipe's: {hint}")


def _parsed(text: str) -> object:
    """Returns the value that a text is in TOML; a text that is none is a word."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{repr(name)[1:-1]}`" for name in sorted(names))  # on one line, whatever they hold


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
