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
    from aml_edge.ground_truth import QueryGroundTruth as QueryGroundTruth
    from aml_edge.index import TeacherIndex as TeacherIndex
    from aml_edge.index import open_index as open_index
    from aml_edge.index.joined import JoinedIndex as JoinedIndex
    from aml_edge.index.joined import join_indexes as join_indexes
    from aml_edge.preprocessing import Fit as Fit
    from aml_edge.preprocessing import Preprocessing as Preprocessing
    from aml_edge.ranking import RetrievalReport as RetrievalReport
    from aml_edge.ranking import evaluate_index as evaluate_index
    from aml_edge.ranking import evaluate_revisited as evaluate_revisited
    from aml_edge.space import EmbeddingSpace as EmbeddingSpace

__version__ = "0.1.0"

_PUBLIC = {
    "AmlEdgeError": "aml_edge.errors",
    "Artifact": "aml_edge.artifact",
    "Embedder": "aml_edge.embedder",
    "EmbeddingSpace": "aml_edge.space",
    "Fit": "aml_edge.preprocessing",
    "Format": "aml_edge.artifact",
    "JoinedIndex": "aml_edge.index.joined",
    "Manifest": "aml_edge.artifact",
    "Precision": "aml_edge.artifact",
    "Preprocessing": "aml_edge.preprocessing",
    "QueryGroundTruth": "aml_edge.ground_truth",
    "RetrievalReport": "aml_edge.ranking",
    "TeacherIndex": "aml_edge.index",
    "Verdict": "aml_edge.artifact",
    "evaluate_index": "aml_edge.ranking",
    "evaluate_revisited": "aml_edge.ranking",
    "join_indexes": "aml_edge.index.joined",
    "open_index": "aml_edge.index",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aml_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
