"""How near a file in integers is to the network that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.artifact import Artifact, Format, Manifest, Precision, Verdict
from aml_edge.errors import ArtifactError, ExportError
from aml_edge.exporters import simulation_agreement
from aml_edge.exporters.export import export_student
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.preparation import PreparedStudent
from aml_edge.exporters.simulation_agreement import measure_simulation, with_simulation
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization_record import QuantizationMethod, QuantizationRecord, SimulationAgreement
from aml_edge.space import EmbeddingSpace

SIDE = 64
RECORD = QuantizationRecord(QuantizationMethod.POST_TRAINING, None, {"head": "small numbers"}, True, True, 8)
Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def exported_int8(
    checkpoint: StudentCheckpoint, quantized: QuantizedStudent, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """The student in int8."""
    if find_spec("ai_edge_quantizer") is None:
        pytest.skip("the extra 'tflite' is not installed")
    spec = ExportSpec(Format.TFLITE, Precision.INT8, SIDE)
    prepared = PreparedStudent(quantized, RECORD)
    return export_student(checkpoint, spec, tmp_path_factory.mktemp("int8"), quantized=prepared)


@pytest.fixture
def artifact(write_channel_means: Callable[..., None], tmp_path: Path) -> Artifact:
    """A file that says it is of int8."""
    manifest = Manifest(
        space=EmbeddingSpace("toy", "0" * 64, 3),
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student="channel means",
        backbone="none",
        weights_sha256="1" * 64,
        format=Format.ONNX,
        precision=Precision.INT8,
        target="test",
        quantization=RECORD,
    )
    write_channel_means(tmp_path / "means.onnx", SIDE)
    return write_manifest(Artifact(tmp_path / "means.onnx", manifest))


class Answering:
    """An embedder that gives the rows it was made with, and remembers how many images it was asked about."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.asked, self.closed = rows, 0, False

    def embed(self, images: Sequence[npt.NDArray[np.uint8]]) -> Rows:
        before, self.asked = self.asked, self.asked + len(images)
        return self.rows[before : self.asked]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rows], Answering]:
    """Returns a function that lets every file answer with some rows."""

    def let(rows: Rows) -> Answering:
        answering = Answering(rows)
        monkeypatch.setattr(simulation_agreement, "open_artifact", lambda artifact, runtime, threads: answering)
        return answering

    return let


def simulated(quantized: QuantizedStudent, images: Images) -> Rows:
    network = FakeQuantizedNetwork(quantized.graph, quantized.quantization)
    with torch.inference_mode():
        rows: Rows = torch.cat([network(torch.from_numpy(image[None])) for image in images]).numpy()
    return rows


def test_a_file_computes_what_was_simulated(
    exported_int8: Artifact, quantized: QuantizedStudent, calibration_crops: Images
) -> None:
    found = measure_simulation(exported_int8, quantized, calibration_crops)
    assert found is not None
    assert found.images == 32
    assert found.median > 0.9999
    assert found.smallest > 0.9  # one step more in one place is much to this network, whose images hardly differ


def test_a_network_of_other_integers_is_told(
    exported_int8: Artifact, quantized: QuantizedStudent, calibration_crops: Images
) -> None:
    wrong = {name: replace(one, scale=one.scale / 2) for name, one in quantized.quantization.activations.items()}
    other = QuantizedStudent(quantized.graph, replace(quantized.quantization, activations=wrong))
    found = measure_simulation(exported_int8, other, calibration_crops[:16])
    assert found is not None
    assert found.median < 0.9


def test_agreement_is_the_centred_cosine(
    artifact: Artifact, quantized: QuantizedStudent, photographs: Images, answer: Callable[[Rows], Answering]
) -> None:
    rows = simulated(quantized, photographs)
    noisy = rows + np.random.default_rng(0).normal(0, 0.01, rows.shape).astype(np.float32)
    answering = answer(noisy)
    mean = rows.astype(np.float64).mean(0)
    cosines = [
        float((a - mean) @ (b - mean) / np.linalg.norm(a - mean) / np.linalg.norm(b - mean))
        for a, b in zip(rows.astype(np.float64), noisy.astype(np.float64), strict=True)
    ]
    found = measure_simulation(artifact, quantized, photographs)
    assert found is not None
    assert found.smallest == pytest.approx(min(cosines), abs=1e-5)  # in batch, sums have another order
    assert found.median == pytest.approx(float(np.median(cosines)), abs=1e-5)
    assert answering.closed


def test_at_most_32_images_are_taken(
    artifact: Artifact, quantized: QuantizedStudent, calibration_crops: Images, answer: Callable[[Rows], Answering]
) -> None:
    answering = answer(np.ones((60, 64), np.float32) + np.eye(60, 64, dtype=np.float32))
    measure_simulation(artifact, quantized, calibration_crops)
    assert (len(calibration_crops), answering.asked) == (60, 32)


def test_a_runtime_that_simulates_is_asked_about_fewer(
    artifact: Artifact,
    quantized: QuantizedStudent,
    calibration_crops: Images,
    answer: Callable[[Rows], Answering],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is slow."""
    monkeypatch.setattr(simulation_agreement, "verification_runtime", lambda _: "mil")
    answering = answer(np.ones((60, 64), np.float32) + np.eye(60, 64, dtype=np.float32))
    found = measure_simulation(artifact, quantized, calibration_crops)
    assert found is not None
    assert (found.images, answering.asked) == (8, 8)


def test_one_image_has_no_centred_cosine(artifact: Artifact, quantized: QuantizedStudent, photographs: Images) -> None:
    assert measure_simulation(artifact, quantized, photographs[:1]) is None
    assert measure_simulation(artifact, quantized, []) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(
    artifact: Artifact,
    quantized: QuantizedStudent,
    photographs: Images,
    answer: Callable[[Rows], Answering],
    value: float,
) -> None:
    rows = simulated(quantized, photographs)
    rows[2, 3] = value
    answer(rows)
    with pytest.raises(ExportError) as refusal:
        measure_simulation(artifact, quantized, photographs)
    assert str(refusal.value) == (
        f"{artifact.path} gives embeddings that are not finite on calibration images, unlike the network that it was "
        "made from; do not ship it: export it in another precision than 'int8'."
    )


AGREEMENT = SimulationAgreement(32, 0.9993, 0.9999)


def test_the_agreement_is_written_into_the_file_and_beside_it(artifact: Artifact) -> None:
    written = with_simulation(artifact, AGREEMENT)
    read = read_artifact(artifact.path)
    assert read == written
    assert read.manifest.quantization == replace(RECORD, simulation=AGREEMENT)
    assert read.manifest.verdict is Verdict.NOT_RUN
    assert read.sidecar_path.read_text() == read.manifest.dumps() + "\n"


def test_a_file_that_cannot_be_written_is_named(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(artifact: Artifact) -> Artifact:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(simulation_agreement, "write_manifest", full)
    with pytest.raises(ArtifactError) as refusal:
        with_simulation(artifact, AGREEMENT)
    assert str(refusal.value) == (
        f"how near it is to its simulation cannot be written into {artifact.path}: No space left on device; make the "
        "file and its folder writable, then export it again."
    )
