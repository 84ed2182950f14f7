"""`QuantizationRecord`: what a file's manifest says of its integers: how they were chosen, and on which images.

What is read comes from a file that anyone may have written, so every field is checked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import TypeVar

_SHA256 = re.compile("[0-9a-f]{64}")


class QuantizationMethod(StrEnum):
    """How the integers were chosen."""

    POST_TRAINING = "post-training"
    TRAINING = "quantization-aware training"


class Draw(StrEnum):
    """How calibration images are drawn from those that there are."""

    RANDOM = "random"
    DIVERSE = "diverse"


class SearchBy(StrEnum):
    """What a search for mixed precision makes small."""

    SIZE = "size"
    LATENCY = "latency"


@dataclass(frozen=True)
class CalibrationRecord:
    """The images that showed the ranges of activations.

    Args:
        source: the folder, as it was named.
        count: of distinct images that were used.
        seed, draw: how they were drawn.
        sha256: of the list of their ids and SHA-256s (`aml_edge.quantization.calibration`).
    """

    source: str
    count: int
    seed: int
    draw: Draw
    sha256: str


@dataclass(frozen=True)
class SimulationAgreement:
    """How near a file in its runtime is to the fake-quantized network, on calibration images.

    Args:
        images: how many.
        smallest, median: centred cosine over them.
    """

    images: int
    smallest: float
    median: float


@dataclass(frozen=True)
class SearchRecord:
    """What a search for mixed precision was asked, and what the file came to on queries that it was not chosen by.

    Args:
        max_drop: asymmetric mAP that might be lost, points of 100, interval included.
        by: what was made small.
        selection_queries, verdict_queries: how many chose, and how many judged.
        drop, low, high: what was lost, points of 100, with its 95 % interval; below zero is a gain.
        held: whether the budget was kept.
    """

    max_drop: float
    by: SearchBy
    selection_queries: int
    verdict_queries: int
    drop: float
    low: float
    high: float
    held: bool


@dataclass(frozen=True)
class QuantizationRecord:
    """What a manifest says of a file's integers.

    Args:
        method: how they were chosen.
        calibration: the images; None where training chose.
        float_blocks: block that stayed in floating point → why.
        equalised, bias_corrected: what was done to the weights first.
        clipped: whether the rarest values of activations were left out of their ranges.
        activation_bits: 8 or 16.
        simulation: None where it was not measured.
        search: None where there was none.
        trained_from: SHA-256 of the weights of the student that training for integers began from; None where there
            was none.
    """

    method: QuantizationMethod
    calibration: CalibrationRecord | None
    float_blocks: Mapping[str, str]
    equalised: bool
    bias_corrected: bool
    activation_bits: int
    simulation: SimulationAgreement | None = None
    search: SearchRecord | None = None
    trained_from: str | None = None
    clipped: bool = False

    def to_json(self) -> dict[str, object]:
        """Returns the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: object) -> QuantizationRecord:
        """Reads what `to_json` wrote; raises TypeError or ValueError on anything else."""
        values = _values(record, cls)
        blocks, bits = values["float_blocks"], values["activation_bits"]
        if not isinstance(blocks, dict) or not all(isinstance(why, str) for why in blocks.values()):
            raise TypeError("what it says of its quantization has a float block without a reason")
        if type(bits) is not int or bits not in (8, 16):
            raise ValueError("what it says of its quantization has activation bits that are neither 8 nor 16")
        return cls(
            method=QuantizationMethod(_text(values, "method")),
            calibration=_optional(values["calibration"], _calibration),
            float_blocks=blocks,
            equalised=_truth(values, "equalised"),
            bias_corrected=_truth(values, "bias_corrected"),
            activation_bits=bits,
            simulation=_optional(values["simulation"], _simulation),
            search=_optional(values["search"], _search),
            trained_from=_optional(values["trained_from"], _sha256),
            clipped=_truth(values, "clipped"),
        )


_Part = TypeVar("_Part")


def _optional(record: object, read: Callable[[object], _Part]) -> _Part | None:
    return None if record is None else read(record)


def _calibration(record: object) -> CalibrationRecord:
    values = _values(record, CalibrationRecord)
    sha256 = _sha256(values["sha256"])
    count, seed, draw = _whole(values, "count"), _whole(values, "seed"), Draw(_text(values, "draw"))
    return CalibrationRecord(_text(values, "source"), count, seed, draw, sha256)


def _sha256(record: object) -> str:
    if not isinstance(record, str) or not _SHA256.fullmatch(record):
        raise ValueError("what it says of its quantization has a sha256 that is none")
    return record


def _simulation(record: object) -> SimulationAgreement:
    values = _values(record, SimulationAgreement)
    return SimulationAgreement(_whole(values, "images"), _number(values, "smallest"), _number(values, "median"))


def _search(record: object) -> SearchRecord:
    values = _values(record, SearchRecord)
    return SearchRecord(
        max_drop=_number(values, "max_drop"),
        by=SearchBy(_text(values, "by")),
        selection_queries=_whole(values, "selection_queries"),
        verdict_queries=_whole(values, "verdict_queries"),
        drop=_number(values, "drop"),
        low=_number(values, "low"),
        high=_number(values, "high"),
        held=_truth(values, "held"),
    )


def _values(record: object, kind: type) -> Mapping[str, object]:
    """Returns the fields of a record; those that an older one lacks have their defaults."""
    defaults = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    names = {field.name for field in fields(kind)}
    if not isinstance(record, dict) or not names - defaults.keys() <= record.keys() <= names:
        raise TypeError(f"what it says of its quantization does not have the fields {', '.join(sorted(names))}")
    return defaults | record


def _text(values: Mapping[str, object], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise TypeError(f"what it says of its quantization has no text in `{name}`")
    return value


def _truth(values: Mapping[str, object], name: str) -> bool:
    value = values[name]
    if not isinstance(value, bool):
        raise TypeError(f"what it says of its quantization has neither true nor false in `{name}`")
    return value


def _whole(values: Mapping[str, object], name: str) -> int:
    value = values[name]
    if type(value) is not int or value < 0:
        raise TypeError(f"what it says of its quantization has no whole number from 0 on in `{name}`")
    return value


def _number(values: Mapping[str, object], name: str) -> float:
    value = values[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise TypeError(f"what it says of its quantization has no finite number in `{name}`")
    return float(value)
