"""The judge itself must round as IEEE says."""

from __future__ import annotations

import numpy as np
import torch

from aml_edge.runtimes.half_rounding import rounded_to_half


def test_rounding_is_numpy_s_half() -> None:
    values = np.array([0.1, 1 / 3, 2049.0, 65504.0, 65520.0, -1e6, 6.2e-5, np.nan, -0.0], np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(rounded_to_half(torch.from_numpy(values)).numpy(), expected, equal_nan=True)


def test_what_is_below_the_normal_numbers_becomes_zero() -> None:
    assert rounded_to_half(torch.tensor([6.0e-5, -3e-6, 1e-7])).tolist() == [0.0, 0.0, 0.0]
    assert rounded_to_half(torch.tensor([2.0**-14])).tolist() == [2.0**-14]
