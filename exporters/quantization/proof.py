"""The proof that a file is quantized as asked: its own operators are counted, whatever its converter said."""

from __future__ import annotations

from aml_edge.artifact import Precision
from aml_edge.errors import ExportError
from aml_edge.formats.census import OperatorCensus
from aml_edge.quantization.graph import SiteKind
from aml_edge.quantization.post_training import QuantizedStudent

LARGEST_FLOAT_WEIGHT = 4096
"""Where only weights are quantized, those of fewer values stay in floating point: early and depthwise convolutions.

They make a file a hundredth larger and its error half as large: EfficientNet-Lite0 as TFLite 5.28 MB and a mean centred
cosine of .998, with a floor of 1024 5.22 MB and .9966. More buys less, on stamps and on the synthetic set as ONNX:
4096 5.30 MB, .9986 and .9989; 8192 5.36 MB, .9989 and .9989; 16384 5.50 MB, .9992 and .9994.
"""


def require_quantized(census: OperatorCensus, precision: Precision, quantized: QuantizedStudent | None) -> None:
    """Raises `ExportError` unless the convolutions of a file compute as its precision says.

    Args:
        census: of the file.
        precision: that was asked for; nothing is asked of floating point.
        quantized: that the file was made of, where the precision is calibrated.
    """
    if precision.is_calibrated:
        assert quantized is not None, "a calibrated precision comes with a prepared student"
        _require_integer_convolutions(census, precision, quantized)
    elif precision.has_integer_weights:
        _require_integer_weights(census, precision)


def _require_integer_convolutions(census: OperatorCensus, precision: Precision, quantized: QuantizedStudent) -> None:
    asked = [site.kind for site in quantized.quantization.integer_sites(quantized.graph)].count(SiteKind.CONVOLUTION)
    if asked == 0:
        in_float = ", ".join(sorted(quantized.quantization.float_blocks))
        raise ExportError(
            f"`precision` is '{precision}', but no convolution is left to compute in integers, since {in_float} stay "
            "in floating point; leave fewer blocks in it, or export in fp32."
        )
    if census.integer_convolutions != asked:
        raise ExportError(
            f"`precision` is '{precision}' and {asked} convolutions were to compute in integers, but in the file "
            f"{census.integer_convolutions} do ({_counts(census)}); the file is not kept. Report it with the versions "
            "of the converter, or choose another precision."
        )


def _require_integer_weights(census: OperatorCensus, precision: Precision) -> None:
    dynamic = precision is Precision.INT8_DYNAMIC
    made = census.dynamic_convolutions if dynamic else census.weight_only_convolutions
    if made == 0 or census.largest_float_convolution >= LARGEST_FLOAT_WEIGHT:
        how = "compute in integers chosen at each image" if dynamic else "widen weights stored in few bits"
        raise ExportError(
            f"`precision` is '{precision}' and the convolutions of {LARGEST_FLOAT_WEIGHT} weights and more were to "
            f"{how}, but in the file {made} do and one in floating point has {census.largest_float_convolution} "
            f"({_counts(census)}); the file is not kept. Report it with the versions of the converter, or choose "
            "another precision."
        )


def _counts(census: OperatorCensus) -> str:
    return (
        f"{census.integer_convolutions} integer, {census.dynamic_convolutions} dynamic, "
        f"{census.weight_only_convolutions} weight-only, {census.float_convolutions} float"
    )
