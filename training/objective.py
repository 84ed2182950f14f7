"""`Objective`: the loss of tuples of one split, from the embeddings that the network gave of their images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.training.losses import Bank, Takes, loss_spec, loss_with_options
from aml_edge.training.losses.ssp import SUBSPACES, product_centroids
from aml_edge.training.settings import Mining, Mode, TrainingSettings
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.tuples import Rows, Tuples


@dataclass(frozen=True)
class TupleImages:
    """The images of some tuples that the network must embed, each once.

    Args:
        rows: (U,) of the training set, rising.
        places: (B, 1 + P + N) in asymmetric mode (B, 1): where in `rows` anchor, positives and negatives are.
    """

    rows: Rows
    places: Rows


def require_possible(settings: TrainingSettings) -> None:
    """Raises `UsageError` where loss, options, mode and mining do not belong together."""
    spec = loss_spec(settings.loss)
    loss_with_options(settings.loss, settings.loss_options)
    if (spec.takes is Takes.TUPLES) is (settings.mining is Mining.NONE):
        wanted = "'hard' or 'random'" if spec.takes is Takes.TUPLES else "'none'"
        raise UsageError(
            f"`mining` is '{settings.mining}', but the loss {settings.loss} is a function of {spec.takes}; "
            f"it must be {wanted}."
        )
    if bool(settings.bank_size) and spec.bank is Bank.NONE:
        raise UsageError(
            f"`bank_size` is {settings.bank_size}, but the loss {settings.loss} takes no bank; set it to 0."
        )
    if not settings.bank_size and spec.bank is Bank.CENTROIDS:
        raise UsageError(f"`bank_size` is 0, but the loss {settings.loss} needs {spec.bank}; set it to 256, say.")
    if settings.mode is Mode.SYMMETRIC and (spec.takes is Takes.IMAGES or spec.teacher_anchor):
        raise UsageError(
            f"`mode` is 'symmetric', but the loss {settings.loss} needs a teacher; it must be 'asymmetric'."
        )


def leaves_the_space(settings: TrainingSettings) -> bool:
    """Returns whether a student trained so has no reason to stand where the teacher's index stands."""
    return settings.mode is Mode.SYMMETRIC or not loss_spec(settings.loss).ties


class Objective:
    """The loss of tuples of one split.

    Args:
        settings: loss, its options, and mode.
        training_set: with teacher embeddings in asymmetric mode.
        device: where losses are computed.
        bank: of the training images, where this is the objective of others; else made here.

    Raises:
        UsageError: the settings do not belong together, or teacher embeddings are missing.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        training_set: TrainingSet,
        device: torch.device | str = "cpu",
        *,
        bank: Tensor | None = None,
    ) -> None:
        require_possible(settings)
        self._spec = loss_spec(settings.loss)
        self._loss = loss_with_options(settings.loss, settings.loss_options)
        self._symmetric = settings.mode is Mode.SYMMETRIC
        self.whole_batch = self._spec.whole_batch_beside_bank if settings.bank_size else self._spec.whole_batch
        self._targets: Tensor | None = None
        if not self._symmetric:
            if training_set.teacher is None:
                raise UsageError("`mode` is 'asymmetric', which needs the teacher's index of the training images.")
            self._targets = torch.from_numpy(training_set.teacher.rows).to(device)
        self._settings, self._given_bank = settings, bank

    @cached_property
    def bank(self) -> Tensor | None:
        """(M, D) what the loss compares the batch with, made when it is first asked for; None where it takes none."""
        if self._given_bank is None and self._settings.bank_size and self._targets is not None:
            return _bank(self._settings, self._targets)
        return self._given_bank

    def require_batch(self, anchors: int) -> None:
        """Raises the loss's `UsageError` where batches of so many anchors are too small for it, before any is made."""
        if self.whole_batch and self._targets is not None and not self._settings.bank_size:
            rows = self._targets[:anchors]
            with torch.no_grad():
                self._loss(rows, rows, reduction="sum")

    def images_of(self, tuples: Tuples) -> TupleImages:
        """Returns which images the network must embed: anchors only, or in symmetric mode all of them."""
        rows = tuples.anchors[:, None]
        if self._symmetric:
            rows = np.concatenate([rows, tuples.positives, tuples.negatives], axis=1)
        unique, places = np.unique(rows, return_inverse=True)
        return TupleImages(unique, places.reshape(rows.shape))

    def loss_sum(self, tuples: Tuples, images: TupleImages, embeddings: Tensor) -> Tensor:
        """Returns the loss summed over the anchors.

        Args:
            tuples: B of them.
            images: of these tuples.
            embeddings: (U, D) of `images.rows`.
        """
        embedded = embeddings[torch.from_numpy(images.places).to(embeddings.device)]  # (B, 1 or 1 + P + N, D)
        anchor = embedded[:, 0]
        if self._spec.takes is Takes.IMAGES:
            bank = {} if self.bank is None else {"bank": self.bank}
            return self._loss(anchor, self._teacher_rows(tuples.anchors), **bank, reduction="sum")
        if self._symmetric:
            count = tuples.positives.shape[1]
            positives, negatives = embedded[:, 1 : 1 + count], embedded[:, 1 + count :]
        else:
            positives, negatives = self._teacher_rows(tuples.positives), self._teacher_rows(tuples.negatives)
        if not self._spec.teacher_anchor:
            return self._loss(anchor, positives, negatives, reduction="sum")
        teacher_anchor = self._teacher_rows(tuples.anchors)
        return self._loss(anchor, positives, negatives, teacher_anchor=teacher_anchor, reduction="sum")

    def _teacher_rows(self, rows: Rows) -> Tensor:
        assert self._targets is not None
        return self._targets[torch.from_numpy(rows).to(self._targets.device)]


def _bank(settings: TrainingSettings, targets: Tensor) -> Tensor:
    """Returns (M, D) teacher embeddings by lot, or centroids of all; the same for the same seed."""
    generator = torch.Generator().manual_seed(settings.seed)
    if loss_spec(settings.loss).bank is Bank.CENTROIDS:
        subspaces = settings.loss_options.get("subspaces", SUBSPACES)
        centroids = product_centroids(
            targets.cpu(), generator=generator, centroids=settings.bank_size, subspaces=int(subspaces)
        )
        return centroids.to(targets.device)
    drawn = torch.randperm(len(targets), generator=generator)[: settings.bank_size]
    return targets[drawn.to(targets.device)]
