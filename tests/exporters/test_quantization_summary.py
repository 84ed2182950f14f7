"""What is said of a file's integers."""

from __future__ import annotations

from dataclasses import replace

from aml_edge.artifact import Format, Manifest, Precision
from aml_edge.exporters.quantization_summary import next_step, summarise_convolutions, summarise_quantization
from aml_edge.formats import OperatorCensus
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SearchBy,
    SearchRecord,
    SimulationAgreement,
)
from aml_edge.space import EmbeddingSpace

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
    full = replace(RECORD, float_blocks={}, simulation=SimulationAgreement(32, 0.999129, 0.9999), search=search)

    assert list(summarise_quantization(full)) == [
        "post-training, calibrated on 128 images",
        "file against its simulation: centred cosine ≥ 0.99912 on 32 images",
        "asymmetric mAP lost: 0.12 [-0.20, 0.40] of 0.5 points on 31 queries; 30 others chose, by latency",
    ]


def test_training_has_no_calibration() -> None:
    trained = replace(RECORD, method=QuantizationMethod.TRAINING, calibration=None, float_blocks={})

    assert list(summarise_quantization(trained)) == ["quantization-aware training"]


SPACE = EmbeddingSpace("toy", "0" * 64, 3)


def of(precision: Precision, record: QuantizationRecord | None) -> Manifest:
    square = Preprocessing(64, Fit.SQUASH)
    return Manifest(SPACE, square, "s", "b", "1" * 64, Format.ONNX, precision, "t", quantization=record)


def test_failed_integers_have_a_next_step() -> None:
    search = SearchRecord(0.5, SearchBy.SIZE, 30, 31, 1.0, 0.2, 2.0, held=False)
    qat = replace(RECORD, method=QuantizationMethod.TRAINING, calibration=None)

    assert next_step(of(Precision.INT8, RECORD)) == (
        "to lose less: --max-drop POINTS keeps blocks in floating point; `aml-edge train --qat` trains for integers, "
        "or store 16 bits: --precision int8-int16"
    )
    assert "--max-drop" not in next_step(of(Precision.INT8, replace(RECORD, search=search)))
    assert "16" not in next_step(of(Precision.INT8_INT16, replace(RECORD, activation_bits=16)))
    assert next_step(of(Precision.INT8_DYNAMIC, None)) == (
        "calibrated ranges may lose less: --precision int8 --calibrate-on DIR"
    )
    assert next_step(of(Precision.INT8, qat)) == (
        "to lose less: train for more epochs, `aml-edge train --qat … --set epochs=N`"
    )
    assert next_step(of(Precision.FP16, None)) == ""
