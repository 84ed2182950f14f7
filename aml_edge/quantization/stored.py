"""`quantization.json`: the integers that a student was trained for, beside its file.

The student's own file is an ordinary one; this says how each activation is stored, and which weights it belongs to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aml_edge.errors import QuantizationError
from aml_edge.files import write_text_atomically
from aml_edge.networks.checkpoints import STUDENT_FILE
from aml_edge.networks.recorded_weights import recorded_weights_sha256
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization_record import QuantizationRecord

QUANTIZATION_FILE = "quantization.json"
LARGEST_BYTES = 1 << 24
"""A network of a thousand activations needs 100 kB."""
_VERSION = 1


@dataclass(frozen=True)
class StoredQuantization:
    """The integers that a student was trained for.

    Args:
        quantization: which blocks compute in integers, and how each activation is stored.
        record: what a manifest says of it: the calibration, and that training went on from there.
        weights_sha256: of the student, as its file says it.
    """

    quantization: Quantization
    record: QuantizationRecord
    weights_sha256: str


def quantization_file(student_file: Path) -> Path:
    """Returns where the quantization of a student's file is: ``quantization.json`` beside ``student.safetensors``.

    That of any other name has the name in front, such as ``last.quantization.json``.
    """
    name = QUANTIZATION_FILE if student_file.name == STUDENT_FILE else f"{student_file.stem}.{QUANTIZATION_FILE}"
    return student_file.with_name(name)


def save_quantization(stored: StoredQuantization, student_file: Path) -> None:
    """Writes a quantization beside the file of its student, atomically."""
    record = {
        "version": _VERSION,
        "weights_sha256": stored.weights_sha256,
        "record": stored.record.to_json(),
        "quantization": stored.quantization.to_json(),
    }
    write_text_atomically(quantization_file(student_file), json.dumps(record, indent=1) + "\n")


def load_quantization(path: Path) -> StoredQuantization | None:
    """Returns the integers that a student was trained for; None where it was trained in floating point.

    Args:
        path: a run folder, or the student's file.

    Raises:
        QuantizationError: the file cannot be read, or belongs to other weights than the student's.
    """
    student = path / STUDENT_FILE if path.is_dir() else path
    file = quantization_file(student)
    if not file.is_file():
        return None
    stored = _read(file)
    recorded = recorded_weights_sha256(student)
    if stored.weights_sha256 != recorded:
        raise QuantizationError(
            f"{file} belongs to a student of weights {stored.weights_sha256[:12]}, but {student} has "
            f"{'none that can be read' if recorded is None else recorded[:12]}; go on with a training that was stopped "
            f"(`aml-edge train --resume`), or remove {file.name} to quantize the student anew."
        )
    return stored


def _read(file: Path) -> StoredQuantization:
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it has more than {LARGEST_BYTES} bytes")
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it is not a JSON object")
        if values.get("version") != _VERSION:
            raise ValueError(f"its version is {values.get('version')!r}, this aml-edge reads {_VERSION}")
        weights_sha256, record = values["weights_sha256"], QuantizationRecord.from_json(values["record"])
        if not isinstance(weights_sha256, str):
            raise TypeError("its `weights_sha256` is no text")
        return StoredQuantization(Quantization.from_json(values["quantization"]), record, weights_sha256)
    except QuantizationError as error:
        raise QuantizationError(f"{file} cannot be read: {error}") from None
    except KeyError as missing:
        problem = f"it lacks {missing}"
    except (OSError, TypeError, ValueError, OverflowError, RecursionError) as error:
        problem = str(error)
    raise QuantizationError(f"{file} cannot be read: {problem}; train again, or remove it.")
