"""Evaluation against rankings worked out by hand: who asks whom, and what is refused before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge import evaluation
from aml_edge.contestants import Contestants
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.embedder import Embeddings
from aml_edge.errors import ImageBatchError, SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.evaluation import evaluate_contestants, evaluate_retrieval, measure_contestants, retrieval_row
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.index import TeacherIndex
from aml_edge.index.whitening import whitened_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.protocol import Protocol
from aml_edge.ranking import QueryGroundTruth, RetrievalReport, SettingReport, evaluate_revisited
from aml_edge.runtimes.checkpoint_embedders import student_embedder
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("angles", "a" * 64, 2)
PREPROCESSING = Preprocessing(8)
DATABASE_DEGREES = (0, 10, 20, 30, 40, 50)
QUERY_DEGREES = (0, 50)
"""The first ranks the database forwards, the second backwards."""

GROUND_TRUTH = (QueryGroundTruth(easy=(1,), hard=(3,), junk=(0,)), QueryGroundTruth(easy=(5,), hard=(), junk=()))


class AngleEmbedder:
    """Embeds an image of one grey as the angle of so many degrees."""

    name = "angles"

    def __init__(self, *, space: EmbeddingSpace = SPACE, broken: Sequence[int] = ()) -> None:
        self.space = space
        self.preprocessing = PREPROCESSING
        self.closed = 0
        self._broken = broken

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        degrees = [int(image[0, 0, 0]) for image in images]
        rows = np.array([angle(one) for one in degrees], np.float32).reshape(-1, 2)
        rows[[place for place, one in enumerate(degrees) if one in self._broken]] = np.nan
        return rows

    def close(self) -> None:
        self.closed += 1


def angle(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def grey(folder: Path, value: int, name: str) -> ImageItem:
    path = folder / f"{name}.png"
    Image.new("RGB", (8, 8), (value, value, value)).save(path)
    return ImageItem(path)


@pytest.fixture
def dataset(tmp_path: Path) -> RetrievalDataset:
    queries = tuple(grey(tmp_path, degrees, f"q{degrees}") for degrees in QUERY_DEGREES)
    database = tuple(grey(tmp_path, degrees, f"d{degrees}") for degrees in DATABASE_DEGREES)
    ids = tuple(f"jpg/{degrees}.jpg" for degrees in DATABASE_DEGREES)
    return RetrievalDataset("angles", tmp_path, queries, database, ids, GROUND_TRUTH)


def index_of(ids: Sequence[str], degrees: Sequence[float], *, space: EmbeddingSpace = SPACE) -> TeacherIndex:
    rows = np.array([angle(one) for one in degrees], np.float32)
    return TeacherIndex(Path("index"), space, PREPROCESSING, tuple(ids), rows, None)


def require_hand_made(report: RetrievalReport) -> None:
    """Easy: query 0 finds row 1 first after junk and hard are out, query 1 its row first. Medium: query 0 finds rows 1
    and 3 at ranks 0 and 2, so AP = ((1 + 1) / 2 + (1/2 + 2/3) / 2) / 2 = 19/24. Hard: row 3 at rank 1, row 2 before it,
    so AP = (0 + 1/2) / 2 = 1/4; query 1 has none."""
    assert report.easy.average_precisions == (1.0, 1.0)
    assert report.medium.average_precisions == pytest.approx((19 / 24, 1.0), abs=1e-12)
    assert report.medium.mean_average_precision == pytest.approx(43 / 48, abs=1e-12)
    assert report.medium.mean_precision_at_5 == pytest.approx((2 / 3 + 1) / 2, abs=1e-12)
    assert report.hard.average_precisions[0] == 0.25
    assert math.isnan(report.hard.average_precisions[1])
    assert report.hard.mean_average_precision == 0.25


def test_queries_rank_an_index_by_cosine(dataset: RetrievalDataset) -> None:
    index = index_of(dataset.database_ids, DATABASE_DEGREES)
    require_hand_made(evaluate_retrieval(AngleEmbedder(), index, dataset))


def test_an_embedder_as_database_embeds_its_images(dataset: RetrievalDataset, progress: Any) -> None:
    embedder = AngleEmbedder()
    require_hand_made(evaluate_retrieval(embedder, embedder, dataset, name="student", progress=progress))
    assert progress.announced == [("queries, student", 2), ("database, student", 6)]
    assert embedder.closed == 0  # by whoever opened it


def test_rows_of_the_index_are_found_by_id_whatever_their_order(dataset: RetrievalDataset) -> None:
    more = [("jpg/other.jpg", 3.0), *zip(dataset.database_ids, DATABASE_DEGREES, strict=True), ("b.jpg", 49.0)]
    shuffled = [more[place] for place in (3, 7, 0, 5, 1, 6, 2, 4)]
    index = index_of([one for one, _ in shuffled], [degrees for _, degrees in shuffled])
    require_hand_made(evaluate_retrieval(AngleEmbedder(), index, dataset))


def test_a_query_is_cropped_to_its_box(dataset: RetrievalDataset, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    picture = np.full((8, 16, 3), 50, np.uint8)
    picture[:, 8:] = 0  # whole, its first pixel would ask as the other query does
    Image.fromarray(picture).save(path)
    boxed = replace(dataset, query_items=(ImageItem(path, (8, 0, 16, 8)), dataset.query_items[1]))
    require_hand_made(evaluate_retrieval(AngleEmbedder(), index_of(dataset.database_ids, DATABASE_DEGREES), boxed))


def test_another_space_is_refused_and_both_sides_are_named(dataset: RetrievalDataset) -> None:
    index = index_of(dataset.database_ids, DATABASE_DEGREES, space=replace(SPACE, weights_sha256="b" * 64))
    with pytest.raises(SpaceMismatchError) as refusal:
        evaluate_retrieval(AngleEmbedder(), index, dataset, name="student")
    assert str(refusal.value) == (
        "student lives in angles (aaaaaaaa), 2-D, no whitening, but the index index in angles (bbbbbbbb), 2-D, no "
        "whitening (different weights_sha256); compare only what was made for the same teacher."
    )


def test_images_that_the_index_lacks_are_named(dataset: RetrievalDataset) -> None:
    index = index_of(dataset.database_ids[:4], DATABASE_DEGREES[:4])
    with pytest.raises(TeacherIndexError, match=r"lacks 2 of 6 images \(jpg/40.jpg, jpg/50.jpg\)"):
        evaluate_retrieval(AngleEmbedder(), index, dataset)


@pytest.mark.parametrize(("value", "said"), [(math.nan, "that is not finite"), (2.0, "of length 2, not 1")])
def test_an_embedding_of_the_index_that_cannot_be_one_is_named(
    dataset: RetrievalDataset, value: float, said: str
) -> None:
    """Where a ranking reads it; that of an image outside of the data set does not matter."""
    index = index_of((*dataset.database_ids, "jpg/other.jpg"), (*DATABASE_DEGREES, 0))
    index.embeddings[6] *= value
    require_hand_made(evaluate_retrieval(AngleEmbedder(), index, dataset))
    index = replace(index, embeddings=index.embeddings.copy())
    index.embeddings[3] *= value
    with pytest.raises(TeacherIndexError) as refusal:
        evaluate_retrieval(AngleEmbedder(), index, dataset)
    assert str(refusal.value) == (
        f"the index index holds an embedding {said}, for jpg/30.jpg; `aml-edge index verify index` finds all of them: "
        "copy the index again, or build it again."
    )


def test_a_query_that_is_not_finite_is_named(dataset: RetrievalDataset) -> None:
    index = index_of(dataset.database_ids, DATABASE_DEGREES)
    with pytest.raises(UsageError) as refusal:
        evaluate_retrieval(AngleEmbedder(broken=[50]), index, dataset, name="file")
    assert str(refusal.value) == (
        f"file gives 1 of 2 queries an embedding that is not finite, the first to {dataset.query_items[1].path}; "
        "there is no ranking of those: train or export it again."
    )


def test_a_broken_database_has_no_ranking_either(dataset: RetrievalDataset) -> None:
    with pytest.raises(UsageError, match="NaN"):
        evaluate_retrieval(AngleEmbedder(), AngleEmbedder(broken=[30]), dataset)


def test_unreadable_queries_are_all_listed(dataset: RetrievalDataset) -> None:
    for item in dataset.query_items:
        item.path.write_bytes(b"no image")
    index = index_of(dataset.database_ids, DATABASE_DEGREES)
    with pytest.raises(ImageBatchError, match="2 of 2 images cannot be read") as refusal:
        evaluate_retrieval(AngleEmbedder(), index, dataset)
    assert [path for path, _ in refusal.value.failures] == [item.path for item in dataset.query_items]


def test_intervals_are_over_queries_with_a_positive() -> None:
    """One value has no spread; a setting without any has no interval."""
    easy = SettingReport(0.5, (0.5, math.nan), 0.0, 0.0, 0.0)
    medium = SettingReport(0.6, (0.2, 1.0), 0.0, 0.0, 0.0)
    hard = SettingReport(math.nan, (math.nan, math.nan), math.nan, math.nan, math.nan)
    row = retrieval_row("student", "teacher", RetrievalReport(easy, medium, hard))
    assert row.easy_interval is not None and row.medium_interval is not None
    assert (row.easy_interval.low, row.easy_interval.high) == (0.5, 0.5)
    assert (row.medium_interval.low, row.medium_interval.high) == pytest.approx((0.2, 1.0))  # a quarter at each end
    assert row.hard_interval is None
    assert row.name == "student → teacher"
    assert row.settings == (
        ("easy", easy, row.easy_interval),
        ("medium", medium, row.medium_interval),
        ("hard", hard, None),
    )


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    torch.set_num_threads(1)
    network = Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval()
    return TeacherCheckpoint(network, "tiny", Preprocessing(64))


@pytest.fixture(scope="module")
def student(teacher: TeacherCheckpoint) -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", teacher.teacher.dimension), seed=2).eval()
    return StudentCheckpoint(network, "small", teacher.space(), Preprocessing(64), trained=True)


@pytest.fixture
def teachers_index(dataset: RetrievalDataset, teacher: TeacherCheckpoint) -> TeacherIndex:
    dimension = teacher.teacher.dimension
    rows = np.random.default_rng(0).random((len(dataset.database_ids), dimension), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return TeacherIndex(Path("index"), teacher.space(), Preprocessing(32), dataset.database_ids, rows, None)


def test_contestants_give_their_rows_in_order(
    dataset: RetrievalDataset,
    teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    teachers_index: TeacherIndex,
    progress: Any,
) -> None:
    contestants = Contestants(student=student, teacher=teacher)
    rows = evaluate_contestants(contestants, (teachers_index,), dataset, progress=progress)
    assert [row.name for row in rows] == ["teacher → teacher", "student → student", "student → teacher"]
    assert [task for task, _ in progress.announced] == [
        "queries, teacher",
        "queries, student",
        "database, student",
    ]
    assert evaluate_contestants(Contestants(), (teachers_index,), dataset) == ()


@pytest.fixture
def distractors(teachers_index: TeacherIndex) -> TeacherIndex:
    rows = np.random.default_rng(9).random((50, teachers_index.space.dimension), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = tuple(f"far/{number}.jpg" for number in range(50))
    return replace(teachers_index, path=Path("far"), ids=ids, embeddings=rows)


def test_distractors_follow_the_index_and_not_the_student_s_own_database(
    dataset: RetrievalDataset, student: StudentCheckpoint, teachers_index: TeacherIndex, distractors: TeacherIndex
) -> None:
    contestants = Contestants(student=student)
    own, asymmetric = evaluate_contestants(contestants, [teachers_index], dataset, distractors=[distractors])
    assert (own.name, own.distractors) == ("student → student", 0)
    assert (asymmetric.name, asymmetric.database, asymmetric.distractors) == ("student → teacher + 50", "teacher", 50)
    with closing(student_embedder(student, student.preprocessing)) as embedder:
        queries = embed_items(embedder, dataset.query_items)
    database = np.concatenate([teachers_index.embeddings, distractors.embeddings])
    assert asymmetric.report.medium == evaluate_revisited(queries @ database.T, dataset.ground_truth).medium
    alone = evaluate_contestants(contestants, [teachers_index], dataset)
    assert [one.distractors for one in alone] == [0, 0]
    assert alone[0].report.medium == own.report.medium
    assert alone[1].report.medium.mean_average_precision > asymmetric.report.medium.mean_average_precision


def test_whitened_distractors_follow_the_whitened_index(
    dataset: RetrievalDataset, student: StudentCheckpoint, teachers_index: TeacherIndex, distractors: TeacherIndex
) -> None:
    generator = torch.Generator().manual_seed(0)
    dimension = teachers_index.space.dimension
    layer = Whitening(torch.rand(dimension, generator=generator), torch.randn(8, dimension, generator=generator))
    parts = [[one, whitened_index(one, layer)] for one in (teachers_index, distractors)]
    rows = evaluate_contestants(Contestants(student=student), parts[0], dataset, distractors=parts[1])
    assert [(row.name, row.whitening) for row in rows[1:]] == [
        ("student → teacher + 50", None),
        ("student → teacher + 50", "teacher"),
    ]


def test_each_image_asks_all_others(
    dataset: RetrievalDataset, student: StudentCheckpoint, teachers_index: TeacherIndex, progress: Any
) -> None:
    """Images are embedded once for both sides; the measures are those of the similarities, the asker left out."""
    classes = (0, 1, 0, 1, 1, 0)
    truth = [
        QueryGroundTruth(tuple(row for row in range(6) if row != asker and classes[row] == one), (), (asker,))
        for asker, one in enumerate(classes)
    ]
    images = tuple(dataset.database_items)
    products = replace(
        dataset,
        query_items=images,
        database_items=images,
        ground_truth=truth,
        protocol=Protocol.METRIC_LEARNING,
        recall_at=(1, 2),
    )
    contestants = Contestants(student=student)
    own, asymmetric = measure_contestants(contestants, [teachers_index], products, progress=progress)
    assert progress.announced == [("queries, student", 6)]
    with closing(student_embedder(student, student.preprocessing)) as embedder:
        queries = embed_items(embedder, dataset.database_items)
    for row, database in ((own, queries), (asymmetric, teachers_index.embeddings)):
        firsts = []
        for asker, similarities in enumerate(queries @ database.T):
            order = [other for other in np.argsort(-similarities, kind="stable") if other != asker]
            firsts.append([classes[other] == classes[asker] for other in order])
        for measured, k in zip(row.report.measures, (1, 2), strict=False):
            assert measured.name == f"recall@{k}"
            assert measured.values == tuple(float(any(first[:k])) for first in firsts)
        assert row.report.main.name == "recall@1"
        assert row.interval is not None
        assert row.interval.low <= row.report.main.mean <= row.interval.high
    assert (own.name, asymmetric.name) == ("student → student", "student → teacher")


def test_a_long_ranking_is_announced(dataset: RetrievalDataset, progress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LONG_PRODUCT", 2 * 6 * 2)
    evaluate_retrieval(AngleEmbedder(), index_of(dataset.database_ids, DATABASE_DEGREES), dataset, progress=progress)
    assert progress.announced == [("queries, queries", 2), ("ranking", 6)]


def test_a_protocol_without_settings_is_refused_where_settings_are_wanted(
    dataset: RetrievalDataset, teachers_index: TeacherIndex
) -> None:
    with pytest.raises(UsageError) as refusal:
        evaluate_contestants(Contestants(), [teachers_index], replace(dataset, protocol=Protocol.LANDMARKS))
    assert str(refusal.value) == (
        "`dataset` is angles, whose results are published as mAP@100, without settings; measure it with "
        "`measure_contestants`."
    )


def test_nothing_is_embedded_where_one_of_them_is_of_another_teacher(
    dataset: RetrievalDataset,
    teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    teachers_index: TeacherIndex,
    progress: Any,
) -> None:
    stranger = replace(student, name="stranger", space=replace(student.space, teacher="another"))
    with pytest.raises(SpaceMismatchError, match=r"^student 'stranger' lives in another \("):
        contestants = Contestants(student=stranger, teacher=teacher)
        evaluate_contestants(contestants, (teachers_index,), dataset, progress=progress)
    partial = replace(teachers_index, ids=("jpg/0.jpg",), embeddings=teachers_index.embeddings[:1])
    with pytest.raises(TeacherIndexError, match="lacks 5 of 6 images"):
        evaluate_contestants(Contestants(teacher=teacher), (partial,), dataset, progress=progress)
    assert progress.announced == []
