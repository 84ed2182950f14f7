"""`TrainingSettings`: everything that decides what a training run does, besides its data.

It imports no PyTorch, so that a command line can show the defaults at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from aml_edge.errors import UsageError


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training run does, besides its data; the defaults are the demo's.

    Batch-norm statistics are always those that the student came with, as published.

    Args:
        loss: a name of `aml_edge.training.losses.LOSSES`; `named_loss` there refuses others.
        epochs: how often each training image is seen.
        batch_size: images a step.
        image_side_px: longest side of a training image, px; its aspect is kept.
        learning_rate: Adam's, of the trunk, at its highest.
        adaptor_rate_factor: the adaptor's rate over the trunk's. Ours: after a warm start the adaptor stands near
            its optimum, and Adam's even steps along 1280 correlated inputs would throw it off.
        pooling_rate_factor: the rate of GeM's power over the trunk's, without weight decay; 10 as published.
        weight_decay: Adam's L2 penalty on all else; 1e-6 as published.
        warm_up: share of the steps over which the rate rises; after it the rate falls to zero along a cosine.
        warm_start: whether the adaptor starts from a ridge regression (`adaptor_warm_start`) and not from the weights
            that the student came with. Ours, not published.
        warm_start_penalty: of that regression, relative to the features.
        frozen_stages: how many stages of the trunk, from the image on, are left as they are. Ours: what they give is
            then computed once, and epochs are cheap.
        seed: of the order of the images.
    """

    loss: str = "regression"
    epochs: int = 3
    batch_size: int = 32
    image_side_px: int = 256
    learning_rate: float = 1e-3
    adaptor_rate_factor: float = 0.1
    pooling_rate_factor: float = 10.0
    weight_decay: float = 1e-6
    warm_up: float = 0.1
    warm_start: bool = True
    warm_start_penalty: float = 1.0
    frozen_stages: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        for name, rule, holds in _RULES:
            value = getattr(self, name)
            if not math.isfinite(value):
                raise UsageError(f"`{name}` is {value}; it must be a finite number.")
            if not holds(value):
                raise UsageError(f"`{name}` is {value}; it must be {rule}.")

    def to_json(self) -> dict[str, object]:
        """Returns the settings as JSON values."""
        return asdict(self)


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


_RULES: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("epochs", "at least 1", _positive),
    ("batch_size", "at least 1", _positive),
    ("image_side_px", "at least 32, the stride of a trunk", lambda side: side >= 32),
    ("learning_rate", "above 0", _positive),
    ("adaptor_rate_factor", "at least 0", _not_negative),
    ("pooling_rate_factor", "at least 0", _not_negative),
    ("weight_decay", "at least 0", _not_negative),
    ("warm_up", "at least 0 and below 1", lambda share: 0 <= share < 1),
    ("warm_start_penalty", "above 0", _positive),
    ("frozen_stages", "at least 0", _not_negative),
    ("seed", "at least 0", _not_negative),
)
