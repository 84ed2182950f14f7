"""What approximate search of the teacher's index costs a file's queries, beside what the export costs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aml_edge.approximate.cost import ApproximationCost, approximate_ranks, found_shares, measured_cost
from aml_edge.approximate.searches import OpenedSearches
from aml_edge.embedder import Embeddings
from aml_edge.exporters.verification_images import VerificationImages
from aml_edge.index import TeacherIndex
from aml_edge.index.joined import JoinedIndex
from aml_edge.labelled_ranks import LabelledRanks, labelled_ranks
from aml_edge.protocol import RECALL_AT, Protocol
from aml_edge.ranking import QueryGroundTruth


def measure_approximation(
    artifact: Embeddings,
    index: TeacherIndex,
    images: VerificationImages,
    searches: OpenedSearches,
) -> tuple[ApproximationCost, ...]:
    """Returns what each approximate index of an index costs, by the file's embeddings alone: no export is in it.

    Args:
        artifact: (N, D) of the images, queries first; where one is not finite nothing is measured.
        index: searched exactly.
        images: with ground truth where the measures are wanted too.
        searches: approximate indexes of the index.
    """
    if not np.isfinite(artifact).all():
        return ()
    queries, labels = artifact[: len(images.queries)], _Labels(images.database_ids, images.ground_truth)
    exact: tuple[LabelledRanks, ...] = ()
    if searches.databases and images.ground_truth:
        exact = labelled_ranks(queries, JoinedIndex(index).rows_after(images.database_ids), images.ground_truth)
    costs = []
    for database in searches.databases:
        ranks = approximate_ranks(queries, database, labels, searches.depth) if exact else ()
        cost = measured_cost(database, labels, exact, ranks, searches.depth)
        costs.append(
            replace(cost, queries=len(artifact), found=found_shares(artifact, database, index.checked_embeddings))
        )
    return tuple(costs)


@dataclass(frozen=True)
class _Labels:
    """The ground truth in the settings of the revisited protocol, in which an export's cost is given too."""

    database_ids: tuple[str, ...]
    ground_truth: Sequence[QueryGroundTruth]
    protocol: Protocol = Protocol.REVISITED
    recall_at: tuple[int, ...] = RECALL_AT
