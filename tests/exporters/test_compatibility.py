"""What is measured of an artifact, with embedders whose faults are known."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from aml_edge.artifact import Verdict
from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.errors import ImageBatchError, TeacherIndexError
from aml_edge.exporters.agreement import cosines, spread_of
from aml_edge.exporters.compatibility import CompatibilityReport, Sides, measure_compatibility
from aml_edge.exporters.judgement import judge
from aml_edge.exporters.tolerances import FULL_PRECISION
from aml_edge.exporters.verification_images import VerificationImages, images_of_folder
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.index import TeacherIndex
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.ranking import QueryGroundTruth
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy teacher", "a" * 64, 32)
NATIVE = Preprocessing(64)
SQUARE = Preprocessing(32, Fit.SQUASH)


class Changed:
    """An Embedder that changes what another one gives."""

    def __init__(self, embedder: Embedder, change: npt.NDArray[np.intp] | dict[int, float]) -> None:
        self.name, self.space, self.preprocessing = "changed", embedder.space, embedder.preprocessing
        self._embedder, self._change, self._seen = embedder, change, 0

    def embed(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Returns permuted dimensions, or rows with one value replaced, by the number of the image."""
        rows = self._embedder.embed(images)
        if not isinstance(self._change, dict):
            return rows[:, self._change]
        for number in range(len(rows)):
            rows[number, 0] = self._change.get(self._seen + number, rows[number, 0])
        self._seen += len(rows)
        return rows

    def close(self) -> None:
        """Nothing to free."""


class Constant:
    """An Embedder like an untrained network: the same embedding for every image, but for a little noise."""

    name, space = "constant", SPACE

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def embed(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Returns (N, 32) rows whose pairwise cosine is 1.000."""
        noise = [np.random.default_rng(int(image.sum())).normal(scale=1e-4, size=32) for image in images]
        rows = 1 + np.stack(noise)
        normalised: npt.NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return normalised

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def images(pictures: Path) -> VerificationImages:
    return images_of_folder(pictures)


@pytest.fixture
def index(pictures: Path, images: VerificationImages, tmp_path: Path) -> TeacherIndex:
    """The index of a teacher that is the student without its faults."""
    rows = embed_items(FakeEmbedder(SPACE, NATIVE), images.others)
    return TeacherIndex(tmp_path, SPACE, NATIVE, images.other_ids, rows, None)


def sides(artifact: Embedder, student: Embedder | None = None) -> Sides:
    return Sides(student or FakeEmbedder(SPACE, SQUARE), artifact, FakeEmbedder(SPACE, NATIVE))


def with_ground_truth(images: VerificationImages, pictures: Path) -> VerificationImages:
    """Returns the same images with the first three also asked as queries for themselves."""
    queries = tuple(ImageItem(pictures / one, (4, 4, 60, 44)) for one in images.other_ids[:3])
    truth = tuple(QueryGroundTruth((row,), (row + 10,), ()) for row in range(3))
    return replace(images, queries=queries, ground_truth=truth, database_ids=images.other_ids)


def verdict(report: CompatibilityReport) -> Verdict:
    return judge(report, FULL_PRECISION).verdict


def test_a_faithful_artifact_is_verified(index: TeacherIndex, images: VerificationImages, pictures: Path) -> None:
    report = measure_compatibility(sides(FakeEmbedder(SPACE, SQUARE)), index, with_ground_truth(images, pictures))
    assert verdict(report) is Verdict.VERIFIED
    assert (report.images, report.distinct_images) == (27, 27)
    assert report.agreement.cosine.smallest == pytest.approx(1)
    assert report.retrieval is not None and report.retrieval.easy is not None
    assert report.retrieval.easy.export.value == 0
    assert report.retrieval.easy.queries == 3


@pytest.mark.parametrize(("noise", "expected"), [(0.0005, Verdict.VERIFIED), (0.2, Verdict.FAILED)])
def test_noise_crosses_the_tolerance(
    index: TeacherIndex, images: VerificationImages, noise: float, expected: Verdict
) -> None:
    report = measure_compatibility(sides(FakeEmbedder(SPACE, SQUARE, noise=noise)), index, images)
    assert verdict(report) is expected


def test_one_nan_fails(index: TeacherIndex, images: VerificationImages) -> None:
    report = measure_compatibility(sides(Changed(FakeEmbedder(SPACE, SQUARE), {5: math.nan})), index, images)
    assert verdict(report) is Verdict.FAILED
    assert report.agreement.non_finite == 1


def test_an_infinity_among_the_queries_leaves_no_map(
    index: TeacherIndex, images: VerificationImages, pictures: Path
) -> None:
    broken = Changed(FakeEmbedder(SPACE, SQUARE), {1: math.inf})
    report = measure_compatibility(sides(broken), index, with_ground_truth(images, pictures))
    assert verdict(report) is Verdict.FAILED
    assert report.retrieval is not None and report.retrieval.medium is not None
    assert math.isnan(report.retrieval.medium.artifact)
    assert report.retrieval.medium.student > 0


def test_permuted_dimensions_fail(index: TeacherIndex, images: VerificationImages) -> None:
    permuted = Changed(FakeEmbedder(SPACE, SQUARE), np.random.default_rng(0).permutation(32))
    report = measure_compatibility(sides(permuted), index, images)
    assert verdict(report) is Verdict.FAILED
    # pairs among themselves are as they were: only the comparison with student and teacher shows it
    assert report.agreement.pair_error.largest == pytest.approx(0, abs=1e-6)
    assert report.teacher is not None
    assert report.teacher.artifact_own_first < 0.7


def test_a_constant_student_is_not_run_however_well_the_file_agrees(
    index: TeacherIndex, images: VerificationImages
) -> None:
    report = measure_compatibility(sides(Constant(SQUARE), Constant(SQUARE)), index, images)
    assert report.agreement.cosine.smallest == pytest.approx(1)
    assert report.student_pair_distance < 1e-6
    assert verdict(report) is Verdict.NOT_RUN
    assert any("untrained" in reason for reason in judge(report, FULL_PRECISION).reasons)


def test_distillation_and_export_errors_stand_apart(index: TeacherIndex, images: VerificationImages) -> None:
    student, artifact = FakeEmbedder(SPACE, SQUARE, noise=0.3), FakeEmbedder(SPACE, SQUARE, noise=0.6)
    report = measure_compatibility(sides(artifact, student), index, images)
    assert report.teacher is not None
    assert report.teacher.images == 24
    for embedder, measured in ((student, report.teacher.student_cosine), (artifact, report.teacher.artifact_cosine)):
        rows = embed_items(embedder, images.others)
        assert measured == spread_of(cosines(rows, index.embeddings))
    assert report.teacher.student_cosine.median > report.teacher.artifact_cosine.median


def test_the_square_s_cost_is_told_from_the_export_s(
    index: TeacherIndex, images: VerificationImages, pictures: Path
) -> None:
    noisy = FakeEmbedder(SPACE, SQUARE, noise=50.0)
    report = measure_compatibility(sides(noisy, noisy), index, with_ground_truth(images, pictures))
    assert report.retrieval is not None and report.retrieval.easy is not None
    assert report.retrieval.easy.native_student == 1.0  # of three queries that are crops of their positives
    assert report.retrieval.easy.square.value < 0
    assert report.retrieval.easy.export.value == 0


def test_copies_do_not_count_as_distinct(pictures: Path, index: TeacherIndex, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for number in range(20):
        source = pictures / "jpg" / f"{number % 4:02}.png"
        if number < 10:
            shutil.copy(source, copies / f"{number}.png")
        else:
            Image.open(source).save(copies / f"{number}.bmp")  # another file, the same pixels
    report = measure_compatibility(sides(FakeEmbedder(SPACE, SQUARE)), index, images_of_folder(copies))
    assert (report.images, report.distinct_images) == (20, 4)
    assert verdict(report) is Verdict.NOT_RUN
    assert report.teacher is None


def test_images_outside_the_index_are_not_compared_with_the_teacher(
    index: TeacherIndex, images: VerificationImages
) -> None:
    partial = replace(index, ids=("other.png", *index.ids[1:]))
    report = measure_compatibility(sides(FakeEmbedder(SPACE, SQUARE)), partial, images)
    assert report.teacher is not None
    assert report.teacher.images == 23


def test_unreadable_images_are_all_named(index: TeacherIndex, images: VerificationImages, tmp_path: Path) -> None:
    for name in ("torn.png", "empty.jpg"):
        (tmp_path / name).write_bytes(b"\x89PNG" if name == "torn.png" else b"")
    bad = tuple(ImageItem(tmp_path / name) for name in ("torn.png", "empty.jpg"))
    broken = replace(images, others=images.others + bad, other_ids=(*images.other_ids, "torn.png", "empty.jpg"))
    with pytest.raises(ImageBatchError) as failure:
        measure_compatibility(sides(FakeEmbedder(SPACE, SQUARE)), index, broken)
    assert [Path(path).name for path, _ in failure.value.failures] == ["torn.png", "empty.jpg"]


def test_an_index_that_holds_what_cannot_be_an_embedding_proves_nothing(
    index: TeacherIndex, images: VerificationImages
) -> None:
    rows = np.array(index.embeddings)
    rows[3] *= 2
    with pytest.raises(TeacherIndexError, match=rf"holds an embedding of length 2, not 1, for {index.ids[3]}; "):
        measure_compatibility(sides(FakeEmbedder(SPACE, SQUARE)), replace(index, embeddings=rows), images)


def test_ground_truth_of_another_index_is_refused(
    index: TeacherIndex, images: VerificationImages, pictures: Path
) -> None:
    with pytest.raises(TeacherIndexError, match=r"00\.png"):
        measure_compatibility(
            sides(FakeEmbedder(SPACE, SQUARE)),
            replace(index, ids=tuple(f"other/{number}" for number in range(24))),
            with_ground_truth(images, pictures),
        )
