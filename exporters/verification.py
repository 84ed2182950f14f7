"""`Verifier`: run a file in its real runtime over real images, judge it, and write the verdict into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from aml_edge.approximate.searches import NONE_OPENED, OpenedSearches
from aml_edge.artifact import Artifact, Manifest, Precision
from aml_edge.embedder import Embedder
from aml_edge.errors import UsageError
from aml_edge.exporters.checks import Check, checks_of
from aml_edge.exporters.compatibility import CompatibilityReport, Sides, measure_compatibility
from aml_edge.exporters.half_precision import HalfPrecisionEmbedder
from aml_edge.exporters.half_precision_agreement import HalfPrecisionAgreement, measure_half_precision
from aml_edge.exporters.integer_reference import integer_reference
from aml_edge.exporters.judgement import Judgement, judge
from aml_edge.exporters.kernel_agreement import measure_kernels
from aml_edge.exporters.remembering import RememberingEmbedder
from aml_edge.exporters.tolerances import TOLERANCES
from aml_edge.exporters.verdicts import not_run, recorded
from aml_edge.exporters.verification_images import VerificationImages
from aml_edge.formats import FORMATS
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress, SilentProgress
from aml_edge.runtimes import open_artifact, verification_runtime
from aml_edge.runtimes.torch_runtime import TorchEmbedder
from aml_edge.space import require_same_space

ROUNDING_RUNTIMES = {"mil"}
"""They round every step of a half-precision file themselves; the others compute some of it in single precision."""
UNTRAINED = "untrained: the student has random weights, so the file is good for sizes and speeds only"
NO_IMAGES = "no images were named, and pixels made up prove nothing; name real ones with --dataset or --images"


@dataclass(frozen=True)
class VerificationOptions:
    """How a file is verified.

    Args:
        runtime: a name of `aml_edge.runtimes.RUNTIMES`; None for what shows the model, not this processor.
        tolerances: values that replace those of the table, by name; None leaves one as it is.
        progress: where the work is announced.
        searches: approximate indexes of the index, whose cost is measured too.
    """

    runtime: str | None = None
    tolerances: Mapping[str, float | None] = field(default_factory=dict)
    progress: Progress = field(default_factory=SilentProgress)
    searches: OpenedSearches = NONE_OPENED


@dataclass(frozen=True)
class Verification:
    """What came out.

    Args:
        path: of the file.
        manifest: as it stands in the file.
        judgement: of this verification.
        report: None where nothing was measured.
        checks: each value that was judged, with its limit.
        note: how it was found, e.g. the runtime and the images.
    """

    path: Path
    manifest: Manifest
    judgement: Judgement
    report: CompatibilityReport | None = None
    checks: tuple[Check, ...] = ()
    note: str = ""


class Verifier:
    """Verifies files of one student against one index, on one set of images.

    The student's own embeddings are made once and kept for the next file.

    Args:
        checkpoint: the student.
        index: the teacher's.
        images: real ones, from files; without them nothing can be proven.

    Raises:
        SpaceMismatchError: the student was trained for another teacher, dimension or whitening.
    """

    def __init__(self, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages | None) -> None:
        self._checkpoint, self._index, self._images = checkpoint, index, images
        name = f"student '{checkpoint.name}'"
        self._whitening = index.whitening_for(checkpoint.space, name=name) if checkpoint.trained else None
        self._students: dict[Preprocessing, Embedder] = {}

    def verify(self, artifact: Artifact, options: VerificationOptions | None = None) -> Verification:
        """Returns what a file is worth, after the verdict was written into it; raises as `examine` and `written`."""
        return written(artifact, self.examine(artifact, options))

    def examine(self, artifact: Artifact, options: VerificationOptions | None = None) -> Verification:
        """Returns what a file is worth; `written` puts it into the file.

        Raises:
            UsageError: the file was made from another student.
            SpaceMismatchError: the file lives in another space than the index.
            ArtifactError, MissingExtraError, RuntimeUnavailableError: it cannot be loaded here.
            ImageBatchError: images cannot be read; all of them are listed.
        """
        options = options or VerificationOptions()
        manifest = artifact.manifest
        if manifest.space.is_untrained:
            return unverified(artifact)
        refuse_strangers(artifact, self._checkpoint, self._index)
        if not self._checkpoint.trained:
            return unverified(artifact)
        if self._images is None:
            return unverified(artifact, NO_IMAGES)
        if not self._images.items:
            return unverified(artifact, f"no image of {self._images.source} can be read; name others")
        standard = TOLERANCES[manifest.precision]
        tolerances = standard.overridden(options.tolerances)
        reference = self._integer_student(manifest)
        report = self._measure(artifact, self._images, options, reference)
        checks, note = checks_of(report, tolerances), _note(report, tolerances.differing(standard))
        note += "" if reference is None else ", beside the student as it was trained, fake-quantized"
        return Verification(artifact.path, manifest, judge(report, tolerances), report, checks, note)

    def _measure(
        self,
        artifact: Artifact,
        images: VerificationImages,
        options: VerificationOptions,
        reference: Embedder | None,
    ) -> CompatibilityReport:
        manifest = artifact.manifest
        preprocessing = self._checkpoint.preprocessing
        student = reference or self._student(
            preprocessing.fitted(manifest.preprocessing.fit, manifest.preprocessing.image_side_px)
        )
        native = student if student.preprocessing == preprocessing else self._student(preprocessing)
        name = options.runtime or verification_runtime(artifact)
        runtime = open_artifact(artifact, name)
        try:
            file = RememberingEmbedder(runtime)
            sides = Sides(student, file, native_student=native)
            report = measure_compatibility(
                sides, self._index, images, searches=options.searches, progress=options.progress
            )
            half = None
            if manifest.precision is Precision.FP16:
                rounds = name in ROUNDING_RUNTIMES
                half = self._measure_half(images, student, file if rounds else None, options.progress)
            kernels = measure_kernels(artifact, name, file, images.items, options.progress)
        finally:
            runtime.close()
        census = FORMATS[manifest.format].take_census(artifact.path)
        return replace(report, precision=manifest.precision, half_precision=half, kernels=kernels, census=census)

    def _measure_half(
        self, images: VerificationImages, student: Embedder, evaluator: Embedder | None, progress: Progress
    ) -> HalfPrecisionAgreement:
        network = DeployableStudent(self._checkpoint.student, self._checkpoint.preprocessing, self._whitening)
        rounding = evaluator or HalfPrecisionEmbedder(network, self._index.space, student.preprocessing)
        return measure_half_precision(rounding, student, network, images.items, progress)

    def _integer_student(self, manifest: Manifest) -> Embedder | None:
        """Returns what a file that was trained for its integers is held to; None for any other file."""
        space = self._index.space
        reference = integer_reference(self._checkpoint, manifest, self._whitening, space)
        return None if reference is None else RememberingEmbedder(reference)

    def _student(self, preprocessing: Preprocessing) -> Embedder:
        if preprocessing not in self._students:
            student: nn.Module = self._checkpoint.student
            network = student if self._whitening is None else nn.Sequential(student, self._whitening)
            embedder = TorchEmbedder(network, space=self._index.space, preprocessing=preprocessing, name="student")
            self._students[preprocessing] = RememberingEmbedder(embedder)
        return self._students[preprocessing]


def verify_artifact(
    artifact: Artifact,
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    options: VerificationOptions | None = None,
) -> Verification:
    """Returns what one file is worth, after the verdict was written into it; see `Verifier` for several."""
    return Verifier(checkpoint, index, images).verify(artifact, options)


def unverified(artifact: Artifact, reason: str = UNTRAINED) -> Verification:
    """Returns the verdict "not run" for a file that nothing can be said of."""
    return Verification(artifact.path, artifact.manifest, not_run(reason))


def written(artifact: Artifact, verification: Verification) -> Verification:
    """Returns the verification after its verdict was written into the file; raises `ArtifactError` as `recorded`."""
    return replace(verification, manifest=recorded(artifact, verification.judgement, verification.note).manifest)


def require_space_of(index: TeacherIndex, artifact: Artifact) -> None:
    """Raises `SpaceMismatchError` unless the file lives in the index's space; both sides named."""
    left_name, right_name = f"the file {artifact.path.name}", f"the index {index.path}"
    require_same_space(artifact.manifest.space, index.space, left_name=left_name, right_name=right_name)


def refuse_strangers(artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex) -> None:
    """Raises `SpaceMismatchError` or `UsageError` unless file, student and index belong together; both sides named."""
    require_space_of(index, artifact)
    manifest = artifact.manifest
    if manifest.weights_sha256 != checkpoint.weights_sha256:
        raise UsageError(
            f"the file {artifact.path.name} was made from student '{manifest.student}' "
            f"(weights {manifest.weights_sha256[:8]}), but student '{checkpoint.name}' has weights "
            f"{checkpoint.weights_sha256[:8]}; name the one it was made from with --student, or export it again."
        )


def _note(report: CompatibilityReport, changed: Mapping[str, float]) -> str:
    note = f"{report.runtime}, {report.distinct_images} images of {report.source}"
    return note + "".join(f", tolerance {name} set to {value:g}" for name, value in changed.items())
