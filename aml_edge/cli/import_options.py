"""Options of `aml-edge index import`: where vectors lie, whose they are said to be, and what to check them with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.errors import UsageError
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.scales import scales_of
from aml_edge.space import EmbeddingSpace

if TYPE_CHECKING:
    from aml_edge.index.declared_space import DeclaredSpace
    from aml_edge.index.import_check import CheckingImages
    from aml_edge.index.import_ids import GivenIds
    from aml_edge.networks.checkpoints import TeacherCheckpoint
    from aml_edge.progress import SayingProgress
    from aml_edge.vectors.source import SourceOptions

_SOURCE = "Which vectors, and which is whose"
_SPACE = "Whose embeddings they are"
_CHECK = "Images to check them with"


@dataclass(frozen=True)
class VectorOptions:
    """What to take of a source that holds several things."""

    ids: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_SOURCE,
            help="A file of one id a line in row order; or .json: a list, or an object by the source's own ids.",
        ),
    ] = None
    key: Annotated[str | None, typer.Option(rich_help_panel=_SOURCE, help="The name of the vectors in a .npz.")] = None
    ids_key: Annotated[str | None, typer.Option(rich_help_panel=_SOURCE, help="The name of the ids in a .npz.")] = None
    column: Annotated[str | None, typer.Option(rich_help_panel=_SOURCE, help="The Parquet column of vectors.")] = None
    id_column: Annotated[str | None, typer.Option(rich_help_panel=_SOURCE, help="The Parquet column of ids.")] = None
    collection: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_SOURCE, help="The Qdrant collection; a server's key is read from AML_EDGE_QDRANT_API_KEY."
        ),
    ] = None
    vector_name: Annotated[
        str | None,
        typer.Option(rich_help_panel=_SOURCE, help="Which vectors of the collection, where they have names."),
    ] = None
    id_field: Annotated[
        str | None,
        typer.Option(rich_help_panel=_SOURCE, help="The payload field that is the image's id; else the point's own."),
    ] = None

    def source_options(self) -> SourceOptions:
        """Returns what is for the source."""
        from aml_edge.vectors.source import SourceOptions

        return SourceOptions(
            key=self.key,
            ids_key=self.ids_key,
            column=self.column,
            id_column=self.id_column,
            collection=self.collection,
            vector_name=self.vector_name,
            id_field=self.id_field,
        )

    def given_ids(self) -> GivenIds | None:
        """Returns the ids of a file, where one is named."""
        from aml_edge.index.import_ids import read_ids

        return None if self.ids is None else read_ids(self.ids)


@dataclass(frozen=True)
class SpaceOptions:
    """Whose embeddings they are: a teacher's that is at hand, or one of which name and weights are known."""

    teacher: Annotated[
        str | None,
        typer.Option(rich_help_panel=_SPACE, help="A teacher's file, gem:NAME, or imagenet:NAME."),
    ] = None
    teacher_name: Annotated[
        str | None, typer.Option(rich_help_panel=_SPACE, help="The teacher's name, where its file is not at hand.")
    ] = None
    weights_sha256: Annotated[
        str | None, typer.Option(rich_help_panel=_SPACE, help="The SHA-256 of its weights, with --teacher-name.")
    ] = None
    dimension: Annotated[
        int | None, typer.Option(rich_help_panel=_SPACE, help="Values of a vector; an import of others is refused.")
    ] = None
    whitening: Annotated[
        str | None,
        typer.Option(rich_help_panel=_SPACE, help="What whitened the vectors: a file, or a name of the teacher's."),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option(rich_help_panel=_SPACE, help="Longest side of the images it saw, px. Default: the teacher's."),
    ] = None
    fit: Annotated[
        Fit | None, typer.Option(rich_help_panel=_SPACE, help="How images were fitted. Default: the teacher's.")
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_SPACE, help="Mean of its pixels, R,G,B in [0, 1]. Default: the teacher's, or ImageNet's."
        ),
    ] = None
    std: Annotated[
        str | None, typer.Option(rich_help_panel=_SPACE, help="Standard deviation of its pixels, likewise.")
    ] = None
    scales: Annotated[
        str, typer.Option(rich_help_panel=_SPACE, help="Scales of the images it saw; published: 1, 0.7071, 0.5.")
    ] = "1"
    normalise: Annotated[
        bool,
        typer.Option(
            "--normalise", rich_help_panel=_SPACE, help="Scale vectors to unit length; without it, others are refused."
        ),
    ] = False

    def resolve_teacher(self, progress: SayingProgress) -> TeacherCheckpoint | None:
        """Returns the teacher, or None where only its name is known; `UsageError` where neither or both are said."""
        from aml_edge.networks import released

        by_name = (self.teacher_name, self.weights_sha256)
        if self.teacher is not None and by_name == (None, None):
            return released.resolve_teacher(self.teacher, progress=progress)
        if self.teacher is None and None not in by_name:
            return None
        raise UsageError(
            "an index is of one teacher: give --teacher where it is at hand, else --teacher-name and --weights-sha256 "
            "(`aml-edge index info INDEX --json -` says both of one of its indexes)."
        )

    def declare(self, teacher: TeacherCheckpoint | None, dimension: int) -> DeclaredSpace:
        """Returns the declared space; `dimension` is the source's, which counts where nothing else says it."""
        from aml_edge.index.declared_space import named_space, teacher_space
        from aml_edge.networks.released import resolve_whitening
        from aml_edge.networks.whitening_names import whitening_name

        shares = scales_of(self.scales)
        if self.dimension is not None and self.dimension != dimension:
            raise UsageError(f"`dimension` is {self.dimension}, but the vectors have {dimension} values; check both.")
        preprocessing = self._preprocessing(Preprocessing() if teacher is None else teacher.preprocessing)
        if teacher is not None:
            layer = None
            if self.whitening is not None:
                layer = resolve_whitening(whitening_name(self.whitening, teacher, shares), teacher)
            return teacher_space(teacher, preprocessing, shares, layer)
        space = EmbeddingSpace(str(self.teacher_name), str(self.weights_sha256), dimension)
        return named_space(space, preprocessing, shares, None if self.whitening is None else Path(self.whitening))

    def _preprocessing(self, own: Preprocessing) -> Preprocessing:
        return replace(
            own,
            image_side_px=own.image_side_px if self.image_size is None else self.image_size,
            fit=own.fit if self.fit is None else self.fit,
            mean=own.mean if self.mean is None else _channels("mean", self.mean),
            std=own.std if self.std is None else _channels("std", self.std),
        )


@dataclass(frozen=True)
class CheckOptions:
    """A few images that the teacher embeds again."""

    images: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_CHECK, help="Embed a few again; the folder that ids are relative to."),
    ] = None
    check_images: Annotated[int, typer.Option(rich_help_panel=_CHECK, help="How many to embed again.")] = 16
    least_cosine: Annotated[
        float, typer.Option(rich_help_panel=_CHECK, help="Between each of them and its row, at least.")
    ] = 0.99
    device: Annotated[str, typer.Option(rich_help_panel=_CHECK, help="Where PyTorch runs: cpu, cuda.")] = "cpu"

    def find(self, teacher: TeacherCheckpoint | None, declared: DeclaredSpace) -> CheckingImages | None:
        """Returns what to check with, or None; `UsageError` where there is no teacher to do it."""
        from aml_edge.embedder import Embedder
        from aml_edge.index.declared_space import other_spaces
        from aml_edge.index.import_check import CheckingImages
        from aml_edge.runtimes.checkpoint_embedders import teacher_embedder

        if self.images is None:
            return None
        if teacher is None:
            raise UsageError("`images` are to be embedded again, which takes the teacher; give it with --teacher.")

        def embedder_of(one: DeclaredSpace) -> Embedder:
            return teacher_embedder(
                teacher, one.preprocessing, whitening=one.whitening, scales=one.scales, device=self.device
            )

        others = tuple(other_spaces(declared, teacher))
        return CheckingImages(self.images, embedder_of, others, self.check_images, self.least_cosine)


def _channels(name: str, text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"`{name}` is {text!r}; it must be three numbers, as 0.485,0.456,0.406 is.") from None
    return red, green, blue
