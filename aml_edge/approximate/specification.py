"""`ApproximateSpec`: which approximate index, and how it is searched, as ``--ann`` names both.

``IVF4096,PQ64`` is a string of FAISS's index factory; what follows a colon, as in ``IVF4096,PQ64:nprobe=16``, are
parameters of the search as FAISS's ParameterSpace reads them. Nothing here needs FAISS.

Source: Douze, Guzhva, Deng et al., "The Faiss library", 2024, section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aml_edge.errors import UsageError

LARGEST_PARAMETER = 1e9
"""FAISS puts larger values into integers that do not hold them."""
_FACTORY = re.compile(r"[A-Za-z][A-Za-z0-9_,()+-]{0,127}")
_PARAMETER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)=([0-9]+(?:\.[0-9]+)?)")
_REFUSED = {"verbose": "lets FAISS print", "ht": "compares codes by bits that are in no order here"}
"""Parameters that are FAISS's and not taken."""


@dataclass(frozen=True)
class ApproximateSpec:
    """A factory, and how what it makes is searched.

    Args:
        factory: of FAISS, e.g. ``"IVF4096,PQ64"``; also the name of the folder, so of harmless characters.
        parameters: e.g. ``"nprobe=16"``, several with a comma; empty for those that it was built with.

    Raises:
        UsageError: one of them cannot be.
    """

    factory: str
    parameters: str = ""

    def __post_init__(self) -> None:
        if not _FACTORY.fullmatch(self.factory):
            raise UsageError(
                f"`ann` is {self.factory!r}; it must be a string of FAISS's index factory, of letters, digits and "
                "_,()+- alone, e.g. IVF4096,PQ64."
            )
        for part in self.parameters.split(",") if self.parameters else ():
            found = _PARAMETER.fullmatch(part)
            if found is not None and found[1] in _REFUSED:
                raise UsageError(f"`ann` has the parameter {part!r}, which {_REFUSED[found[1]]}; leave it out.")
            if found is None or not 0 < float(found[2]) <= LARGEST_PARAMETER:
                raise UsageError(
                    f"`ann` has the parameter {part!r}; it must be NAME=NUMBER, with a number above 0 and at most "
                    f"{LARGEST_PARAMETER:g}, e.g. nprobe=16."
                )

    def __str__(self) -> str:
        return f"{self.factory}:{self.parameters}" if self.parameters else self.factory


def approximate_spec(text: str) -> ApproximateSpec:
    """Returns what ``FACTORY`` or ``FACTORY:NAME=NUMBER,…`` names; raises `UsageError` where it names nothing."""
    factory, colon, parameters = text.partition(":")
    if colon and not parameters:
        raise UsageError(f"`ann` is {text!r}; parameters follow the colon, e.g. {factory}:nprobe=16.")
    return ApproximateSpec(factory, parameters)
