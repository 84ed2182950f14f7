"""`TrainingState` on disk: all that a training needs to go on as if it had never stopped.

One safetensors file: weights and buffers of the network, Adam's moments, the tuples of the epoch, and as JSON in its
header the rest. It is written atomically, so a run that is killed at any moment keeps the state before.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from aml_edge.errors import TrainingError
from aml_edge.files import written_atomically
from aml_edge.training.loop import Position, Training
from aml_edge.training.tuples import Tuples

STATE_FILE = "state.safetensors"
STATE_VERSION = 1
_HEADER, _NETWORK, _ADAM, _TUPLES = "aml_edge_training", "network.", "adam.", "tuples."


@dataclass(frozen=True)
class Identity:
    """What a state belongs to; it is of no use for anything else.

    Args:
        settings: of the training, as JSON values.
        training_fingerprint, validation_fingerprint: of the two sets; None where there is no validation.
        processes: how many; sums over them round otherwise with another number.
    """

    settings: dict[str, object]
    training_fingerprint: str
    validation_fingerprint: str | None
    processes: int


def save_state(training: Training, identity: Identity, best_loss: float | None, path: Path) -> None:
    """Writes the state of a training, atomically and through to the disk.

    Args:
        training: between two steps.
        identity: of the training.
        best_loss: lowest validation loss so far.
        path: the file.
    """
    tensors = {_NETWORK + key: value for key, value in training.network.state_dict().items()}
    for index, moments in training.optimiser.state_dict()["state"].items():
        tensors |= {f"{_ADAM}{index}.{key}": value for key, value in moments.items()}
    if training.tuples is not None:
        tensors |= {f"{_TUPLES}{key}": torch.from_numpy(rows) for key, rows in vars(training.tuples).items()}
    header = {
        "version": STATE_VERSION,
        "identity": asdict(identity),
        "position": asdict(training.position),
        "best_loss": best_loss,
    }
    content = save(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, {_HEADER: json.dumps(header)}
    )
    with written_atomically(path) as partial, partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def restore_state(training: Training, identity: Identity, path: Path) -> float | None:
    """Puts a training where it was when its state was saved, and returns its lowest validation loss.

    Args:
        training: newly made, of the same settings and data; changed in place.
        identity: of the training that is to go on.
        path: the file.

    Raises:
        TrainingError: the file is damaged, or belongs to another training; the message says what differs.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})[_HEADER])
            tensors: dict[str, Tensor] = {key: opened.get_tensor(key) for key in opened.keys()}
        version, saved, best_loss = header["version"], header["identity"], header["best_loss"]
        position = Position(**header["position"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as problem:
        raise TrainingError(f"{path} cannot be read: {problem}; start again with --overwrite.") from None
    expected = json.loads(json.dumps(asdict(identity)))
    if version != STATE_VERSION or saved != expected:
        raise TrainingError(
            f"{path} was saved by a training that differs in {_differing(saved, expected)}; go on with the same, or "
            "start again with --overwrite."
        )
    try:
        _load(training, tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as problem:
        reason = str(problem).partition("\n")[0]
        raise TrainingError(f"{path} does not fit the training: {reason}; start again with --overwrite.") from None
    training.position = position
    return None if best_loss is None else float(best_loss)


def _load(training: Training, tensors: dict[str, Tensor]) -> None:
    training.network.load_state_dict(_below(_NETWORK, tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(_ADAM, tensors).items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})
    tuples = _below(_TUPLES, tensors)
    if tuples:
        training.tuples = Tuples(*(tuples[name].numpy() for name in ("anchors", "positives", "negatives")))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _differing(saved: object, expected: dict[str, object]) -> str:
    if not isinstance(saved, dict):
        return "its format"
    names = [name for name in expected if saved.get(name) != expected[name]]
    old, new = saved.get("settings"), expected["settings"]
    if "settings" in names and isinstance(old, dict) and isinstance(new, dict):
        names += [f"`{name}`" for name in new if old.get(name) != new[name]]
        names.remove("settings")
    return ", ".join(names) or "its version"
