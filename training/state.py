"""`TrainingState` on disk: all that a training needs to go on as if it had never stopped.

One safetensors file: weights and buffers of the network, Adam's moments, the tuples of the epoch, and as JSON in its
header the rest, with a SHA-256 of all of it. It is written atomically, so a run that is killed at any moment keeps the
state before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
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
_HEADER, _SHA256 = "aml_edge_training", "sha256"
_NETWORK, _ADAM, _TUPLES = "network.", "adam.", "tuples."


@dataclass(frozen=True)
class Identity:
    """What a state belongs to; it is of no use for anything else.

    Args:
        settings: of the training, as JSON values.
        training_fingerprint, validation_fingerprint: of the two sets; None where there is no validation.
        processes: how many; sums over them round otherwise with another number.
        precision: that the network runs in: no, fp16 or bf16; "no" is float32.
    """

    settings: dict[str, object]
    training_fingerprint: str
    validation_fingerprint: str | None
    processes: int
    precision: str = "no"


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
        "scaler": None if training.scaler is None else training.scaler.state_dict(),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps(header)
    content = save(tensors, {_HEADER: text, _SHA256: _sha256(text, tensors)})
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
            metadata = opened.metadata() or {}
            tensors: dict[str, Tensor] = {key: opened.get_tensor(key) for key in opened.keys()}
        text, sha256 = metadata.get(_HEADER, ""), metadata.get(_SHA256)
        if sha256 != _sha256(text, tensors):
            raise ValueError("it is damaged, or not what a training has saved")
        header = json.loads(text)
        version, saved, best_loss = header["version"], header["identity"], header["best_loss"]
        scaler = header["scaler"]
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
        if training.scaler is not None:
            training.scaler.load_state_dict(scaler)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        raise TrainingError(f"{path} does not fit the training: {reason}; start again with --overwrite.") from None
    training.position = position
    return None if best_loss is None else float(best_loss)


def _load(training: Training, tensors: Mapping[str, Tensor]) -> None:
    training.network.load_state_dict(_below(_NETWORK, tensors))
    weights = [weight for group in training.optimiser.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(_ADAM, tensors).items():
        index, _, name = key.partition(".")
        weight = weights[int(index)]
        if value.shape == weight.shape:  # laid out in memory as its weight is, so that Adam rounds as it did
            value = torch.empty_like(weight, device="cpu").copy_(value)
        state.setdefault(int(index), {})[name] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})
    tuples = _below(_TUPLES, tensors)
    if tuples:
        training.tuples = Tuples(*(tuples[name].numpy() for name in ("anchors", "positives", "negatives")))


def _sha256(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _differing(saved: object, expected: dict[str, object]) -> str:
    """Returns what differs between two identities, as JSON holds them, in words."""
    if not isinstance(saved, dict):
        return "its format"
    old, new = saved.get("settings"), expected["settings"]
    words = []
    if isinstance(old, dict) and isinstance(new, dict):
        words = [f"`{name}`" for name in new if old.get(name) != new[name]]
    for name in ("training_fingerprint", "validation_fingerprint"):
        if saved.get(name) != expected[name]:
            words.append(f"{name.partition('_')[0]} images, labels or teacher embeddings")
    for name in ("processes", "precision"):
        if saved.get(name) != expected[name]:
            words.append(f"{name} ({saved.get(name)}, now {expected[name]})")
    return ", ".join(words) or "its version"
