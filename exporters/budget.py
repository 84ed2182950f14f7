"""A budget of asymmetric mAP for a file in integers: which blocks it takes, and whether the real file keeps it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from aml_edge.artifact import Artifact, Verdict
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.exporters import EXPORTERS
from aml_edge.exporters.export import manifest_of
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.files_to_time import FilesToTime
from aml_edge.exporters.judgement import Judgement
from aml_edge.exporters.preparation import PreparedStudent
from aml_edge.exporters.quantization.block_prices import (
    FLOAT_BYTES,
    BlockPrices,
    latency_prices,
    operation_prices,
    size_prices,
)
from aml_edge.exporters.quantization.query_set import QuerySet, load_query_set
from aml_edge.exporters.quantization.search import (
    MixedPrecision,
    require_budget,
    search_mixed_precision,
    verdict_of,
)
from aml_edge.exporters.verification import Verification
from aml_edge.formats import write_manifest
from aml_edge.index import TeacherIndex
from aml_edge.map_drop import QuerySplit, split_queries
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.progress import Progress
from aml_edge.quantization.graph import SiteKind
from aml_edge.quantization_record import SearchBy, SearchRecord
from aml_edge.runtimes import open_artifact, verification_runtime
from aml_edge.runtimes.checkpoint_embedders import student_embedder


@dataclass(frozen=True)
class Budget:
    """What a file may lose.

    Args:
        max_drop: points of 100 of medium mAP, the 95 % interval included.
        by: what the search makes small.
    """

    max_drop: float
    by: SearchBy

    def __post_init__(self) -> None:
        require_budget(self.max_drop)


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a search chose for one file.

    Args:
        prepared: the student with those blocks in floating point.
        found: by the search, on the queries that choose.
        queries: all of them, at the file's pixels.
        split: which of them chose, and which judge.
    """

    prepared: PreparedStudent
    found: MixedPrecision
    queries: QuerySet
    split: QuerySplit


class BudgetSearch:
    """Searches and judges the files of one student.

    Args:
        checkpoint: the student.
        index: the teacher's.
        dataset: whose queries choose and judge.
        budget: what may be lost.

    Raises:
        UsageError: the data set has no settings, or too few queries with a positive to choose and judge by.
    """

    def __init__(
        self,
        checkpoint: StudentCheckpoint,
        index: TeacherIndex,
        dataset: RetrievalDataset,
        budget: Budget,
    ) -> None:
        dataset.require_settings()
        self._split = split_queries(dataset.ground_truth)
        self._checkpoint, self._index, self._dataset, self._budget = checkpoint, index, dataset, budget
        self._whitening = index.whitening_for(checkpoint.space, name=f"student '{checkpoint.name}'")

    def choose(self, prepared: PreparedStudent, spec: ExportSpec, progress: Progress) -> Chosen:
        """Returns which blocks of a file stay in floating point; raises as `load_query_set` does."""
        assert prepared.post_training is not None, "training has chosen the blocks"
        preprocessing = self._checkpoint.preprocessing.fitted(spec.fit, spec.image_side_px)
        queries = load_query_set(self._dataset, self._index, preprocessing, progress)
        found = search_mixed_precision(
            prepared.post_training,
            queries.taken(self._split.selection),
            self._budget.max_drop,
            self._prices(prepared, spec, progress),
            progress,
        )
        return Chosen(prepared.with_chosen(found.reasons), found, queries, self._split)

    def judge(self, artifact: Artifact, chosen: Chosen) -> SearchRecord:
        """Returns what the real file loses on the queries that did not choose, in the runtime that verifies it."""
        student = student_embedder(self._checkpoint, artifact.manifest.preprocessing, whitening=self._whitening)
        images, queries = list(chosen.queries.images), chosen.queries
        with closing(open_artifact(artifact, verification_runtime(artifact))) as file:
            rows = student.embed(images), file.embed(images)
        return verdict_of(chosen.found, *rows, queries.database, queries.ground_truth, chosen.split)

    def _prices(self, prepared: PreparedStudent, spec: ExportSpec, progress: Progress) -> BlockPrices:
        post_training = prepared.post_training
        assert post_training is not None
        if self._budget.by is SearchBy.SIZE:
            return size_prices(post_training.graph)
        if EXPORTERS[spec.format].lower is None:  # Core ML, which no machine but a Mac times
            return operation_prices(post_training.graph)
        blocks = [block for block in post_training.graph.blocks if block not in post_training.float_blocks]
        with TemporaryDirectory() as folder:
            files = FilesToTime(
                post_training.quantized(), spec, manifest_of(self._checkpoint, spec, self._index.space), Path(folder)
            )
            image = prepared.images[0]
            return latency_prices(blocks, post_training.float_blocks, files.open, image, progress=progress)


def with_search(artifact: Artifact, record: SearchRecord) -> Artifact:
    """Returns the artifact with what its search came to in its manifest, inside the file and beside it."""
    quantization = artifact.manifest.quantization
    assert quantization is not None, "a file of a calibrated precision says how its integers were chosen"
    manifest = replace(artifact.manifest, quantization=replace(quantization, search=record))
    return write_manifest(Artifact(artifact.path, manifest))


@dataclass(frozen=True)
class FileCost:
    """What a file costs beside one in fp32, as far as it is known without timing it on a phone.

    Args:
        size_bytes: of the file, or of the folder that it is.
        float_size_bytes: what the weights of its convolutions take in fp32.
        integer_share: of the multiplications of its convolutions that are in integers, 0 to 1.
    """

    size_bytes: int
    float_size_bytes: int
    integer_share: float

    def describe(self) -> str:
        """Returns it in words, e.g. ``"4.31 MB beside 13.48 in fp32, 92 % of multiplications in integers"``."""
        return (
            f"{self.size_bytes / 1e6:.2f} MB beside {self.float_size_bytes / 1e6:.2f} in fp32, "
            f"{100 * self.integer_share:.0f} % of multiplications in integers"
        )


def cost_of(artifact: Artifact, prepared: PreparedStudent) -> FileCost:
    """Returns what a file costs that was made from a prepared student."""
    graph, float_blocks = prepared.quantized.graph, prepared.quantized.quantization.float_blocks
    macs = operation_prices(graph).of_block
    in_integers = sum(count for block, count in macs.items() if block not in float_blocks)
    convolutions = [site for site in graph.sites if site.kind is SiteKind.CONVOLUTION]
    weights = sum(graph.state(site.weight).numel() for site in convolutions)
    return FileCost(artifact.size_bytes, FLOAT_BYTES * weights, in_integers / (sum(macs.values()) or 1))


def judged_by_budget(verification: Verification, chosen: Chosen, record: SearchRecord, cost: FileCost) -> Verification:
    """Returns the verification, failed where the budget is not kept: by the search, or by the real file."""
    if record.held and chosen.found.held:
        return verification
    judgement = verification.judgement
    reasons = (over_budget(chosen, record, cost), *(judgement.reasons if judgement.verdict is Verdict.FAILED else ()))
    return replace(verification, judgement=Judgement(Verdict.FAILED, reasons, judgement.warnings))


def over_budget(chosen: Chosen, record: SearchRecord, cost: FileCost) -> str:
    """Returns in words that the budget is not kept, by how much, and what the best file that was found costs."""
    found, blocks = chosen.found, len(chosen.found.chosen)
    kept = "it held on those that chose" if found.held else "no choice of blocks keeps it on those that chose either"
    wide = ", measure on more queries, which narrow the interval" if record.drop <= record.max_drop else ""
    return (
        f"`max_drop` is {record.max_drop:g}, but {record.drop:.2f} [{record.low:.2f}, {record.high:.2f}] points of "
        f"asymmetric mAP are lost on {record.verdict_queries} queries that did not choose ({kept}); the best found "
        f"keeps {blocks} more block{'' if blocks == 1 else 's'} in floating point for "
        f"{found.prices.text(found.price)}: {cost.describe()}; allow more{wide}, train for integers "
        "(`aml-edge train --qat`), or export fp32"
    )
