"""`measure_compatibility`: what an artifact does to a student's embeddings, as numbers.

Nothing is judged and nothing is printed here: `aml_edge.exporters.judgement` judges,
`aml_edge.exporters.compatibility_tables` prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aml_edge.approximate.cost import ApproximationCost
from aml_edge.approximate.searches import NONE_OPENED, OpenedSearches
from aml_edge.artifact import Precision
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.exporters.agreement import (
    EmbeddingAgreement,
    Spread,
    agreement_of,
    cosines,
    evenly_spaced,
    median_pair_distance,
    non_finite_rows,
    own_teacher_first,
    spread_of,
)
from aml_edge.exporters.approximation import measure_approximation
from aml_edge.exporters.half_precision_agreement import HalfPrecisionAgreement
from aml_edge.exporters.kernel_agreement import KernelAgreement
from aml_edge.exporters.rank_agreement import RankAgreement, measure_rank_agreement
from aml_edge.exporters.remembering import RememberingEmbedder
from aml_edge.exporters.retrieval_agreement import QueryEmbeddings, RetrievalAgreement, measure_retrieval_agreement
from aml_edge.exporters.verification_images import VerificationImages
from aml_edge.formats import OperatorCensus
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.index import TeacherIndex
from aml_edge.progress import Progress, SilentProgress


@dataclass(frozen=True)
class TeacherAgreement:
    """How near student and artifact are to the teacher, on images that are rows of the index.

    Args:
        images: how many of them there are.
        student_cosine: to the teacher's embedding of the same image, before export: the distillation's error.
        artifact_cosine: after export; what it lost is the export's error.
        student_own_first, artifact_own_first: how often the image's own teacher embedding is nearer than another's.
    """

    images: int
    student_cosine: Spread
    artifact_cosine: Spread
    student_own_first: float
    artifact_own_first: float


@dataclass(frozen=True)
class CompatibilityReport:
    """What an artifact does to a student's embeddings.

    Args:
        runtime: what ran the file.
        source: of the images.
        images: how many were embedded.
        distinct_images: how many of them differ in the pixels that the file was given.
        student_non_finite: images whose embedding by the student itself holds NaN or an infinity.
        student_pair_distance: median of 1 − cosine over pairs of the student's embeddings.
        index_pair_distance: the same over the teacher's index.
        retrieval: None where there is no ground truth.
        ranking: on the teacher's index.
        agreement: of artifact and student.
        teacher: None where none of the images is in the index.
        precision: of the file.
        half_precision: None where it was not simulated.
        kernels: None where the runtime has one kind of kernels for the file.
        census: None where there is no file.
        approximation: what each approximate index that was named costs; empty where an embedding is not finite.
        unreadable: (path, reason) of images that were left out because the caller said so.
    """

    runtime: str
    source: str
    images: int
    distinct_images: int
    student_non_finite: int
    student_pair_distance: float
    index_pair_distance: float
    retrieval: RetrievalAgreement | None
    ranking: RankAgreement
    agreement: EmbeddingAgreement
    teacher: TeacherAgreement | None
    precision: Precision = Precision.FP32
    half_precision: HalfPrecisionAgreement | None = None
    kernels: KernelAgreement | None = None
    census: OperatorCensus | None = None
    unreadable: tuple[tuple[str, str], ...] = ()
    approximation: tuple[ApproximationCost, ...] = ()


@dataclass(frozen=True)
class Sides:
    """What is compared.

    Args:
        student: at the artifact's preprocessing.
        artifact: the file in its runtime.
        native_student: the student at its own preprocessing, to tell what the file's square costs.
    """

    student: Embedder
    artifact: Embedder
    native_student: Embedder


def measure_compatibility(
    sides: Sides,
    index: TeacherIndex,
    images: VerificationImages,
    *,
    searches: OpenedSearches = NONE_OPENED,
    progress: Progress | None = None,
) -> CompatibilityReport:
    """Returns how far the artifact agrees with the student, and both with the teacher's index.

    The sides' spaces are taken to be the index's: `aml_edge.exporters.verification` refuses others before.

    Args:
        sides: what is compared.
        index: the teacher's.
        images: to embed.
        searches: approximate indexes of the index, whose cost is measured too.
        progress: where the work is announced.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
        TeacherIndexError: the ground truth is about images that are not in the index, the index holds an embedding
            that cannot be one, or an approximate index is damaged.
    """
    progress = progress or SilentProgress()
    remembered = RememberingEmbedder(sides.artifact)
    student = _embed(sides.student, images.items, progress, "student")
    artifact = _embed(remembered, images.items, progress, sides.artifact.name)
    retrieval = None
    if images.ground_truth:
        queries = slice(len(images.queries))
        native = _embed(sides.native_student, images.queries, progress, "student, native pixels")
        database = index.checked_embeddings[index.rows_of(images.database_ids)]
        embedded = QueryEmbeddings(native, student[queries], artifact[queries])
        retrieval = measure_retrieval_agreement(embedded, database, images.ground_truth)
    return CompatibilityReport(
        runtime=sides.artifact.name,
        source=images.source,
        images=len(images.items),
        distinct_images=remembered.distinct_images,
        student_non_finite=non_finite_rows(student),
        student_pair_distance=median_pair_distance(student),
        index_pair_distance=median_pair_distance(index.checked_embeddings[evenly_spaced(len(index.ids), 512)]),
        retrieval=retrieval,
        ranking=measure_rank_agreement(student, artifact, index.checked_embeddings),
        agreement=agreement_of(student, artifact),
        teacher=_teacher_agreement(student, artifact, index, images),
        unreadable=images.unreadable,
        approximation=measure_approximation(artifact, index, images, searches),
    )


def _teacher_agreement(
    student: Embeddings, artifact: Embeddings, index: TeacherIndex, images: VerificationImages
) -> TeacherAgreement | None:
    known = set(index.ids)
    present = [place for place, one in enumerate(images.other_ids) if one in known]
    if not present:
        return None
    teacher = index.checked_embeddings[index.rows_of([images.other_ids[place] for place in present])]
    rows = [len(images.queries) + place for place in present]
    return TeacherAgreement(
        images=len(present),
        student_cosine=spread_of(cosines(student[rows], teacher)),
        artifact_cosine=spread_of(cosines(artifact[rows], teacher)),
        student_own_first=own_teacher_first(student[rows], teacher),
        artifact_own_first=own_teacher_first(artifact[rows], teacher),
    )


def _embed(embedder: Embedder, items: Sequence[ImageItem], progress: Progress, description: str) -> Embeddings:
    return embed_items(embedder, items, progress=progress, description=f"embedding, {description}")
