"""Loss functions, one file each; to add one: a module with a function of tensors and a line in `LOSSES`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import torch

from aml_edge.errors import UsageError
from aml_edge.training.losses.contrastive import contrastive, contrastive_plus
from aml_edge.training.losses.dark_rank import dark_rank
from aml_edge.training.losses.multi_similarity import multi_similarity
from aml_edge.training.losses.regression import regression
from aml_edge.training.losses.relational import relational
from aml_edge.training.losses.triplet import triplet

Loss = Callable[..., torch.Tensor]


class Takes(StrEnum):
    """What a loss is a function of."""

    TUPLES = "anchors with positives and negatives"
    IMAGES = "student and teacher embeddings of the same images"


@dataclass(frozen=True)
class LossSpec:
    """A loss, and what a training must know of it.

    Args:
        function: of tensors; its keyword-only parameters that are not tensors are its options.
        takes: see `Takes`.
        ties: whether in asymmetric mode it ties the student to the teacher's coordinates, as asymmetric testing needs.
        whole_batch: whether an anchor's part depends on the rest of the batch, so that the batch cannot be divided.
        teacher_anchor: whether it also takes the teacher's embedding of the anchor, which symmetric mode lacks.
    """

    function: Loss
    takes: Takes
    ties: bool
    whole_batch: bool = False
    teacher_anchor: bool = False


LOSSES: dict[str, LossSpec] = {
    "contrastive": LossSpec(contrastive, Takes.TUPLES, ties=True),
    "contrastive_plus": LossSpec(contrastive_plus, Takes.TUPLES, ties=True, teacher_anchor=True),
    "triplet": LossSpec(triplet, Takes.TUPLES, ties=False),
    "multi_similarity": LossSpec(multi_similarity, Takes.TUPLES, ties=False),
    "regression": LossSpec(regression, Takes.IMAGES, ties=True),
    "relational": LossSpec(relational, Takes.IMAGES, ties=False, whole_batch=True),
    "dark_rank": LossSpec(dark_rank, Takes.IMAGES, ties=False, whole_batch=True),
}

_NO_OPTIONS = {"reduction", "teacher_anchor"}


def loss_spec(name: str) -> LossSpec:
    """Returns the loss of a name in `LOSSES`; raises `UsageError` that lists them where there is none."""
    if name not in LOSSES:
        raise UsageError(f"`loss` is {name!r}; it must be one of {', '.join(LOSSES)}.")
    return LOSSES[name]


def loss_with_options(name: str, options: Mapping[str, float | int | str]) -> Loss:
    """Returns the named loss with its hyper-parameters set.

    Raises:
        UsageError: there is no such loss or option, an option is of another kind, or one without a default is missing.
    """
    function = loss_spec(name).function
    parameters = {
        parameter.name: parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in _NO_OPTIONS
    }
    for option, value in options.items():
        if option not in parameters:
            known = ", ".join(parameters) or "none"
            raise UsageError(f"`loss_options.{option}` is {value!r}, but the loss {name} has no such option: {known}.")
        wants_word = "float" not in (kind := str(parameters[option].annotation)) and "int" not in kind
        if isinstance(value, str) is not wants_word:
            raise UsageError(
                f"`loss_options.{option}` is {value!r}; the loss {name} needs a {'word' if wants_word else 'number'}."
            )
    missing = [one.name for one in parameters.values() if one.default is one.empty and one.name not in options]
    if missing:
        raise UsageError(f"the loss {name} needs `loss_options.{missing[0]}`; give it a value.")
    return partial(function, **options)
