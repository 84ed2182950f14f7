"""`with_option_groups`: options that belong together are one dataclass, which several commands can take.

A command with a parameter of such a class gets one option for each of its fields, so that the function itself keeps
few parameters. Fields are written as parameters are: `Annotated` with `typer.Option`, and a default unless required.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Returns the command with each parameter of a dataclass replaced by the dataclass's fields, for Typer to read.

    All parameters become keywords. Two fields of the same name are a mistake of ours.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {
        parameter.name: parameter.annotation
        for parameter in signature.parameters.values()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    parameters = [
        expanded
        for parameter in signature.parameters.values()
        for expanded in (_fields(groups[parameter.name]) if parameter.name in groups else (parameter,))
    ]

    @functools.wraps(command)
    def grouped(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    keywords = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
    grouped.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    grouped.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return grouped


def _fields(group: type) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = Parameter.empty if field.default is MISSING else field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])
