"""A student is made ready for integers, and its record says what was done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.artifact import Format, Precision
from aml_edge.errors import QuantizationError
from aml_edge.exporters import preparation
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.preparation import (
    PreparedStudent,
    activation_bits,
    prepare,
    prepared_by_training,
)
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization import post_training
from aml_edge.quantization.calibration import CalibrationSet, LeftOut
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import SiteGraph, site_graph
from aml_edge.quantization.post_training import WHY_ASKED, WHY_HEAD, WHY_STEM, PostTrainingOptions, QuantizedStudent
from aml_edge.quantization.stored import StoredQuantization
from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SearchBy,
    SearchRecord,
)

SIDE = 64
SPEC = ExportSpec(Format.ONNX, Precision.INT8, SIDE, Fit.LETTERBOX)
SQUARE = Preprocessing(SIDE, Fit.LETTERBOX)
Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]


@pytest.fixture(scope="module", autouse=True)
def graphs() -> Iterator[None]:
    """Makes the graph of the student, with its whitening and without, once; that takes seconds."""
    made: dict[bool, SiteGraph] = {}

    def graph_of(network: DeployableStudent, image_side_px: int) -> SiteGraph:
        whitened = network.whitening is not None
        if whitened not in made:
            made[whitened] = site_graph(network, image_side_px)
        return made[whitened]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "site_graph", graph_of)
        patch.setattr(post_training, "site_graph", graph_of)
        yield


@pytest.fixture(scope="module")
def calibration(calibration_crops: Images) -> CalibrationSet:
    ids = tuple(f"{number:02}" for number in range(len(calibration_crops)))
    record = CalibrationRecord("crops", len(ids), 0, Draw.RANDOM, "a" * 64)
    return CalibrationSet(tuple(calibration_crops), ids, record, LeftOut())


@pytest.fixture(scope="module")
def network(checkpoint: StudentCheckpoint) -> DeployableStudent:
    return DeployableStudent(checkpoint.student, checkpoint.preprocessing)


@pytest.fixture(scope="module")
def prepared(network: DeployableStudent, calibration: CalibrationSet) -> PreparedStudent:
    return prepare(network, Precision.INT8, calibration)


def embedded(quantized: QuantizedStudent, images: Images) -> Rows:
    simulated = FakeQuantizedNetwork(quantized.graph, quantized.quantization)
    with torch.inference_mode():
        rows: Rows = simulated(torch.from_numpy(np.stack(images))).numpy()
    return rows


def test_the_default_leaves_stem_and_head_in_floating_point_and_says_why(
    prepared: PreparedStudent, calibration: CalibrationSet
) -> None:
    assert prepared.record == QuantizationRecord(
        QuantizationMethod.POST_TRAINING,
        calibration.record,
        {"conv_stem": WHY_STEM, "head": WHY_HEAD},
        equalised=True,
        bias_corrected=True,
        activation_bits=8,
        clipped=True,
    )
    assert prepared.quantized.quantization.float_blocks == {"conv_stem", "head"}
    assert prepared.images == calibration.images


def test_it_is_what_post_training_quantization_gives(
    prepared: PreparedStudent, quantized: QuantizedStudent, photographs: Images
) -> None:
    assert prepared.quantized.quantization == quantized.quantization
    assert np.array_equal(embedded(prepared.quantized, photographs), embedded(quantized, photographs))


def test_what_is_asked_for_is_done_and_recorded(network: DeployableStudent, calibration: CalibrationSet) -> None:
    options = PostTrainingOptions(
        equalise=False,
        correct_bias=False,
        float_stem=False,
        float_head=False,
        float_blocks=frozenset({"blocks.1.0", "adaptor"}),
    )
    found = prepare(network, Precision.INT8, calibration, options)
    assert found.record.float_blocks == {"blocks.1.0": WHY_ASKED, "adaptor": WHY_ASKED}
    assert not found.record.equalised
    assert not found.record.bias_corrected
    assert found.quantized.quantization.float_blocks == {"blocks.1.0", "adaptor"}


def test_the_precision_says_the_bits_of_activations(network: DeployableStudent, calibration: CalibrationSet) -> None:
    found = prepare(network, Precision.INT8_INT16, calibration, PostTrainingOptions(activation_bits=8, equalise=False))
    assert found.record.activation_bits == 16
    assert {stored.bits for stored in found.quantized.quantization.activations.values()} == {16}
    assert (activation_bits(Precision.INT8), activation_bits(Precision.INT8_INT16)) == (8, 16)


def test_a_block_that_the_network_lacks_is_refused(network: DeployableStudent, calibration: CalibrationSet) -> None:
    options = PostTrainingOptions(float_blocks=frozenset({"blocks.99"}), equalise=False)
    with pytest.raises(QuantizationError, match=r"`float_blocks` has blocks\.99, which the network has not"):
        prepare(network, Precision.INT8, calibration, options)


def test_blocks_that_a_search_chose_stay_in_floating_point_too(prepared: PreparedStudent) -> None:
    search = SearchRecord(0.5, SearchBy.SIZE, 30, 30, 0.2, 0.0, 0.4, True)
    found = prepared.with_chosen({"blocks.3.1": "loses most"}, search)
    assert found.record.float_blocks == {"conv_stem": WHY_STEM, "head": WHY_HEAD, "blocks.3.1": "loses most"}
    assert found.record.search == search
    assert found.quantized.quantization.float_blocks == {"conv_stem", "head", "blocks.3.1"}
    assert prepared.record.search is None
    assert prepared.quantized.quantization.float_blocks == {"conv_stem", "head"}


@pytest.fixture(scope="module")
def stored(prepared: PreparedStudent) -> StoredQuantization:
    record = replace(prepared.record, method=QuantizationMethod.TRAINING, calibration=None)
    return StoredQuantization(prepared.quantized.quantization, record, "b" * 64)


def test_a_trained_student_keeps_its_own_weights_and_its_integers(
    network: DeployableStudent, stored: StoredQuantization, photographs: Images, student_rows: Rows
) -> None:
    found = prepared_by_training(network, SPEC, stored, SQUARE)
    assert found.record == stored.record
    assert found.quantized.quantization == stored.quantization
    assert (found.images, found.post_training) == ((), None)
    with torch.inference_mode():
        floating = FakeQuantizedNetwork(found.quantized.graph, None)(torch.from_numpy(np.stack(photographs)))
    assert np.abs(floating.numpy() - student_rows).max() < 1e-5  # another order of summation


def test_a_whitening_follows_the_integers_of_a_trained_student(
    checkpoint: StudentCheckpoint,
    whitening: Whitening,
    stored: StoredQuantization,
    photographs: Images,
    whitened_rows: npt.NDArray[np.float64],
) -> None:
    whitened = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    found = prepared_by_training(whitened, SPEC, stored, SQUARE)
    with torch.inference_mode():
        floating = FakeQuantizedNetwork(found.quantized.graph, None)(torch.from_numpy(np.stack(photographs)))
    assert np.abs(floating.numpy() - whitened_rows).max() < 1e-4  # the whitening enlarges differences forty times


@pytest.mark.parametrize(
    ("bits", "precision", "fitting"), [(8, Precision.INT8_INT16, "int8"), (16, Precision.INT8, "int8-int16")]
)
def test_other_bits_than_were_trained_for_are_refused(
    network: DeployableStudent, stored: StoredQuantization, bits: int, precision: Precision, fitting: str
) -> None:
    other = replace(stored, record=replace(stored.record, activation_bits=bits))
    with pytest.raises(QuantizationError) as refusal:
        prepared_by_training(network, replace(SPEC, precision=precision), other, SQUARE)
    assert str(refusal.value) == (
        f"`precision` is '{precision}', but the student was trained for activations of {bits} bits; export it as "
        f"'{fitting}', or quantize a student that was trained in floating point."
    )


@pytest.mark.parametrize(("side", "fit"), [(96, Fit.LETTERBOX), (SIDE, Fit.SQUASH)])
def test_other_images_than_it_was_trained_on_are_refused(
    network: DeployableStudent, stored: StoredQuantization, side: int, fit: Fit
) -> None:
    with pytest.raises(QuantizationError) as refusal:
        prepared_by_training(network, replace(SPEC, image_side_px=side, fit=fit), stored, SQUARE)
    assert str(refusal.value) == (
        f"`image_side_px` is {side} and `fit` is '{fit}', but the student was trained for its integers at 64 px and "
        "'letterbox', which they hold for; export it so, or quantize a student that was trained in floating point."
    )


def test_integers_of_another_network_are_refused(network: DeployableStudent, stored: StoredQuantization) -> None:
    activations = {name: one for name, one in stored.quantization.activations.items() if "blocks.2.0" not in name}
    other = replace(stored, quantization=replace(stored.quantization, activations=activations))
    with pytest.raises(QuantizationError, match=r"nothing says how the activation 'blocks\.2\.0"):
        prepared_by_training(network, SPEC, other, SQUARE)
