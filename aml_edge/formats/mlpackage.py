"""The folder of a Core ML package: where its files lie, with everything it says of itself doubted.

Source: a package's `Manifest.json` names the model file below `Data/`; paths in the model start at that file's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aml_edge.errors import ArtifactError
from aml_edge.formats.coreml_messages import parse_model

MANIFEST = "Manifest.json"
DATA_FOLDER = "Data"
MODEL_FOLDER = "@model_path/"


def load_model(package: Path) -> Any:
    """Returns the message `Model` of a package that holds an ML program; raises `ArtifactError`."""
    from google.protobuf.message import DecodeError

    try:
        model = parse_model(model_file(package).read_bytes())
    except (DecodeError, OSError) as problem:
        raise damaged(package, problem) from None
    if not model.mlProgram.functions:
        raise damaged(package, "it holds no ML program")
    return model


def model_file(package: Path) -> Path:
    """Returns where a package's model file lies; raises `ArtifactError`."""
    try:
        record = json.loads(_inside(package, package / MANIFEST, MANIFEST).read_bytes())
        place = record["itemInfoEntries"][record["rootModelIdentifier"]]["path"]
        return _inside(package, package / DATA_FOLDER / place, str(place))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise damaged(package, f"its {MANIFEST} does not say where the model is") from None


def weight_file(package: Path, name: str) -> Path:
    """Returns the file that a model names, e.g. ``"@model_path/weights/weight.bin"``; raises `ArtifactError`."""
    if not name.startswith(MODEL_FOLDER):
        raise damaged(package, f"its weights are in {name!r}, which is outside of it")
    return _inside(package, model_file(package).parent / name.removeprefix(MODEL_FOLDER), name)


def damaged(package: Path, problem: object) -> ArtifactError:
    """Returns the error that a package cannot be read."""
    return ArtifactError(f"{package} is not a Core ML package that can be read: {problem}; export it again.")


def _inside(package: Path, place: Path, name: str) -> Path:
    """Returns a file with all links followed; raises `ArtifactError` where it is missing or outside of the package."""
    try:
        file, root = place.resolve(strict=True), package.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise damaged(package, f"it lacks {name!r}") from None
    if not file.is_relative_to(root):
        raise damaged(package, f"its {name!r} leads outside of it")
    if not file.is_file():
        raise damaged(package, f"its {name!r} is no file")
    return file
