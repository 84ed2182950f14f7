"""What a file of a student that was trained for its integers is held to: the student as it was trained.

Its weights in floating point are not that: activations that training let the integers cut off are larger there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.artifact import Manifest
from aml_edge.embedder import Embeddings
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.preparation import prepared_by_training
from aml_edge.exporters.quantization.sensitivity import embed_quantized
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization.stored import load_quantization
from aml_edge.quantization_record import QuantizationMethod
from aml_edge.space import EmbeddingSpace


@dataclass(frozen=True, eq=False)
class FakeQuantizedEmbedder:
    """An Embedder on a fake-quantized student.

    Args:
        quantized: the student, its whitening included.
        space: of its embeddings.
        preprocessing: of its square images.
        name: what runs, for a table row.
    """

    quantized: QuantizedStudent
    space: EmbeddingSpace
    preprocessing: Preprocessing
    name: str = "student, fake-quantized"

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised."""
        return embed_quantized(self.quantized, images)

    def close(self) -> None:
        """Nothing to free."""


def integer_reference(
    checkpoint: StudentCheckpoint, manifest: Manifest, whitening: Whitening | None, space: EmbeddingSpace
) -> FakeQuantizedEmbedder | None:
    """Returns the student as it was trained, or None where it was trained in floating point.

    Args:
        checkpoint: the student, loaded from its run.
        manifest: of the file.
        whitening: of the index, which the file computes too.
        space: of the file's embeddings.

    Raises:
        QuantizationError: what training stored beside the student cannot be read, or is not of this file.
    """
    record = manifest.quantization
    if record is None or record.method is not QuantizationMethod.TRAINING or checkpoint.file is None:
        return None
    stored = load_quantization(checkpoint.file)
    if stored is None:
        return None
    fitted = manifest.preprocessing
    spec = ExportSpec(manifest.format, manifest.precision, fitted.image_side_px, fitted.fit)
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    prepared = prepared_by_training(network, spec, stored, checkpoint.preprocessing)
    return FakeQuantizedEmbedder(prepared.quantized, space, fitted)
