"""Training as the published code does it, written anew from the paper's description, to be measured against.

One image at a time through the network, gradients added up over the tuples of a batch; the pool's images ranked whole
for each query, and the ranks walked through by a loop until enough clusters were met.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, section 5.1,
for the batches; Budnik and Avrithis, CVPR 2021, for the teacher's stored embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aml_edge.embedder import Embeddings
from aml_edge.image_loading import ImageItem
from aml_edge.networks.frozen_batch_norm import freeze_batch_norm
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.training.losses import Loss
from aml_edge.training.mining import Clusters, PoolRows
from aml_edge.training.optimisation import build_optimiser
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.tuples import Tuples

DECODING_PROCESSES = 2


class AnchorImages(Dataset[Tensor]):
    """The anchors of some tuples, decoded one by one.

    Args:
        items: images of the training set.
        anchors: rows of it.
        preprocessing: of them.
    """

    def __init__(self, items: Sequence[ImageItem], anchors: Sequence[int], preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self._items = [items[row] for row in anchors]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> Tensor:
        return torch.from_numpy(load_pixels(self._items[place].path, self.preprocessing))


def train_one_by_one(
    student: Student,
    images: AnchorImages,
    tuples: Tuples,
    teacher_rows: Tensor,
    loss: Loss,
    settings: TrainingSettings,
) -> list[float]:
    """Trains a student in place on each tuple once, and returns the mean loss of each batch.

    Gradients are means over a batch, as ours are; the published code sums them, which costs the same.

    Args:
        student: its batch-norm statistics stay.
        images: the anchors, in the order of the tuples.
        tuples: rows of `teacher_rows`; without positives the loss is one of anchor and teacher anchor.
        teacher_rows: (N, D).
        loss: of one tuple, summed; takes tuples and `teacher_anchor` where there are positives.
        settings: of these batch size, learning rate and weight decay count.
    """
    student.train()
    freeze_batch_norm(student)
    normalise = Normalise(images.preprocessing.mean, images.preprocessing.std)
    groups = [{**group, "fused": False} for group in build_optimiser(student, settings).param_groups]
    optimiser = torch.optim.Adam(groups)
    losses: list[float] = []
    held = 0.0
    loader: DataLoader[Tensor] = DataLoader(images, batch_size=None, num_workers=DECODING_PROCESSES)
    optimiser.zero_grad()
    for place, pixels in enumerate(loader):
        anchor = student(normalise(pixels[None]))  # (1, D)
        size = min(settings.batch_size, len(tuples) - place // settings.batch_size * settings.batch_size)
        value = _loss_of_one(loss, anchor, tuples.part(place, place + 1), teacher_rows) / size
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        held += value.item()
        if (place + 1) % settings.batch_size == 0 or place + 1 == len(tuples):
            optimiser.step()
            optimiser.zero_grad()
            losses.append(held)
            held = 0.0
    return losses


def hardest_by_full_ranks(
    queries: Embeddings, query_clusters: Clusters, pool: Embeddings, pool_clusters: Clusters, count: int
) -> PoolRows:
    """Returns (Q, count) rows of the pool as `aml_edge.training.mining.hardest_negatives` does, the published way."""
    similarities = torch.from_numpy(pool) @ torch.from_numpy(queries).T  # (M, Q)
    ranks = torch.sort(similarities, dim=0, descending=True).indices  # (M, Q)
    found: list[list[int]] = []
    for query in range(len(queries)):
        taken: list[int] = []
        met = [int(query_clusters[query])]
        place = 0
        while len(taken) < count:
            row = int(ranks[place, query])
            if pool_clusters[row] not in met:
                taken.append(row)
                met.append(int(pool_clusters[row]))
            place += 1
        found.append(taken)
    return np.array(found, np.int64)


def _loss_of_one(loss: Loss, anchor: Tensor, one: Tuples, teacher_rows: Tensor) -> Tensor:
    of_teacher = teacher_rows[torch.from_numpy(one.anchors)]
    if not one.positives.shape[1]:
        return loss(anchor, of_teacher, reduction="sum")
    positives, negatives = (teacher_rows[torch.from_numpy(rows)] for rows in (one.positives, one.negatives))
    return loss(anchor, positives, negatives, teacher_anchor=of_teacher, reduction="sum")
