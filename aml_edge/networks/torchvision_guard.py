"""Imports timm under a torch and a torchvision that were not built for each other.

timm imports torchvision. PyPI's torchvision is built for CUDA; beside a CPU-only torch its compiled half does not load,
and then its Python half fails, because it describes operators that nobody declared. Declaring them is enough: nothing
here ever calls one.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from types import ModuleType

import torch

from aml_edge.errors import RuntimeUnavailableError

_NON_MAXIMUM_SUPPRESSION = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_SCHEMAS = {"nms": _NON_MAXIMUM_SUPPRESSION, "qnms": _NON_MAXIMUM_SUPPRESSION}
_MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")


def import_timm() -> ModuleType:
    """Returns timm; declares torchvision's operators first where torchvision cannot be imported without them.

    Where torchvision imports by itself, nothing is declared.

    Raises:
        RuntimeUnavailableError: torchvision cannot be imported for another reason.
    """
    _import_torchvision()
    return importlib.import_module("timm")


def _import_torchvision() -> None:
    declared: set[str] = set()
    while "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except (RuntimeError, ImportError, OSError, AttributeError) as problem:
            missing = _MISSING_OPERATOR.search(str(problem))
            if missing is None or missing[1] not in _SCHEMAS.keys() - declared:
                raise RuntimeUnavailableError(
                    f"torchvision does not work with torch {torch.__version__}: {problem}; install the torchvision "
                    "built for this torch, as https://pytorch.org/get-started/locally says."
                ) from problem
            declared.add(missing[1])
            torch.library.define(f"torchvision::{missing[1]}", _SCHEMAS[missing[1]])
            _forget_half_imported()


def _forget_half_imported() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
