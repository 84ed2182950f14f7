"""`export_student`: from a checkpoint to a file that carries its manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import aml_edge
from aml_edge.artifact import Artifact, Manifest
from aml_edge.errors import SpaceMismatchError
from aml_edge.exporters import EXPORTERS, require_precision
from aml_edge.exporters.conversion_log import conversion_logged
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.preparation import PreparedStudent
from aml_edge.exporters.quantization.proof import require_quantized
from aml_edge.exporters.verification import Verification
from aml_edge.files import write_text_atomically, written_atomically
from aml_edge.formats import FORMATS, OperatorCensus
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.whitening import Whitening
from aml_edge.space import EmbeddingSpace, require_same_space


def export_student(
    checkpoint: StudentCheckpoint,
    spec: ExportSpec,
    out: Path,
    *,
    whitening: Whitening | None = None,
    space: EmbeddingSpace | None = None,
    quantized: PreparedStudent | None = None,
) -> Artifact:
    """Returns the artifact written into the folder `out`: a whole file with its manifest, or nothing.

    Args:
        checkpoint: the student.
        spec: what file is asked for.
        out: folder; made where it is missing.
        whitening: of the teacher's index, folded into the file; needs `space`.
        space: of the teacher's index; the student's own where it is None.
        quantized: the student, with the whitening, ready for integers; a calibrated precision needs it.

    Raises:
        UsageError: the format does not have the precision.
        SpaceMismatchError: the index is of another teacher, dimension or whitening.
        MissingExtraError: the converter is not installed.
        ExportError: the converter failed, and the message names its log; or the file is not quantized as asked.
    """
    require_precision(spec.format, spec.precision)
    exporter = EXPORTERS[spec.format]
    if spec.precision.is_calibrated:
        assert quantized is not None, "a calibrated precision comes with a prepared student"
        student, record = quantized.quantized, quantized.record
        network = student.graph.network
    else:
        student, record = None, None
        network = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    manifest = replace(
        manifest_of(checkpoint, spec, _space_of_file(checkpoint, whitening, space)),
        tools={"aml-edge": aml_edge.__version__} | exporter.versions(),
        quantization=record,
    )
    artifact = Artifact(out / file_name(checkpoint, spec, whitened=whitening is not None), manifest)
    log = artifact.path.with_name(artifact.path.name + ".log")
    with written_atomically(artifact.path) as partial:
        with conversion_logged(log, f"export of '{checkpoint.name}' to {spec.format} {spec.precision}"):
            exporter.write(network, spec, partial, student)
        if spec.precision.has_integer_weights:
            require_quantized(FORMATS[spec.format].take_census(partial), spec.precision, student)
        FORMATS[spec.format].write_manifest(partial, manifest.dumps())
    write_text_atomically(artifact.sidecar_path, manifest.dumps() + "\n")
    return artifact


def manifest_of(checkpoint: StudentCheckpoint, spec: ExportSpec, space: EmbeddingSpace) -> Manifest:
    """Returns what a runtime has to know of a student's file.

    Args:
        checkpoint: the student.
        spec: of the file.
        space: that the file's embeddings live in.
    """
    return Manifest(
        space=space,
        preprocessing=checkpoint.preprocessing.fitted(spec.fit, spec.image_side_px),
        student=checkpoint.name,
        backbone=checkpoint.student.spec.backbone,
        weights_sha256=checkpoint.weights_sha256,
        format=spec.format,
        precision=spec.precision,
        target=EXPORTERS[spec.format].target,
    )


@dataclass(frozen=True)
class ExportReport:
    """What came out of one export.

    Args:
        path: the artifact's file.
        size_bytes: of the file, the manifest inside included.
        seconds: from checkpoint to file.
        census: operators, transposes left in the graph, dtypes of the weights.
        manifest: as it stands in the file.
        verification: None where nothing was asked of the file.
    """

    path: Path
    size_bytes: int
    seconds: float
    census: OperatorCensus
    manifest: Manifest
    verification: Verification | None = None

    def verified_by(self, verification: Verification) -> ExportReport:
        """Returns the report with what verification said, and the manifest as it stands in the file since."""
        return replace(self, manifest=verification.manifest, verification=verification)


def report_of(artifact: Artifact, *, seconds: float) -> ExportReport:
    """Returns the report of an artifact that was written in `seconds`."""
    census = FORMATS[artifact.manifest.format].take_census(artifact.path)
    return ExportReport(artifact.path, artifact.size_bytes, seconds, census, artifact.manifest)


def file_name(checkpoint: StudentCheckpoint, spec: ExportSpec, *, whitened: bool) -> str:
    """Returns the file's name, e.g. ``"demo-224px-squash-fp16.tflite"``; an untrained student's says so."""
    name = re.sub(r"[^\w.+-]+", "_", checkpoint.name)
    parts = [name] if checkpoint.trained or "untrained" in name else [name, "untrained"]
    parts += ["whitened"] if whitened else []
    parts += [f"{spec.image_side_px}px", str(spec.fit), str(spec.precision)]
    return "-".join(parts) + FORMATS[spec.format].suffix


def _space_of_file(
    checkpoint: StudentCheckpoint, whitening: Whitening | None, space: EmbeddingSpace | None
) -> EmbeddingSpace:
    """Returns the space that the file's embeddings live in, after whitening; refuses another teacher's."""
    if whitening is None:
        if space is not None:
            require_same_space(
                checkpoint.space, space, left_name=f"student '{checkpoint.name}'", right_name="the index"
            )
        return checkpoint.space
    assert space is not None, "a whitening comes with the space of its index"
    if checkpoint.space.whitening_sha256 is not None:
        raise SpaceMismatchError(
            f"student '{checkpoint.name}' lives in {checkpoint.space.describe()}, so its embeddings are whitened "
            f"already; the whitening {whitening.sha256[:8]} must not follow. Export it without."
        )
    if not space.same_teacher(checkpoint.space):
        raise SpaceMismatchError(
            f"student '{checkpoint.name}' lives in {checkpoint.space.describe()}, but the index in {space.describe()} "
            "(another teacher); export a student trained for this teacher."
        )
    takes, gives = whitening.projection.shape[1], whitening.projection.shape[0]
    if takes != checkpoint.space.dimension or gives != space.dimension or whitening.sha256 != space.whitening_sha256:
        raise SpaceMismatchError(
            f"student '{checkpoint.name}' lives in {checkpoint.space.describe()}, but the index in {space.describe()} "
            f"has a whitening {takes}-D to {gives}-D ({whitening.sha256[:8]}); build the index again."
        )
    return space
