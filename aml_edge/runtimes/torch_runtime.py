"""`TorchEmbedder`: runs a network of PyTorch as it is, on the CPU or a GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.networks.normalisation import Normalise
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.runtimes.staged_pixels import StagedPixels
from aml_edge.runtimes.torch_device import torch_device
from aml_edge.runtimes.torch_threads import torch_threads
from aml_edge.space import EmbeddingSpace

GPU_BATCH_SIZE = 32


class TorchEmbedder:
    """An Embedder over a network of normalised images, (B, 3, H, W) → (B, D), such as a student or a teacher.

    It runs in evaluation and inference mode whatever mode the network is in, and leaves that mode as it was. On the CPU
    the network is shared with whoever gave it; on another device a copy of it, made now, is used.

    On the CPU images go one at a time, since PyTorch is slower in batch there; on a GPU those of one shape go together,
    one batch is copied to it while it works on another, and what it gives of all of them is copied back once.

    Args:
        network: on the CPU; normalised images → rows L2-normalised.
        space: the space that its embeddings live in.
        preprocessing: of the images; its mean and deviation are applied here.
        name: what runs, for a table row.
        threads: of PyTorch's operators while this embedder works, for the whole process; None leaves them as they are.
        device: where to run, e.g. ``"cuda"``.

    Raises:
        UsageError: no such device, or no thread.
        RuntimeUnavailableError: this machine does not have the device.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        space: EmbeddingSpace,
        preprocessing: Preprocessing,
        name: str = "torch",
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"`threads` is {threads}; an inference needs at least one.")
        self.name = name
        self.space = space
        self.preprocessing = preprocessing
        self._threads = threads
        self._device = torch_device(device)
        on_cpu = self._device.type == "cpu"
        self._batch_size = 1 if on_cpu else GPU_BATCH_SIZE
        self._staged = StagedPixels(self._device) if self._device.type == "cuda" else None
        self._normalise = Normalise(preprocessing.mean, preprocessing.std).to(self._device)
        self._network: nn.Module | None = network if on_cpu else copy.deepcopy(network).to(self._device)

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised; images may differ in shape where the fit is native."""
        rows = np.empty((len(images), self.space.dimension), np.float32)
        places: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(image.shape, []).append(place)
        batches = [
            group[start : start + self._batch_size]
            for group in places.values()
            for start in range(0, len(group), self._batch_size)
        ]
        with torch_threads(self._threads):
            outputs = [self._forward([images[place] for place in together]) for together in batches]
            if outputs:  # a GPU works through all of them before they are copied back
                rows[[place for together in batches for place in together]] = torch.cat(outputs).cpu().numpy()
        return rows

    def embed_batch(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (B, D) embeddings of images of one shape, which go through the network together on any device.

        Raises:
            UsageError: the images differ in shape, one is not as the preprocessing says, or the embedder was closed.
        """
        embeddings: Embeddings = self._forward(images).cpu().numpy()
        return embeddings

    def close(self) -> None:
        """Lets go of the network."""
        self._network = self._staged = None

    def _forward(self, images: Sequence[Pixels]) -> Tensor:
        """Returns (B, D) float32 on the device; a GPU may not have come to them yet."""
        if self._network is None:
            raise UsageError(f"the embedder '{self.name}' was closed; open it again.")
        for image in images:
            self._require_fitted(image)
        if len({image.shape for image in images}) != 1:
            raise UsageError("`images` must hold one shape, and at least one image; `embed` takes any.")
        pixels = self._on_device(images)
        with torch_threads(self._threads), _evaluating(self._network), torch.inference_mode():
            output: Tensor = self._network(self._normalise(pixels)).float()
        if output.shape != (len(images), self.space.dimension):
            raise UsageError(
                f"the network gave {tuple(output.shape)} for {len(images)} images, but its space has "
                f"{self.space.dimension} dimensions; give the space that it was trained for."
            )
        return output

    def _on_device(self, images: Sequence[Pixels]) -> Tensor:
        if self._staged is not None:
            return self._staged.send(images)
        return torch.from_numpy(np.stack(images)).to(self._device)

    def _require_fitted(self, image: Pixels) -> None:
        fit, side = self.preprocessing.fit, self.preprocessing.image_side_px
        fitted = image.ndim == 3 and image.shape[2] == 3 and image.size > 0 and image.dtype == np.uint8
        if not fitted or (fit is not Fit.NATIVE and image.shape[:2] != (side, side)):
            wanted = "(H, W, 3)" if fit is Fit.NATIVE else f"({side}, {side}, 3)"
            raise UsageError(
                f"`images` holds one of shape {image.shape} and {image.dtype}, but the network takes {wanted} uint8; "
                "use aml_edge.pixels.fit_image with the embedder's preprocessing."
            )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode inside, and each of its modules back into its own mode outside."""
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
