"""A student that folds to a given graph: the way back from weights that were prepared for integers to a checkpoint.

A student's file has batch normalisations and mostly no biases. Each folded convolution is written as its own weight and
a batch normalisation that multiplies by exactly one and adds the bias; folding it again gives the same bits.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from aml_edge.errors import QuantizationError
from aml_edge.networks.batch_norm_folding import batch_norms_after_convolutions
from aml_edge.networks.student import Student
from aml_edge.quantization.graph import STUDENT, SiteGraph


def biases_without_place(student: Student, graph: SiteGraph) -> tuple[str, ...]:
    """Returns the names, in the graph's state, of biases that must stay zero, since the student has no place for them.

    Those are the biases of convolutions that had none and that no batch normalisation follows: the adaptor's.

    Args:
        student: whose graph it is, not folded.
        graph: of it.
    """
    held = set(student.state_dict()) | {f"{name}.bias" for name, _ in _pairs(student, graph.image_side_px)}
    biases = [site.bias for site in graph.sites if site.bias]
    return tuple(name for name in biases if name.removeprefix(STUDENT) not in held)


def unfolded(student: Student, graph: SiteGraph) -> Student:
    """Returns a student of the same architecture that computes what the graph's network does, and folds to it exactly.

    Args:
        student: whose graph it was before its weights changed; left as it is.
        graph: with the weights to take; GeM's power and normalisations that are not folded come from it as well.

    Raises:
        QuantizationError: a bias that a student has no place for is not zero.
    """
    homeless = [name for name in biases_without_place(student, graph) if graph.state(name).any()]
    if homeless:
        raise QuantizationError(
            f"the bias {homeless[0]} is not zero, but a student's file has no place for it; correct and train all "
            "biases but those of `biases_without_place`."
        )
    result = copy.deepcopy(student)
    folded = graph.network.student.state_dict()
    pairs = _pairs(result, graph.image_side_px)
    with torch.no_grad():
        for name, value in result.state_dict().items():
            value.copy_(folded[name])
        for name, normalisation in pairs:
            _hold(normalisation, folded[f"{name}.bias"])
            convolution = result.get_submodule(name)
            assert isinstance(convolution, nn.Conv2d)
            if convolution.bias is not None:
                convolution.bias.zero_()
    return result


def _hold(normalisation: nn.BatchNorm2d, bias: Tensor) -> None:
    """Makes a batch normalisation add a bias (C,) and do nothing else."""
    mean, variance = normalisation.running_mean, normalisation.running_var
    assert mean is not None and variance is not None
    mean.copy_(torch.zeros_like(bias) if normalisation.affine else -bias)
    variance.fill_(variance_of_one(normalisation.eps))
    if normalisation.affine:
        normalisation.weight.fill_(1.0)
        normalisation.bias.copy_(bias)


def variance_of_one(eps: float) -> float:
    """Returns the float32 nearest to 1 − eps that, with eps added in float32, is exactly one; eps is below one half."""
    nearest = np.float32(1 - eps)
    candidates = (nearest, np.nextafter(nearest, np.float32(2)), np.nextafter(nearest, np.float32(0)))
    return next(float(one) for one in candidates if (torch.tensor(one) + eps).item() == 1)


def _pairs(student: Student, image_side_px: int) -> list[tuple[str, nn.BatchNorm2d]]:
    """Returns the name of each convolution that a batch normalisation follows, with that normalisation."""
    names = {module: name for name, module in student.named_modules()}
    image = torch.zeros(1, 3, image_side_px, image_side_px)
    return [(names[before], after) for before, after in batch_norms_after_convolutions(student, image)]
