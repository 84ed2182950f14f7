"""`TrainingSettings`: everything that decides what a training run does, besides its data.

It imports no PyTorch, so that a command line can show the recipes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from aml_edge.errors import UsageError
from aml_edge.preprocessing import Fit

OptionValue = float | int | str
ANY_TEACHER = "any"
ANY_BACKBONE = "any"
OWN_SIDE = 0
LARGEST = 2**53
"""Of any number here: whole numbers up to it are floats too."""


class Network(StrEnum):
    """What is trained: a student with its adaptor, or a network in the form of the teachers."""

    STUDENT = "student"
    TEACHER = "teacher"


class Mode(StrEnum):
    """Who embeds what a query is compared with, in training and in testing: the network itself, or the teacher."""

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"


class Mining(StrEnum):
    """Where negatives come from: the most similar of a pool, any of it, or there are none and labels are not used."""

    HARD = "hard"
    RANDOM = "random"
    NONE = "none"


class Schedule(StrEnum):
    """How the learning rate goes: up a line and down a cosine to zero, or × exp(−decay) after each epoch."""

    COSINE = "cosine"
    EXPONENTIAL = "exponential"


class BatchOrder(StrEnum):
    """Which anchors meet in a batch: as they were drawn, or those whose images have one shape, where enough have."""

    DRAWN = "drawn"
    BY_SHAPE = "by_shape"


class BatchNorm(StrEnum):
    """What happens to batch-norm statistics: they stay those that the network came with, or follow the batches."""

    FROZEN = "frozen"
    TRAINED = "trained"


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training run does, besides its data.

    Args:
        network: what is trained; a teacher is trained in symmetric mode, without an adaptor.
        backbone: a named one, one of timm, or imagenet:NAME with ImageNet weights; "any" is that of the student which
            a quantization-aware training starts from.
        dimension: of the embeddings where no index says it; 0 takes the index's, or a teacher's channels.
        teacher: the name that the index's space must have, or "any".
        mode: see `Mode`.
        loss: a name of `aml_edge.training.losses.LOSSES`.
        loss_options: its hyper-parameters by name; what is left out has the loss's own default.
        bank_size: teacher embeddings, or centroids of them, that some losses compare a batch with beside itself; drawn
            from the training images, at most all of them. 0 gives none.
        mining: see `Mining`.
        queries_per_epoch: anchors drawn for an epoch; 0 takes all.
        negatives: of each anchor; each of another cluster.
        pool_size: images drawn for an epoch to mine in; 0 takes all.
        epochs: how many.
        batch_size: anchors a step.
        batch_order: see `BatchOrder`; drawn as published. Ours, by_shape: images of one shape go through the network
            at once, which is faster (`aml_edge.training.speed`).
        image_side_px, fit: of the training images; the student is evaluated with the same. A side of 0 is that of the
            student which a quantization-aware training starts from.
        learning_rate: Adam's, of the trunk, at its highest.
        schedule: see `Schedule`.
        decay: of the exponential schedule; published 0.01.
        warm_up: share of the steps over which the cosine schedule's rate rises first.
        adaptor_rate_factor: the adaptor's rate over the trunk's. Ours: after a warm start the adaptor stands near
            its optimum, and Adam's even steps along 1280 correlated inputs would throw it off.
        pooling_rate_factor: the rate of GeM's power over the trunk's, without weight decay; 10 as published.
        weight_decay: Adam's L2 penalty on all else; 1e-6 as published.
        batch_norm: see `BatchNorm`; frozen as published.
        frozen_stages: how many stages of the trunk, from the image on, are left as they are. Ours: what they give is
            then computed once, and epochs are cheap.
        warm_start: whether the adaptor starts from a ridge regression (`adaptor_warm_start`) and not from random
            weights. Ours, not published.
        warm_start_penalty: of that regression, relative to the features.
        images_at_once: images that go forward and backward together at most, which bounds the memory; a loss of whole
            batches keeps its batch together.
        seed: of the first weights and of all that is drawn by lot.
    """

    network: Network = Network.STUDENT
    backbone: str = "imagenet:efficientnet_lite0"
    dimension: int = 0
    teacher: str = ANY_TEACHER
    mode: Mode = Mode.ASYMMETRIC
    loss: str = "regression"
    loss_options: Mapping[str, OptionValue] = field(default_factory=dict)
    bank_size: int = 0
    mining: Mining = Mining.NONE
    queries_per_epoch: int = 0
    negatives: int = 5
    pool_size: int = 0
    epochs: int = 3
    batch_size: int = 32
    batch_order: BatchOrder = BatchOrder.DRAWN
    image_side_px: int = 256
    fit: Fit = Fit.NATIVE
    learning_rate: float = 1e-3
    schedule: Schedule = Schedule.COSINE
    decay: float = 0.01
    warm_up: float = 0.1
    adaptor_rate_factor: float = 0.1
    pooling_rate_factor: float = 10.0
    weight_decay: float = 1e-6
    batch_norm: BatchNorm = BatchNorm.FROZEN
    frozen_stages: int = 6
    warm_start: bool = True
    warm_start_penalty: float = 1.0
    images_at_once: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, rule, holds in _RULES:
            value = getattr(self, name)
            if not abs(value) <= LARGEST:
                raise UsageError(f"`{name}` is {value}; it must be a finite number, and no such large one.")
            if not holds(value):
                raise UsageError(f"`{name}` is {value}; it must be {rule}.")
        for name, given, others, why in _COMBINATIONS:
            if given(self) and getattr(self, name) not in others:
                raise UsageError(f"`{name}` is {_shown(getattr(self, name))}; it must be {_shown(others[0])} {why}.")

    def to_json(self) -> dict[str, object]:
        """Returns the settings as JSON values."""
        return asdict(self)


def _shown(value: object) -> str:
    """Returns a value as a recipe has it."""
    return str(value).lower() if isinstance(value, bool) else f"'{value}'"


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


_RULES: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("dimension", "at least 0", _not_negative),
    ("bank_size", "at least 0", _not_negative),
    ("queries_per_epoch", "at least 0", _not_negative),
    ("negatives", "at least 1", _positive),
    ("pool_size", "at least 0", _not_negative),
    ("epochs", "at least 1", _positive),
    ("batch_size", "at least 1", _positive),
    ("image_side_px", "at least 32, the stride of a trunk", lambda side: side == OWN_SIDE or side >= 32),
    ("learning_rate", "above 0", _positive),
    ("decay", "at least 0", _not_negative),
    ("warm_up", "at least 0 and below 1", lambda share: 0 <= share < 1),
    ("adaptor_rate_factor", "at least 0", _not_negative),
    ("pooling_rate_factor", "at least 0", _not_negative),
    ("weight_decay", "at least 0", _not_negative),
    ("warm_start_penalty", "above 0", _positive),
    ("frozen_stages", "at least 0", _not_negative),
    ("images_at_once", "at least 1", _positive),
    ("seed", "at least 0", _not_negative),
)

_COMBINATIONS: tuple[tuple[str, Callable[[TrainingSettings], bool], tuple[object, ...], str], ...] = (
    ("mode", lambda of: of.network is Network.TEACHER, (Mode.SYMMETRIC,), "for `network` 'teacher', which has none"),
    ("warm_start", lambda of: of.mode is Mode.SYMMETRIC, (False,), "for `mode` 'symmetric', which has no targets"),
)
