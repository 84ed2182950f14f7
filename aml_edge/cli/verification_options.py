"""Options of the commands that verify: which images to look at, and what an export may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.cli.ann_options import SEARCH_PANEL, SearchOptions
from aml_edge.errors import UsageError

if TYPE_CHECKING:
    from aml_edge.exporters.verification_images import VerificationImages
    from aml_edge.progress import Progress

_IMAGES = "Images to verify on"
_TOLERANCES = "Tolerances; those of the file's precision where not given"


@dataclass(frozen=True)
class ImageOptions:
    """Which images a verification looks at: real ones from files, in one of two ways, or none."""

    dataset: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_IMAGES, help="A data set with queries, in a published layout: mAP too."),
    ] = None
    images: Annotated[
        Path | None, typer.Option(rich_help_panel=_IMAGES, help="A folder of images, best those of the index.")
    ] = None
    max_images: Annotated[
        int | None, typer.Option(rich_help_panel=_IMAGES, help="At most so many beside a data set's queries; 128.")
    ] = None
    skip_unreadable: Annotated[
        bool,
        typer.Option("--skip-unreadable", rich_help_panel=_IMAGES, help="Go on without images that cannot be read."),
    ] = False

    def find(self, progress: Progress) -> VerificationImages | None:
        """Returns the images, or None where none were named; `UsageError` where both ways were."""
        from aml_edge.datasets.loading import load_test_set
        from aml_edge.exporters.verification_images import (
            DEFAULT_MOST_IMAGES,
            images_of_dataset,
            images_of_folder,
            without_unreadable,
        )

        most = DEFAULT_MOST_IMAGES if self.max_images is None else self.max_images
        if self.dataset is not None and self.images is not None:
            raise UsageError(f"`dataset` is {self.dataset} and `images` is {self.images}; name one of them.")
        if self.dataset is not None:
            found = images_of_dataset(load_test_set(self.dataset, progress=progress), most)
        elif self.images is not None:
            found = images_of_folder(self.images, most)
        else:
            return None
        return without_unreadable(found, progress) if self.skip_unreadable else found


@dataclass(frozen=True)
class ToleranceOptions:
    """Values that replace those of `aml_edge.exporters.tolerances.TOLERANCES`; None leaves one as it is."""

    map_loss_points: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Most asymmetric mAP lost, points of 100.")
    ] = None
    overlap: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Least mean share of the first 10 and 100.")
    ] = None
    rank_correlation: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Least mean rank correlation.")
    ] = None
    cosine: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Least cosine of file and student.")
    ] = None
    centred_cosine: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="The same, the student's mean subtracted.")
    ] = None
    pair_error: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Most that two images' similarity may change.")
    ] = None
    teacher_cosine_loss: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Most of the median cosine to the teacher lost.")
    ] = None
    norm_error: Annotated[
        float | None, typer.Option(rich_help_panel=_TOLERANCES, help="Most that a norm may differ from one.")
    ] = None


@dataclass(frozen=True)
class JudgedSearchOptions(SearchOptions):
    """Which approximate indexes are asked beside an exact search, and what that may cost; not judged where not said."""

    ann_map_loss_points: Annotated[
        float | None,
        typer.Option(rich_help_panel=SEARCH_PANEL, help="Most mAP that approximation may lose, points of 100."),
    ] = None
    ann_overlap: Annotated[
        float | None,
        typer.Option(rich_help_panel=SEARCH_PANEL, help="Least mean share of the first 10 and 100 that it finds."),
    ] = None

    def tolerances(self) -> dict[str, float | None]:
        """Returns what is judged; raises `UsageError` where there is nothing to judge."""
        values = {"ann_map_loss_points": self.ann_map_loss_points, "ann_overlap": self.ann_overlap}
        for name, value in values.items():
            if value is not None and not self.ann:
                raise UsageError(f"`{name}` is {value:g}, but nothing is searched approximately; add --ann.")
        return values
