"""An evaluation that asks approximate indexes too: rows beside the exact ones, and what approximation costs."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.found_ranks import found_ranks
from aml_edge.approximate.searches import ApproximateSearches
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.contestants import Contestants
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.loading import load_test_set
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.errors import UsageError
from aml_edge.evaluation import evaluate_contestants, measure_contestants
from aml_edge.image_loading import embed_items
from aml_edge.index import TeacherIndex, encode_ids, open_index
from aml_edge.index.building import build_index
from aml_edge.index.record import RECORD_FILE, IndexRecord
from aml_edge.index.whitening import whitened_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.protocol import Protocol
from aml_edge.ranking import revisited_report
from aml_edge.runtimes.checkpoint_embedders import student_embedder, teacher_embedder

FLAT, LISTS = ApproximateSpec("Flat"), approximate_spec("IVF2,Flat:nprobe=1")


@pytest.fixture(scope="module")
def dataset(few_landmarks: Path) -> RetrievalDataset:
    return load_test_set(few_landmarks / "test" / "synth")


@pytest.fixture(scope="module")
def student() -> StudentCheckpoint:
    """A student of a teacher whose index is made below."""
    torch.set_num_threads(1)
    teacher = TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval(), "tiny", Preprocessing(64))
    network = Student(StudentSpec("mobilenetv2_035", teacher.teacher.dimension), seed=2).eval()
    return StudentCheckpoint(network, "small", teacher.space(), Preprocessing(64), trained=True)


@pytest.fixture(scope="module")
def indexes(dataset: RetrievalDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TeacherIndex, TeacherIndex]:
    """The data set's index, and one of nine distractors whose rows lie between its rows; each with two structures."""
    folder = tmp_path_factory.mktemp("indexes")
    teacher = TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval(), "tiny", Preprocessing(64))
    first = build_index(teacher_embedder(teacher, teacher.preprocessing), image_source(dataset.root), folder / "own")
    generator = np.random.default_rng(0)
    mixed = generator.random((9, len(first.ids))) @ first.embeddings
    rows = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    ids = encode_ids([f"far/{number}.jpg" for number in range(9)])
    record = IndexRecord.loads((first.path / RECORD_FILE).read_text())
    (folder / "far").mkdir()
    np.save(folder / "far" / "embeddings.npy", rows)
    (folder / "far" / "ids.txt").write_bytes(ids)
    other = replace(record, count=9, ids_sha256=hashlib.sha256(ids).hexdigest(), embeddings_sha256=None)
    (folder / "far" / RECORD_FILE).write_text(replace(other, images_sha256=None).dumps())
    second = open_index(folder / "far")
    for index in (first, second):
        for spec in (FLAT, LISTS):
            build_approximate(index, spec)
    return first, second


@pytest.mark.parametrize("with_distractors", [False, True])
def test_a_flat_structure_gives_exactly_the_exact_numbers(
    dataset: RetrievalDataset,
    student: StudentCheckpoint,
    indexes: tuple[TeacherIndex, TeacherIndex],
    with_distractors: bool,
) -> None:
    index, further = indexes[0], indexes[1:] if with_distractors else ()
    searches = ApproximateSearches((FLAT,))
    own, exact, flat = evaluate_contestants(
        Contestants(student=student), [index], dataset, distractors=further, searches=searches
    )
    database = "teacher + 9" if with_distractors else "teacher"
    assert [one.name for one in (own, exact, flat)] == [
        "student → student",
        f"student → {database}",
        f"student → {database}, Flat",
    ]
    assert flat.approximation is not None
    assert replace(flat, approximation=None) == exact
    assert own.approximation is exact.approximation is None
    cost = flat.approximation
    images = len(dataset.database_ids) + (9 if with_distractors else 0)
    assert (cost.ann, cost.database_images, cost.depth, cost.queries) == ("Flat", images, images, 2)
    assert [(one.name, one.difference) for one in cost.measures] == [
        ("easy mAP", 0.0),
        ("medium mAP", 0.0),
        ("hard mAP", 0.0),
    ]
    assert [one.exact for one in cost.measures] == [
        one.mean_average_precision for one in (exact.report.easy, exact.report.medium, exact.report.hard)
    ]


def test_lists_of_a_depth_are_what_the_search_returns(
    dataset: RetrievalDataset, student: StudentCheckpoint, indexes: tuple[TeacherIndex, TeacherIndex]
) -> None:
    searches = ApproximateSearches((FLAT, LISTS), depth=2)
    rows = evaluate_contestants(Contestants(student=student), [indexes[0]], dataset, searches=searches)
    assert [row.name for row in rows[1:]] == [
        "student → teacher",
        "student → teacher, Flat",
        "student → teacher, IVF2,Flat:nprobe=1",
    ]
    with closing(student_embedder(student, student.preprocessing)) as embedder:
        queries = embed_items(embedder, dataset.query_items)
    database = indexes[0].embeddings[indexes[0].rows_of(dataset.database_ids)]
    nearest = np.argsort(-(queries @ database.T), axis=1)[:, :2]
    assert rows[2].report == revisited_report(found_ranks(nearest.astype(np.int64), dataset.ground_truth))
    assert rows[2].approximation is not None
    assert rows[2].approximation.depth == 2


def test_other_protocols_have_approximate_rows_too(
    dataset: RetrievalDataset, student: StudentCheckpoint, indexes: tuple[TeacherIndex, TeacherIndex], progress: Any
) -> None:
    landmarks = replace(dataset, protocol=Protocol.LANDMARKS)
    searches = ApproximateSearches((FLAT,))
    _, exact, flat = measure_contestants(
        Contestants(student=student), [indexes[0]], landmarks, searches=searches, progress=progress
    )
    assert flat.name == "student → teacher, Flat"
    assert flat.report == exact.report
    assert flat.approximation is not None
    assert [(one.name, one.difference) for one in flat.approximation.measures] == [("mAP@100", 0.0)]
    assert ("searching Flat", 2) in progress.announced


def test_what_is_whitened_as_it_is_read_has_no_structure(
    dataset: RetrievalDataset, student: StudentCheckpoint, indexes: tuple[TeacherIndex, TeacherIndex]
) -> None:
    generator, dimension = torch.Generator().manual_seed(0), indexes[0].space.dimension
    layer = Whitening(torch.rand(dimension, generator=generator), torch.randn(8, dimension, generator=generator))
    databases = [indexes[0], whitened_index(indexes[0], layer)]
    rows = evaluate_contestants(Contestants(student=student), databases, dataset, searches=ApproximateSearches((FLAT,)))
    assert [(row.name, row.whitening) for row in rows[1:]] == [
        ("student → teacher", None),
        ("student → teacher, Flat", None),
        ("student → teacher", "teacher"),
    ]


def test_a_missing_one_is_said_before_anything_is_embedded(
    dataset: RetrievalDataset, student: StudentCheckpoint, indexes: tuple[TeacherIndex, TeacherIndex], progress: Any
) -> None:
    searches = ApproximateSearches((ApproximateSpec("PQ8"),))
    with pytest.raises(
        UsageError, match=r"`ann` is 'PQ8', which the index .* does not have \(it has Flat; IVF2,Flat\)"
    ):
        evaluate_contestants(Contestants(student=student), [indexes[0]], dataset, searches=searches, progress=progress)
    assert progress.announced == []


def test_a_depth_is_at_least_one() -> None:
    with pytest.raises(UsageError, match=r"^`ann_depth` is 0; a search returns at least one image\.$"):
        ApproximateSearches((FLAT,), depth=0)
