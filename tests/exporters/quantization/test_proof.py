"""The proof by census, on counts that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aml_edge.artifact import Precision
from aml_edge.errors import ExportError
from aml_edge.exporters.quantization.proof import LARGEST_FLOAT_WEIGHT, require_quantized
from aml_edge.formats.census import OperatorCensus
from aml_edge.quantization.post_training import QuantizedStudent

FLOATING = OperatorCensus({}, {}, 0, float_convolutions=50, largest_float_convolution=1_638_400)
INTEGER = OperatorCensus({}, {}, 0, integer_convolutions=49, float_convolutions=1, largest_float_convolution=864)
WEIGHT_ONLY = OperatorCensus(
    {}, {}, 0, weight_only_convolutions=46, float_convolutions=4, largest_float_convolution=864
)
DYNAMIC = OperatorCensus({}, {}, 0, dynamic_convolutions=50)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_floating_point_needs_no_proof(precision: Precision) -> None:
    require_quantized(FLOATING, precision, None)


def test_a_file_as_asked_passes(quantized: QuantizedStudent) -> None:
    require_quantized(INTEGER, Precision.INT8, quantized)
    require_quantized(INTEGER, Precision.INT8_INT16, quantized)
    require_quantized(DYNAMIC, Precision.INT8_DYNAMIC, None)
    for precision in (Precision.INT8_WEIGHTS, Precision.PALETTE8, Precision.PALETTE6):
        require_quantized(WEIGHT_ONLY, precision, None)


@pytest.mark.parametrize("census", [FLOATING, WEIGHT_ONLY, DYNAMIC, replace(INTEGER, integer_convolutions=48)])
def test_one_convolution_that_is_not_in_integers_is_found(census: OperatorCensus, quantized: QuantizedStudent) -> None:
    with pytest.raises(ExportError) as caught:
        require_quantized(census, Precision.INT8, quantized)
    assert str(caught.value) == (
        "`precision` is 'int8' and 49 convolutions were to compute in integers, but in the file "
        f"{census.integer_convolutions} do ({census.integer_convolutions} integer, {census.dynamic_convolutions} "
        f"dynamic, {census.weight_only_convolutions} weight-only, {census.float_convolutions} float); the file is not "
        "kept. Report it with the versions of the converter, or choose another precision."
    )


def test_fewer_convolutions_are_asked_of_a_mixed_file(quantized: QuantizedStudent) -> None:
    blocks = quantized.quantization.float_blocks | {"adaptor"}
    mixed = QuantizedStudent(quantized.graph, quantized.quantization.with_float(blocks))
    require_quantized(replace(INTEGER, integer_convolutions=48), Precision.INT8, mixed)
    with pytest.raises(ExportError, match="48 convolutions were to compute in integers, but in the file 49 do"):
        require_quantized(INTEGER, Precision.INT8, mixed)


def test_a_file_with_nothing_in_integers_is_refused(quantized: QuantizedStudent) -> None:
    nothing = QuantizedStudent(quantized.graph, quantized.quantization.with_float(quantized.graph.blocks))
    with pytest.raises(ExportError) as caught:
        require_quantized(FLOATING, Precision.INT8, nothing)
    assert str(caught.value).startswith(
        "`precision` is 'int8', but no convolution is left to compute in integers, since adaptor, blocks.0.0, "
    )
    assert str(caught.value).endswith(" stay in floating point; leave fewer blocks in it, or export in fp32.")


@pytest.mark.parametrize("census", [FLOATING, DYNAMIC, INTEGER])
def test_weights_that_are_not_stored_in_few_bits_are_found(census: OperatorCensus) -> None:
    with pytest.raises(ExportError, match=r"`precision` is 'int8-weights' and the convolutions of 4096 weights and "):
        require_quantized(census, Precision.INT8_WEIGHTS, None)


def test_one_large_convolution_in_floating_point_is_found() -> None:
    large = replace(WEIGHT_ONLY, largest_float_convolution=LARGEST_FLOAT_WEIGHT)
    with pytest.raises(ExportError, match="in the file 46 do and one in floating point has 4096 "):
        require_quantized(large, Precision.PALETTE6, None)
    require_quantized(replace(large, largest_float_convolution=LARGEST_FLOAT_WEIGHT - 1), Precision.PALETTE6, None)


@pytest.mark.parametrize("census", [FLOATING, WEIGHT_ONLY, INTEGER])
def test_integers_at_each_image_are_proven(census: OperatorCensus) -> None:
    with pytest.raises(ExportError, match="were to compute in integers chosen at each image, but in the file 0 do"):
        require_quantized(census, Precision.INT8_DYNAMIC, None)
