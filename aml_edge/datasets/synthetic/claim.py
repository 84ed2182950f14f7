"""Who may write a synthetic data set into a folder: it is empty, or holds one of the same spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL

from aml_edge.datasets.synthetic.spec import GENERATOR_VERSION, SyntheticSpec
from aml_edge.errors import UsageError
from aml_edge.files import write_text_atomically

RECORD_FILE = "synthetic.json"
_PARTIAL_FILES = ".*.partial*"


def claim(out: Path, spec: SyntheticSpec) -> None:
    """Makes `out` the folder of this spec, and removes what an interrupted call left half-written.

    Raises:
        UsageError: it is a file, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"`out` is {out}, a file; give a folder that is empty or not there.")
    record = _read_record(out)
    if record is None:
        found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
        foreign = [name for name in found if not name.startswith(f".{Path(RECORD_FILE).stem}.")]
        if foreign:
            raise UsageError(
                f"`out` is {out}, which holds {foreign[0]} and no synthetic data set; give an empty or new folder."
            )
        ours = {"spec": spec.to_json(), **_tools()}
        write_text_atomically(out / RECORD_FILE, json.dumps(ours, indent=2) + "\n")
    elif record["spec"] != spec.to_json():
        raise UsageError(
            f"`out` is {out}, which holds a synthetic data set with {_differences(record['spec'], spec)}; "
            "give another folder, or remove this one."
        )
    for partial in sorted(out.rglob(_PARTIAL_FILES)):
        partial.unlink(missing_ok=True)


def require_same_tools(out: Path) -> None:
    """Raises `UsageError` where what `out` holds was drawn by other versions, which may draw other bytes."""
    record = _read_record(out) or {}
    for tool, version in _tools().items():
        if record.get(tool) != version:
            raise UsageError(
                f"`out` is {out}, an unfinished data set of {tool} {record.get(tool)}, and this is {tool} {version}; "
                "its images would not match: remove the folder, or give another one."
            )


def _tools() -> dict[str, object]:
    return {"generator": GENERATOR_VERSION, "numpy": np.__version__, "pillow": PIL.__version__}


def _read_record(out: Path) -> dict[str, object] | None:
    path = out / RECORD_FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("spec"), dict):
        raise UsageError(f"{path} is damaged; remove {out}, or give another folder.")
    return record


def _differences(there: object, spec: SyntheticSpec) -> str:
    known = there if isinstance(there, Mapping) else {}
    differing = {name: known.get(name) for name, value in spec.to_json().items() if known.get(name) != value}
    return ", ".join(f"{name} {value}" for name, value in differing.items()) or "other fields"
