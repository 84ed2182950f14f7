"""Rows of a table at several scales, with and without whitening, against each number worked out slowly by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch.nn import functional

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.contestants import Contestants, pairings
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import SpaceMismatchError
from aml_edge.evaluation import RetrievalRow, evaluate_contestants
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.index.whitening import whitened_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.ranking import QueryGroundTruth, RetrievalReport, evaluate_revisited
from aml_edge.scales import SINGLE_SCALE, Scales
from aml_edge.space import EmbeddingSpace

SIDE = 64
SEVERAL: Scales = (1.0, 1 / math.sqrt(2), 0.5)
QUERIES, DATABASE = 4, 9
Rows = npt.NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> RetrievalDataset:
    """Coloured noise, smaller than what the networks see, so that its pixels reach them as they are."""
    folder, generator = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    items = []
    for number in range(QUERIES + DATABASE):
        colours = generator.integers(0, 256, (3 + number % 3, 4, 3), dtype=np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(colours).resize((48, 40 - number % 2), Image.Resampling.BICUBIC).save(path)
        items.append(ImageItem(path))
    ids = tuple(f"jpg/{number}.jpg" for number in range(DATABASE))
    truth = tuple(QueryGroundTruth((one, one + 4), (one + 1,), (one + 2,)) for one in range(QUERIES))
    return RetrievalDataset("noise", folder, tuple(items[:QUERIES]), tuple(items[QUERIES:]), ids, truth)


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    network = Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval()
    torch.nn.init.constant_(network.pool.p, 2.2)
    return TeacherCheckpoint(network, "tiny", Preprocessing(SIDE))


@pytest.fixture(scope="module")
def student(teacher: TeacherCheckpoint) -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", teacher.teacher.dimension), seed=2).eval()
    torch.nn.init.constant_(network.pool.p, 3.7)
    return StudentCheckpoint(network, "small", teacher.space(), Preprocessing(SIDE), trained=True)


def whitening(seed: int, rows: Rows) -> Whitening:
    """A random projection round the mean of the rows, which makes their differences large."""
    generator = torch.Generator().manual_seed(seed)
    return Whitening(torch.from_numpy(rows.mean(0)), torch.randn(24, rows.shape[1], generator=generator))


def slow_rows(network: Teacher | Student, items: Sequence[ImageItem], scales: Scales) -> Rows:
    """Image by image and scale by scale, the mean in float64."""
    rows = []
    for item in items:
        with Image.open(item.path) as image:
            pixels = (np.asarray(image) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        whole = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()
        height, width = whole.shape[2:]
        power, powers = network.pool.p.item(), []
        for scale in scales:
            size = (int(height * scale), int(width * scale))
            with torch.inference_mode():
                row = network(functional.interpolate(whole, size, mode="bilinear", align_corners=False))
            powers.append(row[0].double().numpy() ** power)
        mean = (sum(powers) / len(scales)) ** (1 / power)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def slow_whitened(rows: Rows, layer: Whitening | None) -> Rows:
    if layer is None:
        return rows
    mean, projection = layer.mean.double().numpy(), layer.projection.double().numpy()
    projected = [projection @ (row - mean) for row in rows]
    return np.stack([row / np.linalg.norm(row) for row in projected])


@pytest.fixture(scope="module")
def make_index(teacher: TeacherCheckpoint, dataset: RetrievalDataset) -> Callable[[Scales], TeacherIndex]:
    def make(scales: Scales) -> TeacherIndex:
        rows = slow_rows(teacher.teacher, dataset.database_items, scales).astype(np.float32)
        path = Path("several" if len(scales) > 1 else "single")
        return TeacherIndex(path, teacher.space(), Preprocessing(SIDE), dataset.database_ids, rows, None, scales=scales)

    return make


def require_same(row: RetrievalRow, expected: RetrievalReport) -> None:
    for one, other in zip(
        (row.report.easy, row.report.medium, row.report.hard),
        (expected.easy, expected.medium, expected.hard),
        strict=True,
    ):
        assert one.average_precisions == pytest.approx(other.average_precisions, abs=1e-12, nan_ok=True)
        assert one.mean_precision_at_5 == pytest.approx(other.mean_precision_at_5, abs=1e-12)


Conditions = tuple[str, str, Scales, Scales, str | None]


def conditions(row: RetrievalRow) -> Conditions:
    return row.queries, row.database, row.query_scales, row.database_scales, row.whitening


def test_every_row_of_the_whole_table(
    dataset: RetrievalDataset,
    teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    make_index: Callable[[Scales], TeacherIndex],
    progress: Any,
) -> None:
    """Two indexes, each without and with the teacher's whitening; the student alone without and with its own."""
    plain = [make_index(scales) for scales in (SINGLE_SCALE, SEVERAL)]
    layers = {index.scales: whitening(3, index.embeddings.astype(np.float64)) for index in plain}
    own = whitening(4, slow_rows(student.student, dataset.database_items, SINGLE_SCALE))
    databases = [one for index in plain for one in (index, whitened_index(index, layers[index.scales]))]
    contestants = Contestants(student=student, teacher=teacher, student_whitening=own)
    rows = evaluate_contestants(contestants, databases, dataset, progress=progress)
    both = (SINGLE_SCALE, SEVERAL)
    assert [conditions(row) for row in rows] == [
        *(("teacher", "teacher", scales, scales, whose) for scales in both for whose in (None, "teacher")),
        *(("student", "student", scales, scales, whose) for scales in both for whose in (None, "student")),
        *(("student", "teacher", scales, scales, whose) for scales in both for whose in (None, "teacher")),
    ]
    networks: dict[str, Teacher | Student] = {"teacher": teacher.teacher, "student": student.student}
    for row in rows:
        layer = {None: None, "teacher": layers[row.query_scales], "student": own}[row.whitening]
        asked, stored = (
            slow_whitened(slow_rows(networks[side], items, row.query_scales), layer)
            for side, items in ((row.queries, dataset.query_items), (row.database, dataset.database_items))
        )
        require_same(row, evaluate_revisited(asked @ stored.T, dataset.ground_truth))
        assert row.whitening_sha256 == (None if layer is None else layer.sha256)
        assert row.index == (
            None if row.database == "student" else Path("single" if len(row.query_scales) == 1 else "several")
        )
    assert len({row.report.medium.mean_average_precision for row in rows}) > 6  # the rows can be told apart


def test_each_side_is_embedded_once(
    dataset: RetrievalDataset,
    teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    make_index: Callable[[Scales], TeacherIndex],
    progress: Any,
) -> None:
    """Queries twice, at one scale and at three, and the student's database as often; whitening embeds nothing."""
    seen = {"teacher": 0, "student": 0}
    hooks = [
        network.register_forward_hook(lambda *_, name=name: seen.update({name: seen[name] + 1}))
        for name, network in (("teacher", teacher.teacher), ("student", student.student))
    ]
    plain = [make_index(scales) for scales in (SINGLE_SCALE, SEVERAL)]
    layer = whitening(3, plain[0].embeddings.astype(np.float64))
    databases = [one for index in plain for one in (index, whitened_index(index, layer))]
    seen.update(teacher=0, student=0)
    contestants = Contestants(student=student, teacher=teacher, student_whitening=layer)
    try:
        assert len(evaluate_contestants(contestants, databases, dataset, progress=progress)) == 12
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == {"teacher": (1 + 3) * QUERIES, "student": (1 + 3) * (QUERIES + DATABASE)}
    assert sorted(progress.announced) == [
        ("database, student", DATABASE),
        ("database, student, 3 scales", DATABASE),
        ("queries, student", QUERIES),
        ("queries, student, 3 scales", QUERIES),
        ("queries, teacher", QUERIES),
        ("queries, teacher, 3 scales", QUERIES),
    ]


def test_scales_that_are_asked_for_are_those_of_queries(
    dataset: RetrievalDataset,
    teacher: TeacherCheckpoint,
    student: StudentCheckpoint,
    make_index: Callable[[Scales], TeacherIndex],
) -> None:
    """An index stays what it is; the student's own database is embedded as its queries are."""
    index = make_index(SINGLE_SCALE)
    contestants = Contestants(student=student, teacher=teacher, scales=(SINGLE_SCALE, SEVERAL))
    rows = evaluate_contestants(contestants, [index], dataset)
    assert [conditions(row) for row in rows] == [
        ("teacher", "teacher", SINGLE_SCALE, SINGLE_SCALE, None),
        ("teacher", "teacher", SEVERAL, SINGLE_SCALE, None),
        ("student", "student", SINGLE_SCALE, SINGLE_SCALE, None),
        ("student", "student", SEVERAL, SEVERAL, None),
        ("student", "teacher", SINGLE_SCALE, SINGLE_SCALE, None),
        ("student", "teacher", SEVERAL, SINGLE_SCALE, None),
    ]
    asked = slow_rows(student.student, dataset.query_items, SEVERAL)
    require_same(rows[-1], evaluate_revisited(asked @ index.embeddings.T, dataset.ground_truth))


def manifest(space: EmbeddingSpace) -> Manifest:
    return Manifest(
        space=space,
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student="small",
        backbone="mobilenetv2_035",
        weights_sha256="1" * 64,
        format=Format.ONNX,
        precision=Precision.FP32,
        target="opset 20",
    )


def test_a_file_asks_those_whose_whitening_it_carries(
    dataset: RetrievalDataset, teacher: TeacherCheckpoint, make_index: Callable[[Scales], TeacherIndex]
) -> None:
    """At its one scale, whatever that of the index."""
    several = make_index(SEVERAL)
    databases = [several, whitened_index(several, whitening(3, several.embeddings.astype(np.float64)))]
    for database in databases:
        (one,) = pairings(Contestants(artifact=Artifact(Path("a.onnx"), manifest(database.space))), databases)
        assert one.database is database
        assert (one.queries.name, one.queries.scales, one.whitening) == ("file", SINGLE_SCALE, None)
    stranger = replace(teacher.space(), whitening_sha256="f" * 64)
    with pytest.raises(SpaceMismatchError, match=r"^the file a\.onnx lives in .*whitening ffffffff, but the index sev"):
        pairings(Contestants(artifact=Artifact(Path("a.onnx"), manifest(stranger))), databases)


def test_a_student_of_a_whitened_space_asks_whitened_indexes_only(
    teacher: TeacherCheckpoint, make_index: Callable[[Scales], TeacherIndex]
) -> None:
    plain = make_index(SINGLE_SCALE)
    whitened = whitened_index(plain, whitening(3, plain.embeddings.astype(np.float64)))
    network = Student(StudentSpec("mobilenetv2_035", 24), seed=2).eval()
    student = StudentCheckpoint(network, "w", whitened.space, Preprocessing(SIDE), trained=True)
    alone, asking = pairings(Contestants(student=student), [plain, whitened])
    assert alone.queries == alone.database == asking.queries
    assert (asking.database, asking.whitening) == (whitened, None)


def test_one_index_of_another_teacher_is_enough_to_refuse(
    teacher: TeacherCheckpoint, student: StudentCheckpoint, make_index: Callable[[Scales], TeacherIndex]
) -> None:
    plain = make_index(SINGLE_SCALE)
    other = replace(plain, path=Path("other"), space=replace(plain.space, weights_sha256="b" * 64))
    for contestants in (
        Contestants(student=student),
        Contestants(teacher=teacher),
        Contestants(artifact=Artifact(Path("a.onnx"), manifest(plain.space))),
    ):
        with pytest.raises(SpaceMismatchError, match=r"but the index other in .*different weights_sha256"):
            pairings(contestants, [plain, other])
