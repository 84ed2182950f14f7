"""`FileItems`: image items of a million files, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from aml_edge.image_loading import ImageItem


class FileItems(Sequence[ImageItem]):
    """Whole images below a folder, by id; an item takes half a kilobyte, so none is kept.

    Args:
        root: the folder.
        ids: paths relative to it, parts joined by ``/``.
    """

    def __init__(self, root: Path, ids: Sequence[str]) -> None:
        self.root, self._ids = root, ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> ImageItem: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[ImageItem, ...]: ...

    def __getitem__(self, place: int | slice) -> ImageItem | tuple[ImageItem, ...]:
        if isinstance(place, slice):
            return tuple(ImageItem(self.root / one) for one in self._ids[place])
        return ImageItem(self.root / self._ids[place])
