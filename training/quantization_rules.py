"""What a quantization-aware training can be asked, and what student it can start from."""

from __future__ import annotations

from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.imagenet import IMAGENET_PREFIX
from aml_edge.preprocessing import Fit
from aml_edge.quantization.aten_graph import MOST_IMAGES
from aml_edge.training.losses import loss_spec
from aml_edge.training.recipe import QAT_RECIPE, Recipe
from aml_edge.training.settings import ANY_BACKBONE, OWN_SIDE, BatchNorm, Mode, Network, TrainingSettings

_AT_MOST = f"{MOST_IMAGES} or less"


def require_quantizable(recipe: Recipe) -> None:
    """Raises `UsageError` where a recipe asks for what a network in integers has not; all of it is named, with why."""
    settings = recipe.settings
    wrong = [
        f"`{name}` is {str(getattr(settings, name)).lower()} and must be {wanted} ({why})"
        for name, wanted, why, holds in (
            ("network", Network.STUDENT, "a teacher is not exported", settings.network is Network.STUDENT),
            ("mode", Mode.ASYMMETRIC, "it learns onto the teacher's index", settings.mode is Mode.ASYMMETRIC),
            ("fit", Fit.LETTERBOX, "a file takes one square", settings.fit is not Fit.NATIVE),
            ("batch_norm", BatchNorm.FROZEN, "it is folded", settings.batch_norm is BatchNorm.FROZEN),
            ("frozen_stages", 0, "rounding is learned from the first layer on", settings.frozen_stages == 0),
            ("warm_start", "false", "the adaptor is trained already", not settings.warm_start),
            ("pooling_rate_factor", 0, "GeM's power is a constant of the file", settings.pooling_rate_factor == 0),
            ("images_at_once", _AT_MOST, "its graph takes no more", settings.images_at_once <= MOST_IMAGES),
            ("batch_size", _AT_MOST, "this loss keeps its batch together", _batch_fits(settings)),
        )
        if not holds
    ]
    if wrong:
        raise UsageError(
            f"recipe '{recipe.name}' cannot train for integers: {'; '.join(wrong)}. Take recipe {QAT_RECIPE}, or "
            "change these with --set."
        )


def square_start(checkpoint: StudentCheckpoint, recipe: Recipe) -> StudentCheckpoint:
    """Returns a trained student with the square preprocessing that a recipe asks for, to start from.

    Raises:
        UsageError: it is not trained, or of another backbone or dimension than the recipe's.
    """
    settings, student = recipe.settings, checkpoint.student
    if not checkpoint.trained:
        raise UsageError(
            f"`from` is student '{checkpoint.name}', whose weights are random; integers are learned from a trained "
            "student: train it first, without --qat."
        )
    backbone = settings.backbone.removeprefix(IMAGENET_PREFIX)
    if backbone not in (ANY_BACKBONE, student.spec.backbone):
        raise UsageError(
            f"`backbone` is '{settings.backbone}', but student '{checkpoint.name}' is of '{student.spec.backbone}'; "
            f"set it to '{ANY_BACKBONE}'."
        )
    if settings.dimension not in (0, student.dimension):
        raise UsageError(
            f"`dimension` is {settings.dimension}, but student '{checkpoint.name}' has {student.dimension}; "
            "set it to 0."
        )
    side = checkpoint.preprocessing.image_side_px if settings.image_side_px == OWN_SIDE else settings.image_side_px
    preprocessing = checkpoint.preprocessing.fitted(settings.fit, side)
    return StudentCheckpoint(student, checkpoint.name, checkpoint.space, preprocessing, trained=True)


def _batch_fits(settings: TrainingSettings) -> bool:
    spec = loss_spec(settings.loss)
    whole_batch = spec.whole_batch_beside_bank if settings.bank_size else spec.whole_batch
    return not whole_batch or settings.batch_size <= MOST_IMAGES
