"""What somebody says of an index that was not embedded here: whose embeddings its rows are, and how they were made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.foreign import read_published_whitening
from aml_edge.networks.torch_file import is_torch_file
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import load_teacher_whitening, load_whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.scales import PUBLISHED_SCALES, SINGLE_SCALE, Scales, describe_scales
from aml_edge.space import EmbeddingSpace

OTHER_SIDES_PX = (224, 256, 362, 384, 480, 512, 724, 1024)
"""At which teams embed, and which are tried where rows are not what they are said to be."""


@dataclass(frozen=True, eq=False)
class DeclaredSpace:
    """Whose embeddings rows are said to be.

    Args:
        space: the teacher's, whitening included.
        preprocessing, scales: with which the teacher saw each image.
        whitening: that of the space, where it has one.

    Raises:
        UsageError: the whitening is not that of the space.
    """

    space: EmbeddingSpace
    preprocessing: Preprocessing
    scales: Scales = SINGLE_SCALE
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        sha256 = None if self.whitening is None else self.whitening.sha256
        if sha256 != self.space.whitening_sha256:
            raise UsageError("`whitening` is not the one that the space names; give the one of its rows.")


@dataclass(frozen=True, eq=False)
class OtherSpace:
    """What rows could be instead.

    Args:
        difference: to what was declared, in words that a command line takes, e.g. ``"--image-size 512"``.
        declared: it.
    """

    difference: str
    declared: DeclaredSpace


def teacher_space(
    teacher: TeacherCheckpoint, preprocessing: Preprocessing, scales: Scales, whitening: Whitening | None
) -> DeclaredSpace:
    """Returns the space of a teacher that is at hand."""
    return DeclaredSpace(teacher.space(whitening), preprocessing, scales, whitening)


def named_space(
    space: EmbeddingSpace, preprocessing: Preprocessing, scales: Scales, whitening: Path | None
) -> DeclaredSpace:
    """Returns the space of a teacher of which only name and SHA-256 are known.

    Args:
        space: of the rows, as far as it is known without the whitening, whose dimension counts where there is one.
        preprocessing, scales: with which the teacher saw each image.
        whitening: a file, ours or a published one, of the layer that the rows went through.

    Raises:
        UsageError: there is no such file.
        SpaceMismatchError, CheckpointError, UnsafePickleError: it is of another network, damaged or hostile.
    """
    if whitening is None:
        return DeclaredSpace(space, preprocessing, scales)
    if not whitening.is_file():
        raise UsageError(f"`whitening` is '{whitening}'; without the teacher at hand it must be a whitening's file.")
    if is_torch_file(whitening):
        layer = read_published_whitening(whitening)
    else:
        before = replace(space, dimension=load_whitening(whitening).record.space.dimension)
        layer = load_teacher_whitening(whitening, before, name=space.teacher)
    whitened = replace(space, dimension=layer.dimension, whitening_sha256=layer.sha256)
    return DeclaredSpace(whitened, preprocessing, scales, layer)


def other_spaces(declared: DeclaredSpace, teacher: TeacherCheckpoint) -> Iterator[OtherSpace]:
    """Yields what the rows could be instead, each different in one thing: whitening, scales, size or fit."""
    bare = teacher.space()
    spaces: dict[str, tuple[EmbeddingSpace, Whitening | None]] = {"without --whitening": (bare, None)}
    for name, layer in teacher.whitenings.items():
        whitened = replace(bare, dimension=layer.dimension, whitening_sha256=layer.sha256)
        spaces[f"--whitening {name}"] = whitened, layer
    for difference, (space, whitening) in spaces.items():
        if space.dimension == declared.space.dimension and space != declared.space:
            yield OtherSpace(difference, replace(declared, space=space, whitening=whitening))
    for scales in (SINGLE_SCALE, PUBLISHED_SCALES):
        if scales != declared.scales:
            difference = f"--scales {describe_scales(scales).replace(' ', '')}"
            yield OtherSpace(difference, replace(declared, scales=scales))
    shown = declared.preprocessing
    for side in OTHER_SIDES_PX:
        if side != shown.image_side_px:
            preprocessing = replace(shown, image_side_px=side)
            yield OtherSpace(f"--image-size {side}", replace(declared, preprocessing=preprocessing))
    for fit in Fit:
        if fit != shown.fit:
            yield OtherSpace(f"--fit {fit}", replace(declared, preprocessing=replace(shown, fit=fit)))
