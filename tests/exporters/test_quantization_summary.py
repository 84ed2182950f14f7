"""What is said of a file's integers."""

from __future__ import annotations

from dataclasses import replace

from aml_edge.exporters.quantization_summary import summarise_convolutions, summarise_quantization
from aml_edge.formats import OperatorCensus
from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SearchBy,
    SearchRecord,
    SimulationAgreement,
)

CALIBRATION = CalibrationRecord("photographs", 128, 0, Draw.RANDOM, "a" * 64)
RECORD = QuantizationRecord(
    QuantizationMethod.POST_TRAINING, CALIBRATION, {"conv_stem": "as asked", "blocks.1.0": "as asked"}, True, True, 8
)


def test_convolutions_are_counted_by_what_they_compute_in() -> None:
    census = OperatorCensus({}, {}, 0, integer_convolutions=48, float_convolutions=2)
    assert summarise_convolutions(census) == "convolutions: 48 in integers, 2 in floating point"
    stored = OperatorCensus({}, {}, 0, weight_only_convolutions=49, dynamic_convolutions=1)
    assert summarise_convolutions(stored) == (
        "convolutions: 1 in integers of each image's own range, 49 in floating point with stored integers as weights"
    )


def test_blocks_of_one_reason_share_a_line() -> None:
    assert list(summarise_quantization(RECORD)) == [
        "post-training, calibrated on 128 images",
        "in floating point: conv_stem, blocks.1.0: as asked",
    ]


def test_simulation_and_search_are_said() -> None:
    search = SearchRecord(0.5, SearchBy.LATENCY, 30, 31, 0.125, -0.2, 0.4, held=True)
    full = replace(RECORD, float_blocks={}, simulation=SimulationAgreement(32, 0.99912, 0.9999), search=search)

    assert list(summarise_quantization(full)) == [
        "post-training, calibrated on 128 images",
        "file against its simulation: centred cosine ≥ 0.9991 on 32 images",
        "asymmetric mAP lost: 0.12 [-0.20, 0.40] of 0.5 points on 31 queries; 30 others chose, by latency",
    ]


def test_training_has_no_calibration() -> None:
    trained = replace(RECORD, method=QuantizationMethod.TRAINING, calibration=None, float_blocks={})

    assert list(summarise_quantization(trained)) == ["quantization-aware training"]
