"""`plan_training`: from a recipe and two folders to everything that a training needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aml_edge.datasets.labelled_images import LabelledImages
from aml_edge.datasets.training_images import training_images
from aml_edge.errors import UsageError
from aml_edge.index import TeacherIndex
from aml_edge.index.images import require_same_images
from aml_edge.networks.checkpoints import load_student
from aml_edge.progress import SayingProgress
from aml_edge.training.objective import leaves_the_space, require_possible
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.quantization_rules import require_quantizable, square_start
from aml_edge.training.recipe import Recipe
from aml_edge.training.run_folder import StudentStart
from aml_edge.training.settings import ANY_TEACHER, Mode
from aml_edge.training.starting_network import starting_network
from aml_edge.training.training_set import training_set_of


def plan_training(
    recipe: Recipe,
    data: Path,
    index: TeacherIndex | None,
    *,
    quantized_from: Path | None = None,
    progress: SayingProgress | None = None,
) -> TrainingPlan:
    """Returns what is to be trained.

    Args:
        recipe: how.
        data: folder of the training images.
        index: the teacher's, of these images; None where the network is trained alone.
        quantized_from: a trained student's run folder or file, which is to learn what its int8 file will compute.
        progress: where a download of ImageNet weights, and the check of the images, are announced.

    Raises:
        UsageError: the recipe contradicts itself, needs an index or takes none, is for another teacher or student, or
            cannot train for integers.
        CheckpointError: there is no student to start from.
        DatasetError, UnsafePickleError, TeacherIndexError: data or index are broken or do not belong together; an
            image that has other bytes than the index was built from is named.
        MissingExtraError: ImageNet weights are in a package that is not installed.
    """
    settings = recipe.settings
    require_possible(settings)
    if quantized_from is not None:
        require_quantizable(recipe)
    alone = settings.mode is Mode.SYMMETRIC
    if alone and index is not None:
        raise UsageError(
            f"`index` is {index.path}, but recipe '{recipe.name}' trains a network alone; leave --index out."
        )
    if not alone and index is None:
        raise UsageError(
            f"recipe '{recipe.name}' learns from a teacher; give its index of the training images: --index. "
            "`aml-edge index build` makes one."
        )
    if index is not None and settings.teacher not in (ANY_TEACHER, index.space.teacher):
        raise UsageError(
            f"recipe '{recipe.name}' is for teacher '{settings.teacher}', but the index {index.path} is of "
            f"'{index.space.teacher}'; take the recipe of that teacher, or --set teacher={ANY_TEACHER}."
        )
    space = None if index is None else index.space_before_whitening
    trained, quantized = None, None
    if quantized_from is not None:
        trained = square_start(load_student(quantized_from, space=space), recipe)
        quantized = StudentStart(quantized_from, trained.weights_sha256)
    images = training_images(data, progress=progress)
    notes = [note] if (note := _note_on_space(recipe)) else []
    validation = images.validation
    if validation is not None and index is not None and _holds_none_of(index, validation):
        notes.append(
            f"the index {index.path} holds none of the {len(validation.ids)} validation images, so the last epoch's "
            "network is kept, not the best: build the index again to have them in it."
        )
        validation = None
    splits = [images.training] if validation is None else [images.training, validation]
    sets = [training_set_of(split, index) for split in splits]
    if index is not None:
        _require_same_images(index, splits, progress)
    return TrainingPlan(
        start=trained or starting_network(settings, space, progress=progress),
        recipe=recipe,
        training=sets[0],
        validation=None if validation is None else sets[1],
        data=data,
        index=None if index is None else index.path,
        notes=tuple(notes),
        quantized_from=quantized,
    )


def _note_on_space(recipe: Recipe) -> str | None:
    settings = recipe.settings
    if not leaves_the_space(settings) or settings.mode is Mode.SYMMETRIC:
        return None
    return (
        f"the loss {settings.loss} teaches which images are alike, not where the teacher puts them: the student will "
        "not fit the teacher's index. Use it where one network embeds queries and database; for asymmetric testing "
        "choose regression or contrastive_plus."
    )


def _require_same_images(
    index: TeacherIndex, splits: Sequence[LabelledImages], progress: SayingProgress | None
) -> None:
    ids = [one for split in splits for one in split.ids]
    require_same_images(index, ids, [item for split in splits for item in split.items], progress=progress)


def _holds_none_of(index: TeacherIndex, images: LabelledImages) -> bool:
    return set(index.ids).isdisjoint(images.ids)
