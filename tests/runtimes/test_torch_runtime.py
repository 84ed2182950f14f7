"""PyTorch's embedder on networks whose output has a closed form, and what it leaves behind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from aml_edge.embedder import Embedder
from aml_edge.errors import RuntimeUnavailableError, UsageError
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.runtimes.torch_runtime import GPU_BATCH_SIZE, TorchEmbedder
from aml_edge.space import EmbeddingSpace

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 0.2)
SINGLE_PRECISION = 1e-6
Images = list[npt.NDArray[np.uint8]]


class ChannelMeans(nn.Module):
    """The mean of each channel, plus two so that no row is short, L2-normalised; it notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p=1.0)
        self.batches: list[tuple[int, ...]] = []
        self.threads: list[int] = []
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        self.threads.append(torch.get_num_threads())
        self.modes.append(torch.is_inference_mode_enabled())
        return nn.functional.normalize(self.dropout(images).mean(dim=(2, 3)) + 2)


@pytest.fixture
def images() -> Images:
    """Three images of two shapes, the middle one of its own."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, shape, dtype=np.uint8) for shape in ((8, 6, 3), (5, 9, 3), (8, 6, 3))]


@pytest.fixture
def expected(images: Images) -> npt.NDArray[np.float64]:
    """What the network computes of them, in float64."""
    rows = np.stack([((image / 255.0 - MEAN) / STD).mean(axis=(0, 1)) + 2 for image in images])
    normalised: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


def embedder_of(
    network: nn.Module,
    *,
    fit: Fit = Fit.NATIVE,
    dimension: int = 3,
    threads: int | None = None,
    device: str = "cpu",
) -> TorchEmbedder:
    return TorchEmbedder(
        network,
        space=EmbeddingSpace("toy", "0" * 64, dimension),
        preprocessing=Preprocessing(8, fit, MEAN, STD),
        threads=threads,
        device=device,
    )


def test_normalises_and_embeds_each_image_in_order(images: Images, expected: npt.NDArray[np.float64]) -> None:
    embedder: Embedder = embedder_of(ChannelMeans().eval())
    embeddings = embedder.embed(images)
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - expected).max() < SINGLE_PRECISION


def test_takes_one_image_at_a_time_on_the_cpu(images: Images) -> None:
    network = ChannelMeans()
    embedder_of(network).embed(images)
    assert sorted(network.batches) == [(1, 3, 5, 9), (1, 3, 8, 6), (1, 3, 8, 6)]


def test_a_batch_goes_through_the_network_together(images: Images, expected: npt.NDArray[np.float64]) -> None:
    network = ChannelMeans()
    embeddings = embedder_of(network).embed_batch([images[2], images[0]])
    assert network.batches == [(2, 3, 8, 6)]
    assert np.abs(embeddings - expected[[2, 0]]).max() < SINGLE_PRECISION


@pytest.mark.parametrize("chosen", [[0, 1], []])
def test_a_batch_of_several_shapes_or_none_is_refused(images: Images, chosen: list[int]) -> None:
    with pytest.raises(UsageError, match="`images` must hold one shape, and at least one image; `embed` takes any"):
        embedder_of(ChannelMeans()).embed_batch([images[place] for place in chosen])


def test_no_image_gives_no_row() -> None:
    embeddings = embedder_of(ChannelMeans()).embed([])
    assert embeddings.shape == (0, 3)
    assert embeddings.dtype == np.float32


def test_evaluates_a_network_in_training_and_leaves_each_module_in_its_mode(
    images: Images, expected: npt.NDArray[np.float64]
) -> None:
    frozen = nn.BatchNorm2d(3).eval()
    network = nn.Sequential(frozen, ChannelMeans(), nn.Dropout(p=1.0))
    frozen.eval()
    embeddings = embedder_of(network).embed(images)
    assert np.abs(embeddings - expected).max() < 1e-4  # the batch norm divides by sqrt(1 + 1e-5)
    assert [module.training for module in network] == [False, True, True]
    assert network.training
    assert frozen.num_batches_tracked == 0


def test_leaves_the_mode_also_when_the_network_fails() -> None:
    network = nn.Sequential(nn.Linear(7, 3))
    with pytest.raises(RuntimeError):
        embedder_of(network).embed([np.zeros((8, 8, 3), np.uint8)])
    assert network.training


def test_runs_in_inference_mode(images: Images) -> None:
    network = ChannelMeans()
    embedder_of(network).embed(images)
    assert network.modes == [True] * 3
    assert not torch.is_inference_mode_enabled()


def test_sees_what_its_owner_learns_later(images: Images) -> None:
    linear = nn.Linear(3, 3, bias=False)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    embedder = embedder_of(network)
    before = embedder.embed(images)
    with torch.no_grad():
        linear.weight.mul_(2)
    np.testing.assert_allclose(embedder.embed(images), 2 * before, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads_are_set_while_it_works_and_no_longer(images: Images, threads: int | None) -> None:
    before = torch.get_num_threads()
    other = 3 if before != 3 else 4
    torch.set_num_threads(other)
    try:
        network = ChannelMeans()
        embedder_of(network, threads=threads).embed(images)
        assert network.threads == [threads or other] * 3
        assert torch.get_num_threads() == other
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [0, -2])
def test_no_thread_is_refused(threads: int) -> None:
    with pytest.raises(UsageError, match=f"`threads` is {threads}; an inference needs at least one"):
        embedder_of(ChannelMeans(), threads=threads)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (1, 8, 8, 3), (0, 8, 3)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"takes \(H, W, 3\) uint8; use aml_edge.pixels.fit_image"):
        embedder_of(ChannelMeans()).embed([np.zeros(shape, np.uint8)])


def test_an_image_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(UsageError, match=r"one of shape \(8, 6, 3\) and uint8, but the network takes \(8, 8, 3\)"):
        embedder_of(ChannelMeans(), fit=Fit.SQUASH).embed([np.zeros((8, 6, 3), np.uint8)])


def test_an_image_of_another_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match=r"one of shape \(8, 6, 3\) and float32"):
        embedder_of(ChannelMeans()).embed([np.zeros((8, 6, 3), np.float32)])


def test_another_dimension_than_the_space_s_is_refused(images: Images) -> None:
    with pytest.raises(UsageError, match=r"the network gave \(1, 3\) for 1 images, but its space has 4 dimensions"):
        embedder_of(ChannelMeans(), dimension=4).embed(images)


def test_nan_is_not_hidden() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(float("nan"))
    assert np.isnan(embedder_of(network).embed([np.zeros((8, 8, 3), np.uint8)])).all()


def test_closing_twice_is_harmless_and_embedding_afterwards_is_said(images: Images) -> None:
    embedder = embedder_of(ChannelMeans())
    embedder.close()
    embedder.close()
    with pytest.raises(UsageError, match="the embedder 'torch' was closed; open it again"):
        embedder.embed(images)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="`device` is 'abacus'; it must be 'cpu', 'cuda', or another name"):
        embedder_of(ChannelMeans(), device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(
        RuntimeUnavailableError, match="`device` is 'cuda', which this machine does not have: "
    ) as caught:
        embedder_of(ChannelMeans(), device="cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.needs_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_images_of_one_shape_on_a_gpu(images: Images, expected: npt.NDArray[np.float64]) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), ChannelMeans())
    embedder = embedder_of(network, device="cuda")
    embeddings = embedder.embed(images * GPU_BATCH_SIZE)
    assert np.abs(embeddings - np.tile(expected, (GPU_BATCH_SIZE, 1))).max() < 1e-4
    assert next(network.parameters()).device.type == "cpu"
