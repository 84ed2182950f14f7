"""Options of `aml-edge index build`: which images, and where they are embedded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.datasets.image_split import ImageSplit

if TYPE_CHECKING:
    from aml_edge.datasets.image_source import ImageSource
    from aml_edge.engines import EngineOptions
    from aml_edge.progress import Progress

_IMAGES, _ENGINE = "Images", "Where they are embedded"


class EngineChoice(StrEnum):
    """The names in `aml_edge.engines.ENGINES`, known without importing it."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class SourceOptions:
    """Which images are embedded."""

    images: Annotated[
        str,
        typer.Option(
            rich_help_panel=_IMAGES,
            help="A folder of images, a data set in a published layout, a Parquet table, or an s3:// or gs:// URL of "
            "images or tables.",
        ),
    ]
    split: Annotated[
        ImageSplit | None,
        typer.Option(
            rich_help_panel=_IMAGES, help="Of a data set to train and to test on, which images; the test database."
        ),
    ] = None
    image_column: Annotated[
        str | None, typer.Option(rich_help_panel=_IMAGES, help="Of a table: bytes of image files, or their paths.")
    ] = None
    id_column: Annotated[str | None, typer.Option(rich_help_panel=_IMAGES, help="Of a table: the images' ids.")] = None

    def find(self, progress: Progress) -> ImageSource:
        """Returns the images."""
        from aml_edge.datasets.image_locations import images_at
        from aml_edge.table_images import TableColumns

        columns = TableColumns(self.image_column, self.id_column)
        return images_at(self.images, self.split, columns, progress=progress)


@dataclass(frozen=True)
class EngineSettings:
    """Where and by how many images are embedded."""

    engine: Annotated[
        EngineChoice, typer.Option(rich_help_panel=_ENGINE, help="This process, or workers of a Ray cluster.")
    ] = EngineChoice.LOCAL
    address: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_ENGINE,
            metavar="HOST:PORT",
            help="Of the Ray cluster's head; RAY_ADDRESS, or a cluster of this machine alone.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_ENGINE,
            help="Threads that read ahead: 2, or all beside a GPU. With Ray processes: all with room.",
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_ENGINE,
            help="Of PyTorch in each process; the last bits of embeddings depend on it. PyTorch's own; with Ray 1.",
        ),
    ] = None
    device: Annotated[str, typer.Option(rich_help_panel=_ENGINE, help="Where PyTorch runs: cpu, cuda.")] = "cpu"

    def options(self, say: Callable[[str], None]) -> EngineOptions:
        """Returns what the engine is told; `say` takes the line that says where it works."""
        from aml_edge.engines import EngineOptions

        return EngineOptions(self.workers, self.address, say)

    @property
    def torch_threads(self) -> int:
        """Those that were asked for, or those that the engine has without that."""
        import torch

        if self.threads is not None:
            return self.threads
        return torch.get_num_threads() if self.engine is EngineChoice.LOCAL else 1
