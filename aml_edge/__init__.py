"""aml-edge: train small query encoders for an index you already have, export them, prove they still fit it.

Importing this package does not import torch; the public names load what they need on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml_edge.artifact import Artifact as Artifact
    from aml_edge.artifact import Format as Format
    from aml_edge.artifact import Manifest as Manifest
    from aml_edge.artifact import Precision as Precision
    from aml_edge.artifact import Verdict as Verdict
    from aml_edge.embedder import Embedder as Embedder
    from aml_edge.errors import AmlEdgeError as AmlEdgeError
    from aml_edge.preprocessing import Fit as Fit
    from aml_edge.preprocessing import Preprocessing as Preprocessing
    from aml_edge.space import EmbeddingSpace as EmbeddingSpace

__version__ = "0.1.0"

_PUBLIC = {
    "AmlEdgeError": "aml_edge.errors",
    "Artifact": "aml_edge.artifact",
    "Embedder": "aml_edge.embedder",
    "EmbeddingSpace": "aml_edge.space",
    "Fit": "aml_edge.preprocessing",
    "Format": "aml_edge.artifact",
    "Manifest": "aml_edge.artifact",
    "Precision": "aml_edge.artifact",
    "Preprocessing": "aml_edge.preprocessing",
    "Verdict": "aml_edge.artifact",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aml_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
