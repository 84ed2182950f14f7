"""What a manifest says of integers: read again it is the same, and what cannot be trusted is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SearchBy,
    SearchRecord,
    SimulationAgreement,
)

RECORD = QuantizationRecord(
    method=QuantizationMethod.POST_TRAINING,
    calibration=CalibrationRecord("photos", 128, 3, Draw.DIVERSE, "e" * 64),
    float_blocks={"head": "GeM and L2", "blocks.1.0": "asked for"},
    equalised=True,
    bias_corrected=False,
    activation_bits=8,
    simulation=SimulationAgreement(32, 0.9991, 0.9999),
    search=SearchRecord(0.5, SearchBy.LATENCY, 30, 40, 0.125, -0.25, 0.5, True),
    clipped=True,
)
BARE = QuantizationRecord(QuantizationMethod.TRAINING, None, {}, False, False, 16)
TRAINED = replace(BARE, trained_from="a" * 64)

Json = dict[str, Any]


def as_read(record: QuantizationRecord) -> Json:
    loaded: Json = json.loads(json.dumps(record.to_json()))
    return loaded


@pytest.mark.parametrize("record", [RECORD, BARE, TRAINED])
def test_a_record_that_is_read_again_is_the_same(record: QuantizationRecord) -> None:
    assert QuantizationRecord.from_json(as_read(record)) == record


def test_json_is_in_words() -> None:
    found = as_read(RECORD)
    assert found["method"] == "post-training"
    assert found["calibration"]["draw"] == "diverse"
    assert found["search"]["by"] == "latency"
    assert as_read(BARE)["method"] == "quantization-aware training"


def test_whole_numbers_may_stand_for_others() -> None:
    whole = as_read(RECORD)
    whole["simulation"]["median"] = 1
    read = QuantizationRecord.from_json(whole)
    assert read == replace(RECORD, simulation=SimulationAgreement(32, 0.9991, 1.0))


HOSTILE = "what it says of its quantization has "


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        (None, "method", "luck", "'luck' is not a valid QuantizationMethod"),
        (None, "method", 7, HOSTILE + "no text in `method`"),
        (None, "float_blocks", [], HOSTILE + "a float block without a reason"),
        (None, "float_blocks", {"head": 1}, HOSTILE + "a float block without a reason"),
        (None, "equalised", 1, HOSTILE + "neither true nor false in `equalised`"),
        (None, "bias_corrected", None, HOSTILE + "neither true nor false in `bias_corrected`"),
        (None, "clipped", 0, HOSTILE + "neither true nor false in `clipped`"),
        (None, "activation_bits", 4, HOSTILE + "activation bits that are neither 8 nor 16"),
        (None, "activation_bits", True, HOSTILE + "activation bits that are neither 8 nor 16"),
        ("calibration", "sha256", "e" * 63, HOSTILE + "a sha256 that is none"),
        (None, "trained_from", "F" * 64, HOSTILE + "a sha256 that is none"),
        (None, "trained_from", 7, HOSTILE + "a sha256 that is none"),
        ("calibration", "count", -1, HOSTILE + "no whole number from 0 on in `count`"),
        ("calibration", "count", 1.5, HOSTILE + "no whole number from 0 on in `count`"),
        ("calibration", "seed", True, HOSTILE + "no whole number from 0 on in `seed`"),
        ("calibration", "draw", "best", "'best' is not a valid Draw"),
        ("calibration", "source", None, HOSTILE + "no text in `source`"),
        ("simulation", "smallest", float("nan"), HOSTILE + "no finite number in `smallest`"),
        ("simulation", "median", "1", HOSTILE + "no finite number in `median`"),
        ("simulation", "images", "32", HOSTILE + "no whole number from 0 on in `images`"),
        ("search", "max_drop", float("inf"), HOSTILE + "no finite number in `max_drop`"),
        ("search", "low", 10**400, HOSTILE + "no finite number in `low`"),
        ("search", "high", True, HOSTILE + "no finite number in `high`"),
        ("search", "by", "price", "'price' is not a valid SearchBy"),
        ("search", "held", "yes", HOSTILE + "neither true nor false in `held`"),
    ],
)
def test_a_value_of_another_kind_is_refused(part: str | None, name: str, value: object, message: str) -> None:
    whole = as_read(RECORD)
    (whole if part is None else whole[part])[name] = value
    with pytest.raises((TypeError, ValueError)) as refusal:
        QuantizationRecord.from_json(whole)
    assert str(refusal.value) == message


@pytest.mark.parametrize("record", [None, [], "text", 3, {}, {"method": "post-training"}])
def test_something_else_than_a_record_is_refused(record: object) -> None:
    with pytest.raises(TypeError) as refusal:
        QuantizationRecord.from_json(record)
    assert str(refusal.value) == (
        "what it says of its quantization does not have the fields activation_bits, bias_corrected, calibration, "
        "clipped, equalised, float_blocks, method, search, simulation, trained_from"
    )


@pytest.mark.parametrize("part", ["calibration", "simulation", "search"])
@pytest.mark.parametrize("value", [[], "text", {}, {"images": 3}])
def test_a_part_that_is_none_is_refused(part: str, value: object) -> None:
    with pytest.raises(TypeError, match="what it says of its quantization does not have the fields "):
        QuantizationRecord.from_json(as_read(RECORD) | {part: value})


def test_a_record_from_before_a_field_was_there_is_read() -> None:
    older = as_read(BARE)
    del older["trained_from"], older["search"], older["clipped"]
    assert QuantizationRecord.from_json(older) == BARE


def test_a_field_that_is_not_known_is_refused() -> None:
    with pytest.raises(TypeError, match="does not have the fields"):
        QuantizationRecord.from_json(as_read(RECORD) | {"more": 1})
