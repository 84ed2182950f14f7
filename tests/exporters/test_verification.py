"""Files verified end to end: in their real runtime, on files of pictures, the verdict written into the manifest."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aml_edge.artifact import Artifact, Format, Precision, Verdict
from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.errors import ArtifactError, SpaceMismatchError, UsageError, VerificationError
from aml_edge.exporters import kernel_agreement, verification
from aml_edge.exporters.export import export_student
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.half_precision import record_head_range
from aml_edge.exporters.verdicts import not_run, recorded, require_none_failed
from aml_edge.exporters.verification import Verification, VerificationOptions, Verifier, verify_artifact
from aml_edge.exporters.verification_images import VerificationImages, images_of_folder
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.image_loading import embed_items
from aml_edge.index import TeacherIndex
from aml_edge.networks.backbones import seeded
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.networks.pooling import gem, l2_normalise
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Pixels, load_pixels
from aml_edge.preprocessing import SQUARE_FIT, Preprocessing
from aml_edge.runtimes.torch_runtime import TorchEmbedder
from aml_edge.space import EmbeddingSpace, untrained_space

SIDE = 64
Exported = Callable[..., Artifact]


class PlainHeadStudent(DeployableStudent):
    """The network with the head as the student has it, which is what a naive export would hold."""

    def head(self, features: Tensor) -> Tensor:
        return l2_normalise(gem(features, 3.0))


@pytest.fixture(scope="module")
def images(pictures: Path) -> VerificationImages:
    return images_of_folder(pictures)


@pytest.fixture(scope="module")
def index(
    checkpoint: StudentCheckpoint, images: VerificationImages, tmp_path_factory: pytest.TempPathFactory
) -> TeacherIndex:
    return index_of(checkpoint, images, tmp_path_factory.mktemp("index"))


def index_of(checkpoint: StudentCheckpoint, images: VerificationImages, folder: Path) -> TeacherIndex:
    """Returns the index of a teacher that the student equals, at the files' pixels."""
    preprocessing = checkpoint.preprocessing.fitted(SQUARE_FIT, SIDE)
    embedder = TorchEmbedder(checkpoint.student, space=checkpoint.space, preprocessing=preprocessing)
    rows = embed_items(embedder, images.others)
    return TeacherIndex(folder, checkpoint.space, preprocessing, images.other_ids, rows, None)


@pytest.fixture
def artifact(exported: Exported, tmp_path: Path) -> Artifact:
    """A copy of the ONNX file in single precision, since verifying writes into it."""
    return copied(exported(Format.ONNX, Precision.FP32), tmp_path)


def copied(artifact: Artifact, folder: Path) -> Artifact:
    return Artifact(Path(shutil.copy(artifact.path, folder)), artifact.manifest)


def scaled(checkpoint: StudentCheckpoint, factor: float) -> StudentCheckpoint:
    """Returns the student with features `factor` times as large, which changes nothing after L2."""
    student = copy.deepcopy(checkpoint.student)
    with torch.no_grad():
        student.adaptor.weight.mul_(factor)
    return replace(checkpoint, student=student)


def test_a_faithful_file_is_verified_and_says_so(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    result = verify_artifact(artifact, checkpoint, index, images)
    assert result.judgement.verdict is Verdict.VERIFIED, result.judgement.reasons
    assert result.report is not None
    assert result.report.runtime == "onnxruntime cpu"
    assert result.report.half_precision is None
    assert result.report.census is not None
    assert result.report.census.operators["Conv"] > 40
    read = read_artifact(artifact.path)
    assert read.standing == "verified"
    inside = read.manifest
    assert inside == result.manifest
    assert inside.verdict is Verdict.VERIFIED
    assert inside.verdict_reason == f"onnxruntime cpu, 24 images of {images.source}"
    assert '"verdict": "verified"' in artifact.sidecar_path.read_text()


def test_a_half_precision_file_is_simulated_too(
    exported: Exported, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages, tmp_path: Path
) -> None:
    artifact = copied(exported(Format.ONNX, Precision.FP16), tmp_path)
    result = verify_artifact(artifact, checkpoint, index, images)
    assert result.judgement.verdict is Verdict.VERIFIED, result.judgement.reasons
    assert result.report is not None and result.report.half_precision is not None
    half = result.report.half_precision
    assert (half.images, half.head.images) == (24, 24)
    assert half.agreement != result.report.agreement
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    preprocessing = artifact.manifest.preprocessing
    pixels: Sequence[Pixels] = [load_pixels(item.path, preprocessing) for item in images.items]
    assert half.head == record_head_range(network, pixels, preprocessing)


def said_to_be(artifact: Artifact, precision: Precision) -> Artifact:
    """Returns the artifact with another precision in its manifest, which chooses kernels and limits."""
    return Artifact(artifact.path, replace(artifact.manifest, precision=precision))


def test_integers_are_verified_by_kernels_that_do_not_saturate(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    result = verify_artifact(said_to_be(artifact, Precision.INT8), checkpoint, index, images)
    assert result.judgement.verdict is Verdict.VERIFIED, result.judgement.reasons
    assert result.report is not None and result.report.kernels is not None
    assert result.report.runtime == result.report.kernels.verified == "onnxruntime cpu, precise kernels"
    assert result.report.kernels.other == "onnxruntime cpu, fast kernels"
    assert result.report.kernels.images == 16
    assert "kernels" not in {check.key for check in result.checks}
    assert result.manifest.verdict_reason == f"onnxruntime cpu, precise kernels, 24 images of {images.source}"


def test_a_named_runtime_is_obeyed_and_its_kernels_judged(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    options = VerificationOptions(runtime="onnxruntime")
    result = verify_artifact(said_to_be(artifact, Precision.INT8), checkpoint, index, images, options)
    assert result.report is not None and result.report.kernels is not None
    assert result.report.runtime == "onnxruntime cpu, fast kernels"
    assert result.report.kernels.other == "onnxruntime cpu, precise kernels"
    assert "kernels" in {check.key for check in result.checks}


@pytest.mark.parametrize(("runtime", "verdict"), [(None, Verdict.VERIFIED), ("onnxruntime", Verdict.FAILED)])
def test_a_processor_that_saturates_is_told_of_and_fails_only_what_its_own_kernels_verify(
    artifact: Artifact,
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str | None,
    verdict: Verdict,
) -> None:
    def noisy(artifact: Artifact, runtime: str | None = None, *, threads: int | None = None) -> Embedder:
        return FakeEmbedder(artifact.manifest.space, artifact.manifest.preprocessing, noise=5.0)

    monkeypatch.setattr(kernel_agreement, "open_artifact", noisy)
    options = VerificationOptions(runtime=runtime)
    result = verify_artifact(said_to_be(artifact, Precision.INT8), checkpoint, index, images, options)
    assert result.judgement.verdict is verdict
    assert any("gives other embeddings on this processor than" in warning for warning in result.judgement.warnings)


def test_weights_alone_have_one_kind_of_kernels(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    result = verify_artifact(said_to_be(artifact, Precision.INT8_WEIGHTS), checkpoint, index, images)
    assert result.report is not None
    assert result.report.runtime == "onnxruntime cpu"
    assert result.report.kernels is None


NEAR_LIMIT = 30.0
"""27 000 to the third power, which half precision holds; ten times as large, it does not."""
HEADS = {
    "plain head": (PlainHeadStudent, 1.0, True),
    "plain head, features times ten": (PlainHeadStudent, 10.0, False),
    "exported head, features times ten": (DeployableStudent, 10.0, True),
}


@pytest.mark.parametrize(("head", "factor", "passes"), list(HEADS.values())[1:], ids=list(HEADS)[1:])
def test_a_head_that_overflows_in_half_precision_fails_although_the_runtime_hides_it(
    exported: Exported,
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    head: type[DeployableStudent],
    factor: float,
    passes: bool,
) -> None:
    artifact = copied(exported(Format.ONNX, Precision.FP16), tmp_path)
    larger = scaled(checkpoint, factor * NEAR_LIMIT / largest_feature(checkpoint, images))
    same = Artifact(artifact.path, replace(artifact.manifest, weights_sha256=larger.weights_sha256))
    monkeypatch.setattr(verification, "DeployableStudent", head)
    result = verify_artifact(same, larger, index, images)
    assert result.report is not None and result.report.half_precision is not None
    assert result.report.agreement.non_finite == 0
    assert result.report.half_precision.head.largest == pytest.approx(factor * NEAR_LIMIT, rel=1e-4)
    assert_only_half_precision_broke(result, passes=passes)


@pytest.mark.skipif(find_spec("coremltools") is None, reason="the extra 'coreml' is not installed")
@pytest.mark.parametrize(("head", "factor", "passes"), HEADS.values(), ids=HEADS)
def test_a_core_ml_file_whose_head_overflows_in_half_precision_fails(
    images: VerificationImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    head: type[DeployableStudent],
    factor: float,
    passes: bool,
) -> None:
    """Here the file itself is unsafe: it holds that head, and all of it in half precision. Its trunk converts fast."""
    student = Student(StudentSpec("tf_efficientnet_lite0", 64))
    with seeded(0):
        student.backbone = nn.Conv2d(3, 16, 16, stride=32, bias=False)  # type: ignore[assignment]
        student.adaptor = nn.Conv2d(16, 64, 1, bias=False)
    space = EmbeddingSpace("toy teacher", "c" * 64, 64)
    tiny = StudentCheckpoint(student.eval(), "tiny", space, Preprocessing(), trained=True)
    larger = scaled(tiny, factor * NEAR_LIMIT / largest_feature(tiny, images))
    monkeypatch.setattr("aml_edge.exporters.export.DeployableStudent", head)
    monkeypatch.setattr("aml_edge.exporters.to_coreml._BeforeHead.__call__", lambda self, operation: True)
    artifact = export_student(larger, ExportSpec(Format.COREML, Precision.FP16, SIDE), tmp_path)
    result = verify_artifact(artifact, larger, index_of(larger, images, tmp_path), images, VerificationOptions("mil"))
    assert_only_half_precision_broke(result, passes=passes)
    assert read_artifact(artifact.path).manifest.verdict is (Verdict.VERIFIED if passes else Verdict.FAILED)


def largest_feature(checkpoint: StudentCheckpoint, images: VerificationImages) -> float:
    """Returns the largest input of the head over the images at the file's pixels."""
    preprocessing = checkpoint.preprocessing.fitted(SQUARE_FIT, SIDE)
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    pixels = [load_pixels(item.path, preprocessing) for item in images.items]
    return record_head_range(network, pixels, preprocessing).largest


def assert_only_half_precision_broke(result: Verification, *, passes: bool) -> None:
    assert result.report is not None and result.report.half_precision is not None
    broken = result.report.half_precision.agreement.non_finite
    if passes:
        assert (result.judgement.verdict, broken) == (Verdict.VERIFIED, 0), result.judgement.reasons
        return
    assert result.judgement.verdict is Verdict.FAILED
    assert broken > 0
    words = f"in simulated half precision, {broken} of 24 embeddings hold NaN or an infinity"
    assert words in result.judgement.reasons


def test_a_whitened_file_is_verified_against_a_whitened_index(
    exported: Exported,
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    whitening: Whitening,
    whitened_space: EmbeddingSpace,
    tmp_path: Path,
) -> None:
    with torch.inference_mode():
        rows = whitening(torch.from_numpy(np.array(index.embeddings))).numpy()
    whitened = replace(index, space=whitened_space, embeddings=rows, whitening=whitening)
    artifact = copied(exported(Format.ONNX, Precision.FP32, whitened=True), tmp_path)
    result = verify_artifact(artifact, checkpoint, whitened, images)
    assert result.judgement.verdict is Verdict.VERIFIED, result.judgement.reasons


def test_a_file_with_other_weights_than_it_says_fails(
    artifact: Artifact, checkpoint: StudentCheckpoint, images: VerificationImages, tmp_path: Path
) -> None:
    other = scaled(checkpoint, 1.0)
    with torch.no_grad():
        other.student.adaptor.weight.normal_()
    forged = Artifact(artifact.path, replace(artifact.manifest, weights_sha256=other.weights_sha256))
    result = verify_artifact(forged, other, index_of(other, images, tmp_path), images)
    assert result.judgement.verdict is Verdict.FAILED
    assert any(reason.startswith("smallest centred cosine") for reason in result.judgement.reasons)
    manifest = read_artifact(artifact.path).manifest
    assert manifest.verdict is Verdict.FAILED
    assert "smallest centred cosine" in manifest.verdict_reason


def test_the_student_embeds_the_same_pixels_once_for_several_files(
    artifact: Artifact,
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedded = 0

    class Counting(TorchEmbedder):
        def embed(self, images: Sequence[Pixels]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
            nonlocal embedded
            embedded += len(images)
            return super().embed(images)

    monkeypatch.setattr(verification, "TorchEmbedder", Counting)
    verifier = Verifier(checkpoint, index, images)
    verifier.verify(artifact)
    assert embedded == 24
    (tmp_path / "other").mkdir()
    verifier.verify(copied(artifact, tmp_path / "other"))
    assert embedded == 24


def test_an_untrained_student_is_not_run(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    untrained = replace(checkpoint, trained=False, space=untrained_space(64, checkpoint.weights_sha256))
    file = Artifact(artifact.path, replace(artifact.manifest, space=untrained.space))
    result = verify_artifact(file, untrained, index, images)
    assert result.judgement.verdict is Verdict.NOT_RUN
    assert result.report is None
    manifest = read_artifact(artifact.path).manifest
    assert manifest.verdict is Verdict.NOT_RUN
    assert manifest.verdict_reason == (
        "untrained: the student has random weights, so the file is good for sizes and speeds only"
    )


@pytest.mark.parametrize(
    "change", [{"teacher": "other"}, {"weights_sha256": "b" * 64}, {"dimension": 32}, {"whitening_sha256": "c" * 64}]
)
def test_a_file_of_another_space_is_refused_before_anything_runs(
    artifact: Artifact,
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    change: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verification, "open_artifact", None)
    stranger = replace(checkpoint.space, **change)  # type: ignore[arg-type]
    file = Artifact(artifact.path, replace(artifact.manifest, space=stranger))
    with pytest.raises(SpaceMismatchError) as refusal:
        verify_artifact(file, checkpoint, index, images)
    assert stranger.describe() in str(refusal.value)
    assert index.space.describe() in str(refusal.value)
    assert artifact.path.name in str(refusal.value)
    assert read_artifact(artifact.path).manifest.verdict is Verdict.NOT_RUN


def test_a_student_of_another_teacher_is_refused(
    checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    stranger = replace(checkpoint, space=replace(checkpoint.space, teacher="other"))
    with pytest.raises(SpaceMismatchError, match=r"student 'toy' lives in other .*, but the index .* in toy teacher"):
        Verifier(stranger, index, images)


def test_a_student_of_another_teacher_is_refused_for_a_whitened_index(
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    images: VerificationImages,
    whitening: Whitening,
    whitened_space: EmbeddingSpace,
) -> None:
    whitened = replace(index, space=whitened_space, whitening=whitening)
    stranger = replace(checkpoint, space=replace(checkpoint.space, teacher="other"))
    with pytest.raises(
        SpaceMismatchError, match=r"student 'toy' lives in other .* before its whitening in toy teacher"
    ):
        Verifier(stranger, whitened, images)


def test_a_file_of_another_student_is_refused(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    other = replace(scaled(checkpoint, 2.0), name="another")
    ours, theirs = checkpoint.weights_sha256[:8], other.weights_sha256[:8]
    with pytest.raises(UsageError) as refusal:
        verify_artifact(artifact, other, index, images)
    assert str(refusal.value) == (
        f"the file {artifact.path.name} was made from student 'toy' (weights {ours}), but student 'another' has "
        f"weights {theirs}; name the one it was made from with --student, or export it again."
    )


def test_changed_tolerances_are_written_down(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    lenient = VerificationOptions(tolerances={"cosine": 0.5, "overlap": None})
    result = verify_artifact(artifact, checkpoint, index, images, lenient)
    assert {check.key: check.limit for check in result.checks}["cosine"] == 0.5
    assert result.manifest.verdict_reason.endswith(", tolerance cosine set to 0.5")


def test_a_stricter_tolerance_fails_what_the_table_would_pass(
    artifact: Artifact, checkpoint: StudentCheckpoint, index: TeacherIndex, images: VerificationImages
) -> None:
    result = verify_artifact(artifact, checkpoint, index, images, VerificationOptions(tolerances={"pair_error": 0.0}))
    assert result.judgement.verdict is Verdict.FAILED
    with pytest.raises(VerificationError, match=rf"{artifact.path.name} failed verification, .* do not ship it"):
        require_none_failed([(result.path, result.judgement)])


@pytest.mark.parametrize("earlier", [Verdict.VERIFIED, Verdict.FAILED])
def test_not_run_leaves_an_earlier_verdict(artifact: Artifact, earlier: Verdict) -> None:
    judged = write_manifest(
        Artifact(artifact.path, replace(artifact.manifest, verdict=earlier, verdict_reason="proven"))
    )
    assert recorded(judged, not_run("too few images")) == judged
    assert read_artifact(artifact.path).manifest.verdict is earlier


def test_a_file_that_cannot_be_written_is_said(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Artifact) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aml_edge.exporters.verdicts.write_manifest", refuse)
    with pytest.raises(ArtifactError, match=r"verdict 'not run' cannot be written into .*\.onnx: Permission denied"):
        recorded(artifact, not_run("too few images"))


def test_nothing_failed_is_no_error(artifact: Artifact) -> None:
    unproven = Verification(artifact.path, artifact.manifest, not_run("untrained"))
    require_none_failed([(unproven.path, unproven.judgement)])
