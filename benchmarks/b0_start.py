"""Weights from which EfficientNet-B0 learns in minutes on a CPU, where its published ones cannot be had.

EfficientNet-Lite0 is B0 with ReLU6 and without squeeze-and-excitation, so its convolutions and normalisations fit. The
gates that Lite0 lacks start nearly open, whatever the image. Training does the rest: SiLU stands where ReLU6 did.

``AML_EDGE_CACHE=DIR python -m aml_edge.benchmarks.b0_start`` puts the file where ``AML_EDGE_CACHE=DIR aml-edge train
--set backbone=imagenet:tf_efficientnet_b0`` looks for the published one. It is none: DIR is a folder of its own.
"""

from __future__ import annotations

import argparse
import os

import torch
from safetensors.torch import save_file
from torch import Tensor

from aml_edge.errors import UsageError
from aml_edge.files import written_atomically
from aml_edge.networks.imagenet import imagenet_classifier, published_weights_path
from aml_edge.networks.released_cache import CACHE_VARIABLE
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.script_errors import errors_in_a_line

LITE0, B0 = "efficientnet_lite0", "tf_efficientnet_b0"
OPEN = 3.0
"""Logit of a gate at the start: it lets 0.95 through."""


def b0_from_lite0(*, seed: int = 0) -> dict[str, Tensor]:
    """Returns the state of timm's B0: Lite0's ImageNet weights, and gates that start at sigmoid(3) for any image.

    Args:
        seed: of the squeezing weights, which Lite0 has none of.

    Raises:
        MissingExtraError: the package of Lite0's weights is not installed.
    """
    lite0 = imagenet_classifier(LITE0).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        state: dict[str, Tensor] = import_timm().create_model(B0, pretrained=False).state_dict()
    for name, own in state.items():
        if name in lite0:
            own.copy_(lite0[name])
        elif name.endswith("se.conv_expand.weight"):
            own.zero_()
        elif name.endswith("se.conv_expand.bias"):
            own.fill_(OPEN)
    return state


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    with errors_in_a_line(parser):
        if not os.environ.get(CACHE_VARIABLE):
            raise UsageError(f"{CACHE_VARIABLE} is not set; name a folder of its own: this is no published file.")
        path = published_weights_path(B0)
        if path.exists():
            raise UsageError(f"{path} is there already, perhaps the published file; name another folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in b0_from_lite0().items()}, partial)
        print(path)


if __name__ == "__main__":
    main()
