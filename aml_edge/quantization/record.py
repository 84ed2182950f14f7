"""The record of a quantization under its earlier name; import `aml_edge.quantization_record`."""

from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SearchBy,
    SearchRecord,
    SimulationAgreement,
)

__all__ = [
    "CalibrationRecord",
    "Draw",
    "QuantizationMethod",
    "QuantizationRecord",
    "SearchBy",
    "SearchRecord",
    "SimulationAgreement",
]
