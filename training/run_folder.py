"""The run folder: what a training leaves there, and how an unfinished one is recognised.

`run.json` says what is trained: recipe, settings, versions, data. `student.safetensors` (`teacher.safetensors` where a
teacher is trained) is the best so far by validation, `last.safetensors` the newest; `state.safetensors` is what an
unfinished training goes on from, and `report.json` ends it. Beside a student that was trained for integers lies which
ones (`aml_edge.quantization.stored`).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aml_edge import __version__
from aml_edge.errors import UsageError
from aml_edge.file_lock import locked
from aml_edge.files import write_text_atomically
from aml_edge.networks.checkpoints import STUDENT_FILE, TEACHER_FILE
from aml_edge.quantization.stored import quantization_file
from aml_edge.training.event_file import EVENT_FILES
from aml_edge.training.log import EPOCH_LOG, STEP_LOG, TENSORBOARD_FOLDER
from aml_edge.training.recipe import Recipe, settings_from_json
from aml_edge.training.state import STATE_FILE

RUN_RECORD = "run.json"
REPORT_FILE = "report.json"
LAST_FILE = "last.safetensors"
LOCK_FILE = ".lock"
_RUN_FILES = (
    RUN_RECORD,
    STEP_LOG,
    EPOCH_LOG,
    *(quantization_file(Path(file)).name for file in (STUDENT_FILE, LAST_FILE)),
    *(
        name
        for file in (STUDENT_FILE, TEACHER_FILE, LAST_FILE)
        for name in (file, str(Path(file).with_suffix(".json")))
    ),
    STATE_FILE,
    REPORT_FILE,
)
"""In the order of removal from the end on: what is left of a run never looks finished, and is known as a run to the
last."""
_WORDS = {
    "training_fingerprint": "training images, labels or teacher embeddings",
    "validation_fingerprint": "validation images, labels or teacher embeddings",
}
_VERSION = 1


@dataclass(frozen=True)
class StudentStart:
    """The trained student that a quantization-aware training starts from.

    Args:
        path: its run folder or file, as it was named.
        weights_sha256: of its weights.
    """

    path: Path
    weights_sha256: str


@dataclass(frozen=True)
class RunRecord:
    """What is trained in a run folder.

    Args:
        recipe: with all its values.
        data: the folder of the training images.
        index: the teacher's index, or None.
        training_fingerprint, validation_fingerprint: of the two sets (`TrainingSet.fingerprint`).
        quantized_from: of a quantization-aware training, else None.
    """

    recipe: Recipe
    data: Path
    index: Path | None
    training_fingerprint: str
    validation_fingerprint: str | None
    quantized_from: StudentStart | None = None

    def dumps(self) -> str:
        """Returns the record as JSON text, with the versions of what trains."""
        recipe = self.recipe
        record = {
            "version": _VERSION,
            "recipe": {
                "name": recipe.name,
                "about": dict(recipe.about),
                "published": sorted(recipe.published),
                "changed": sorted(recipe.changed),
            },
            "settings": recipe.settings.to_json(),
            "data": str(self.data),
            "index": None if self.index is None else str(self.index),
            "training_fingerprint": self.training_fingerprint,
            "validation_fingerprint": self.validation_fingerprint,
            "quantized_from": _start_json(self.quantized_from),
            "versions": _versions(),
        }
        return json.dumps(record, indent=2) + "\n"


def read_run_record(run: Path) -> RunRecord:
    """Returns what is trained in a run folder.

    Raises:
        UsageError: no training was begun there, or its record cannot be read.
    """
    file = run / RUN_RECORD
    if not file.is_file():
        raise UsageError(
            f"`run` is {run}, where no training was begun ({RUN_RECORD} is not there); name another folder."
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["version"] != _VERSION:
            raise ValueError(f"its version is {record['version']!r}, this aml-edge reads {_VERSION}")
        recipe, index, start = record["recipe"], record["index"], record.get("quantized_from")
        return RunRecord(
            Recipe(
                recipe["name"],
                recipe["about"],
                settings_from_json(record["settings"], where=str(file)),
                frozenset(recipe["published"]),
                frozenset(recipe["changed"]),
            ),
            Path(record["data"]),
            None if index is None else Path(index),
            str(record["training_fingerprint"]),
            record["validation_fingerprint"],
            None if start is None else StudentStart(Path(start["path"]), str(start["weights_sha256"])),
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, UsageError) as problem:
        raise UsageError(f"{file} cannot be read: {problem}; start again with --overwrite.") from None


@contextmanager
def sole_training(run: Path) -> Iterator[None]:
    """Makes the run folder and keeps other processes out of it; raises `UsageError` where one trains there already."""

    def refuse() -> None:
        raise UsageError(f"`run` is {run}, where another process trains; wait for it, or name another folder.")

    if run.exists() and not run.is_dir():
        require_free(run)
    with locked(run / LOCK_FILE, refuse):
        yield


def holds_work(run: Path) -> bool:
    """Returns whether a training in a folder has come to a state or a network that is worth keeping."""
    return any((run / name).exists() for name in (STATE_FILE, LAST_FILE))


def forget_lock(run: Path) -> None:
    """Removes the lock of a process that was killed after it had finished the run."""
    (run / LOCK_FILE).unlink(missing_ok=True)


def is_finished(run: Path) -> bool:
    """Returns whether the training of a run folder has come to its end."""
    return (run / REPORT_FILE).is_file()


def require_free(run: Path) -> None:
    """Raises `UsageError` where a folder, which need not exist, is a file or holds a run."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"`run` is {run}, which is a file; name a folder.")
    there = _files_there(run)
    if there:
        unfinished = (run / RUN_RECORD).exists() and not is_finished(run)
        step = "go on with it: --resume; or name another folder" if unfinished else "name another folder"
        raise UsageError(
            f"`run` is {run}, which holds {'an unfinished' if unfinished else 'another'} run ({', '.join(there)}); "
            f"{step}, or pass --overwrite."
        )


def prepare_run(run: Path, *, overwrite: bool = False) -> None:
    """Makes sure that a run folder holds no other run; files that no run writes are left alone.

    Args:
        run: the folder; it need not exist.
        overwrite: remove the files of another run that are there.

    Raises:
        UsageError: `run` is a file, or holds another run that is not to be removed.
    """
    if not overwrite or not run.is_dir():
        require_free(run)
    if not overwrite:
        return
    for name in reversed(_files_there(run)):
        (run / name).unlink()
    for file in (run / TENSORBOARD_FOLDER).glob(EVENT_FILES):
        file.unlink()


def remove_halves(run: Path) -> None:
    """Removes what a process that was killed had written of a file before it could rename it."""
    for file in map(Path, _RUN_FILES):
        for half in run.glob(f".{file.stem}.*.partial{file.suffix}"):
            half.unlink()


def begin_run(run: Path, record: RunRecord) -> None:
    """Writes what is trained into an empty run folder."""
    write_text_atomically(run / RUN_RECORD, record.dumps())


def require_same_run(run: Path, record: RunRecord) -> None:
    """Raises `UsageError` unless the folder's training is the one of the record, wherever its data now lie."""
    begun = read_run_record(run)
    names = [words for name, words in _WORDS.items() if getattr(begun, name) != getattr(record, name)]
    old, new = begun.recipe.settings.to_json(), record.recipe.settings.to_json()
    names += [f"`{name}`" for name in new if old[name] != new[name]]
    if _weights(begun) != _weights(record):
        names.append("weights to start from (--qat --from)")
    if names:
        raise UsageError(
            f"`run` is {run}, whose training was begun with other {', '.join(names)}; go on with the same, or start "
            "again with --overwrite."
        )


def _start_json(start: StudentStart | None) -> dict[str, str] | None:
    return None if start is None else {"path": str(start.path), "weights_sha256": start.weights_sha256}


def _weights(record: RunRecord) -> str | None:
    return None if record.quantized_from is None else record.quantized_from.weights_sha256


def _files_there(run: Path) -> list[str]:
    return [name for name in _RUN_FILES if (run / name).exists()]


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "timm", "accelerate", "numpy", "pillow")
    return {"aml-edge": __version__, "python": platform.python_version(), **{one: version(one) for one in packages}}
