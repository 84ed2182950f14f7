"""`Artifact`: an exported model file and the manifest that it carries.

The manifest is written into the file itself (`aml_edge.formats`), so the file alone is enough, and beside it as
`<file>.json` for people and scripts. What is read is always the one inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from aml_edge.errors import ArtifactError, UsageError
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization_record import QuantizationRecord
from aml_edge.space import EmbeddingSpace

MANIFEST_VERSION = 1
LATER_FIELDS = ("content_sha256", "quantization")
"""An older manifest lacks them."""
CHANGED = "changed since it was verified"


class Format(StrEnum):
    """The file formats that can be exported."""

    ONNX = "onnx"
    TFLITE = "tflite"
    COREML = "coreml"


class Precision(StrEnum):
    """The precisions that can be exported; `aml_edge.exporters.EXPORTERS` says which format has which."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8_WEIGHTS = "int8-weights"
    INT8_DYNAMIC = "int8-dynamic"
    INT8 = "int8"
    INT8_INT16 = "int8-int16"
    PALETTE8 = "palette8"
    PALETTE6 = "palette6"

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration images choose the integers of activations."""
        return self in (Precision.INT8, Precision.INT8_INT16)

    @property
    def has_integer_activations(self) -> bool:
        """Whether convolutions take integers, chosen beforehand or by each image."""
        return self.is_calibrated or self is Precision.INT8_DYNAMIC

    @property
    def has_integer_weights(self) -> bool:
        """Whether weights are stored as integers, or as places in a palette."""
        return self not in (Precision.FP32, Precision.FP16)


class Verdict(StrEnum):
    """What verification said of an artifact; not run is neither of the others."""

    VERIFIED = "verified"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Manifest:
    """What an exported file says of itself.

    Args:
        space: the space its embeddings live in.
        preprocessing: what a caller must do to an image; fit is a square one.
        student: name of the student, e.g. ``"demo"``.
        backbone: a name of `aml_edge.networks.backbones.BACKBONES` or of timm.
        weights_sha256: SHA-256 of the student's weights.
        format, precision: what the file is.
        target: opset or deployment target, e.g. ``"opset 20"``, ``"iOS17"``.
        tools: versions of what made it, name → version.
        verdict: what verification said, with `verdict_reason` in words.
        content_sha256: of the file without its manifest, as it was when the verdict was written; an older file, and one
            without a verdict, does not say it.
        quantization: how the integers of activations were chosen; None where they were not, beforehand.
    """

    space: EmbeddingSpace
    preprocessing: Preprocessing
    student: str
    backbone: str
    weights_sha256: str
    format: Format
    precision: Precision
    target: str
    tools: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict = Verdict.NOT_RUN
    verdict_reason: str = "never verified"
    content_sha256: str | None = None
    quantization: QuantizationRecord | None = None
    version: int = MANIFEST_VERSION

    def dumps(self) -> str:
        """Returns the manifest as JSON text."""
        record = {
            **asdict(self),
            "space": self.space.to_json() | {"fingerprint": self.space.fingerprint},
            "preprocessing": self.preprocessing.to_json(),
            "tools": dict(self.tools),
            "quantization": None if self.quantization is None else self.quantization.to_json(),
        }
        return json.dumps(record, indent=2, sort_keys=True)

    @classmethod
    def loads(cls, text: str, *, source: str) -> Manifest:
        """Reads what `dumps` wrote; raises `ArtifactError` naming `source` where the text is no manifest."""
        try:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise TypeError("it is not a JSON object")
            if record.get("version") != MANIFEST_VERSION:
                raise ValueError(f"its version is {record.get('version')!r}, this aml-edge reads {MANIFEST_VERSION}")
            space = dict(record["space"])
            fingerprint = space.pop("fingerprint")
            quantization = record.get("quantization")
            manifest = cls(
                **{
                    **{name: record[name] for name in (f.name for f in fields(cls)) if name not in LATER_FIELDS},
                    "content_sha256": record.get("content_sha256"),
                    "quantization": None if quantization is None else QuantizationRecord.from_json(quantization),
                    "space": EmbeddingSpace.from_json(space),
                    "preprocessing": Preprocessing.from_json(record["preprocessing"]),
                    "format": Format(record["format"]),
                    "precision": Precision(record["precision"]),
                    "verdict": Verdict(record["verdict"]),
                }
            )
            manifest._require_texts()
        except (KeyError, TypeError, ValueError, RecursionError, UsageError) as problem:
            raise ArtifactError(
                f"{source} carries a manifest that cannot be read: {problem}; export it again."
            ) from None
        if manifest.space.fingerprint != fingerprint:
            raise ArtifactError(
                f"{source} carries a space whose fingerprint does not match its record; export it again."
            )
        return manifest

    def _require_texts(self) -> None:
        """Raises `TypeError` where an untrusted record holds something else than text."""
        texts = (self.student, self.backbone, self.weights_sha256, self.target, self.verdict_reason)
        if not isinstance(self.content_sha256, str | None):
            raise TypeError("its content's SHA-256 is no text")
        if not isinstance(self.tools, Mapping) or not all(
            isinstance(text, str) for text in (*texts, *self.tools.values())
        ):
            raise TypeError("a field has the wrong type")


@dataclass(frozen=True)
class Artifact:
    """A model file (a folder for Core ML) and its manifest.

    Args:
        path: of the file.
        manifest: as it stands in the file.
        changed: whether the file has other content than its verdict was written for.
    """

    path: Path
    manifest: Manifest
    changed: bool = False

    @property
    def standing(self) -> str:
        """What its verdict is worth now: the verdict, or that the file has changed since."""
        return CHANGED if self.changed else str(self.manifest.verdict)

    @property
    def sidecar_path(self) -> Path:
        """Where the copy of the manifest lies, beside the file."""
        return self.path.with_name(self.path.name + ".json")

    @property
    def size_bytes(self) -> int:
        """Size of the file, or of all files of the folder."""
        if self.path.is_dir():
            return sum(part.stat().st_size for part in self.path.rglob("*") if part.is_file())
        return self.path.stat().st_size
