"""Loss functions, one file each; to add one: a module with a function of tensors and a line in `LOSSES`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal, get_args, get_origin, get_type_hints

import torch

from aml_edge.errors import UsageError
from aml_edge.training.losses.contrastive import contrastive, contrastive_plus
from aml_edge.training.losses.csd import csd
from aml_edge.training.losses.d3still import d3still
from aml_edge.training.losses.dark_rank import dark_rank
from aml_edge.training.losses.multi_similarity import multi_similarity
from aml_edge.training.losses.raml import raml
from aml_edge.training.losses.rank_order import rank_order
from aml_edge.training.losses.regression import regression
from aml_edge.training.losses.relational import relational
from aml_edge.training.losses.ssp import ssp
from aml_edge.training.losses.triplet import triplet

Loss = Callable[..., torch.Tensor]


class Takes(StrEnum):
    """What a loss is a function of."""

    TUPLES = "anchors with positives and negatives"
    IMAGES = "student and teacher embeddings of the same images"


class Bank(StrEnum):
    """What a loss compares the batch with beside itself."""

    NONE = "nothing"
    EMBEDDINGS = "teacher embeddings of other images, where there are some"
    CENTROIDS = "centroids of teacher embeddings"


@dataclass(frozen=True)
class LossSpec:
    """A loss, and what a training must know of it.

    Args:
        function: of tensors; its keyword-only parameters that are not tensors are its options.
        takes: see `Takes`.
        ties: whether in asymmetric mode it ties the student to the teacher's coordinates, as asymmetric testing needs.
        whole_batch: whether an anchor's part depends on the rest of the batch, so that the batch cannot be divided.
        whole_batch_beside_bank: the same where a bank is given.
        bank: what it can be given as its argument `bank`; centroids it must be given.
        teacher_anchor: whether it also takes the teacher's embedding of the anchor, which symmetric mode lacks.
    """

    function: Loss
    takes: Takes
    ties: bool
    whole_batch: bool = False
    whole_batch_beside_bank: bool = False
    bank: Bank = Bank.NONE
    teacher_anchor: bool = False


LOSSES: dict[str, LossSpec] = {
    "contrastive": LossSpec(contrastive, Takes.TUPLES, ties=True),
    "contrastive_plus": LossSpec(contrastive_plus, Takes.TUPLES, ties=True, teacher_anchor=True),
    "triplet": LossSpec(triplet, Takes.TUPLES, ties=False),
    "multi_similarity": LossSpec(multi_similarity, Takes.TUPLES, ties=False),
    "regression": LossSpec(regression, Takes.IMAGES, ties=True),
    "relational": LossSpec(relational, Takes.IMAGES, ties=False, whole_batch=True),
    "dark_rank": LossSpec(dark_rank, Takes.IMAGES, ties=False, whole_batch=True),
    "csd": LossSpec(csd, Takes.IMAGES, ties=True, whole_batch=True, bank=Bank.EMBEDDINGS),
    "raml": LossSpec(raml, Takes.IMAGES, ties=True, whole_batch=True),
    "ssp": LossSpec(ssp, Takes.IMAGES, ties=True, bank=Bank.CENTROIDS),
    "d3still": LossSpec(
        d3still, Takes.IMAGES, ties=True, whole_batch=True, whole_batch_beside_bank=True, bank=Bank.EMBEDDINGS
    ),
    "rank_order": LossSpec(rank_order, Takes.IMAGES, ties=True, whole_batch=True, bank=Bank.EMBEDDINGS),
}

_NO_OPTIONS = {"reduction", "teacher_anchor", "bank"}


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
    kinds = get_type_hints(function)
    parameters = {
        parameter.name: parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in _NO_OPTIONS
    }
    for option, value in options.items():
        if option not in parameters:
            known = ", ".join(parameters) or "none"
            raise UsageError(f"`loss_options.{option}` is {value!r}, but the loss {name} has no such option: {known}.")
        wanted, fits = _wanted(kinds[option])
        if not fits(value):
            raise UsageError(f"`loss_options.{option}` is {value!r}; the loss {name} needs {wanted}.")
    missing = [one.name for one in parameters.values() if one.default is one.empty and one.name not in options]
    if missing:
        raise UsageError(f"the loss {name} needs `loss_options.{missing[0]}`; give it a value.")
    return partial(function, **options)


def _wanted(kind: object) -> tuple[str, Callable[[float | int | str], bool]]:
    """Returns in words what an option of this type takes, and the check of a value."""
    if get_origin(kind) is Literal:
        words = get_args(kind)
        return "one of " + ", ".join(repr(word) for word in words), lambda value: value in words
    if float in (kind, *get_args(kind)):
        return "a finite number", lambda value: not isinstance(value, str) and math.isfinite(value)
    return "a whole number", lambda value: type(value) is int
