"""What makes a training step on a CPU shorter and changes nothing in it.

Measured on two cores, EfficientNet-B3, 224 px, images of two shapes in batches of five, one change at a time: kernels
kept, 137 → 120 ms an image; memory kept, 171 → 160 ms; activations out of place, 5 per cent.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

KERNELS_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
KERNELS = 16384
"""oneDNN keeps 1024 kernels unless it is told otherwise. A convolution needs three for every shape of its input and
every number of images, and what was thrown away is compiled anew.
"""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of the GNU C library
_LARGEST_INT = 2**31 - 1


def keep_kernels_and_memory() -> None:
    """Has this process keep compiled kernels, and memory that was freed, for the next step.

    What is kept is at most what was once in use. To be called before the first convolution; what the environment says
    of kernels is left as it is, and memory is left to C libraries other than GNU's.
    """
    os.environ.setdefault(KERNELS_VARIABLE, str(KERNELS))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)  # a large block that is mapped comes as untouched pages each time
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)


@contextmanager
def activations_out_of_place(network: nn.Module) -> Iterator[None]:
    """Has a network's activations write their result elsewhere, where autograd would copy what they overwrite.

    The gradient of ReLU can be told from its result; those of ReLU6, SiLU and Hardswish need what it was made of.

    Args:
        network: in place; as it was at the end.
    """
    changed = [
        module
        for module in network.modules()
        if isinstance(module, nn.ReLU6 | nn.SiLU | nn.Hardswish) and module.inplace
    ]
    for module in changed:
        module.inplace = False
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True
