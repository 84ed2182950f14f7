"""Weights with a record of what they are: one safetensors file, the record as JSON in its header.

So the file alone is enough and one rename replaces both; a copy of the record lies beside it for people and scripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from aml_edge.errors import CheckpointError
from aml_edge.files import write_text_atomically, written_atomically

RECORD_KEY = "aml_edge"
RECORD_VERSION = 1


def write_recorded_weights(module: nn.Module, record: Mapping[str, object], file: Path) -> None:
    """Writes a network's weights with a record into `file`, and the record beside it as ``.json``, both atomically."""
    text = json.dumps({"version": RECORD_VERSION, **record}, indent=2, sort_keys=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    with written_atomically(file) as partial:
        partial.write_bytes(save(weights, metadata={RECORD_KEY: text}))  # save_file shuts others out: mode 600
    write_text_atomically(file.with_suffix(".json"), text + "\n")


def read_recorded_weights(file: Path) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Returns the record and the weights of a file that `write_recorded_weights` wrote; both are untrusted.

    Raises:
        CheckpointError: it is no such file, or of another version.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(RECORD_KEY)
            weights: dict[str, Tensor] = {key: opened.get_tensor(key) for key in opened.keys()}
    except (SafetensorError, OSError, ValueError, TypeError) as problem:
        raise CheckpointError(f"{file} is no safetensors file, or a damaged one: {problem}; save it again.") from None
    if text is None:
        raise CheckpointError(f"{file} holds weights but no aml-edge record; only what aml-edge has saved is read.")
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError("it is not a JSON object")
        if record.get("version") != RECORD_VERSION:
            raise ValueError(f"its version is {record.get('version')!r}, this aml-edge reads {RECORD_VERSION}")
    except (TypeError, ValueError, RecursionError) as problem:
        raise CheckpointError(f"{file} has a record that cannot be read: {problem}; save it again.") from None
    return record, weights


def recorded_weights_sha256(file: Path) -> str | None:
    """Returns what one of our files says of its weights, read in no time; None where it says nothing or is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            record = json.loads((opened.metadata() or {})[RECORD_KEY])
        recorded = record["weights_sha256"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return recorded if isinstance(recorded, str) else None
