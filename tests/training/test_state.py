"""The state of a training on disk: what comes back of it, and what is refused."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from aml_edge.errors import TrainingError
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student, weights_sha256
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.loop import Position, Training
from aml_edge.training.processes import Processes
from aml_edge.training.settings import Mining, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.state import Identity, restore_state, save_state
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.tuples import Tuples

SETTINGS = TrainingSettings(
    backbone="mobilenetv2_035",
    loss="contrastive",
    loss_options={"margin": 0.7},
    mining=Mining.HARD,
    negatives=2,
    epochs=2,
    batch_size=4,
    image_side_px=64,
    frozen_stages=0,
    warm_start=False,
)
STEPS_PER_EPOCH, STEPS = 2, 4
"""Of eight pairs, four a step."""
IDENTITY = Identity(SETTINGS.to_json(), "1" * 64, "2" * 64, 1)

NewTraining = Callable[..., Training]


@pytest.fixture(scope="module")
def new_training(start: StudentCheckpoint, labelled_set: TrainingSet, processes: Processes) -> NewTraining:
    """Makes the same training again, or one of other settings or another network."""

    def make(settings: TrainingSettings = SETTINGS, network: Student | None = None) -> Training:
        student = (network or copy.deepcopy(start.student)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = PixelInputs(student, labelled_set, start.preprocessing)
        return Training(student, Split(student, inputs, labelled_set, settings, processes), settings, processes)

    return make


def advance(training: Training) -> None:
    """Takes a step; an epoch whose last step is taken is not ended until there is another one to take."""
    if training.position.batch == STEPS_PER_EPOCH:
        training.end_epoch()
    next(training.steps_of_epoch())


def moments(training: Training) -> dict[str, torch.Tensor]:
    state = training.optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, named in state.items() for name, value in named.items()}


@dataclass(frozen=True)
class Unbroken:
    """A training that was never stopped: its last weights, and what it was after so many steps, with the state."""

    weights: str
    after: tuple[tuple[Position, str, Tuples | None, dict[str, torch.Tensor], Path], ...]


@pytest.fixture(scope="module")
def unbroken(new_training: NewTraining, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    folder, training, after = tmp_path_factory.mktemp("states"), new_training(), []
    for step in range(STEPS + 1):
        if step:
            advance(training)
        path = folder / f"{step}.safetensors"
        save_state(training, IDENTITY, 0.25, path)
        copied = {name: value.clone() for name, value in moments(training).items()}
        after.append((training.position, weights_sha256(training.network), training.tuples, copied, path))
    return Unbroken(weights_sha256(training.network), tuple(after))


@pytest.mark.parametrize("done", range(STEPS + 1))
def test_a_training_goes_on_to_the_same_weights(new_training: NewTraining, unbroken: Unbroken, done: int) -> None:
    position, weights, tuples, held, path = unbroken.after[done]
    training = new_training()
    assert restore_state(training, IDENTITY, path) == 0.25
    assert training.position == position == Position(1 + (done > 2), done - 2 * (done > 2), done)
    assert weights_sha256(training.network) == weights
    if tuples is None:
        assert done == 0 and training.tuples is None
    else:
        assert training.tuples is not None
        for name, rows in vars(tuples).items():
            assert np.array_equal(getattr(training.tuples, name), rows)
    ours = moments(training)
    assert ours.keys() == held.keys()
    for name, value in held.items():
        assert torch.equal(ours[name], value)
        assert ours[name].stride() == value.stride()
    for _ in range(STEPS - done):
        advance(training)
    assert weights_sha256(training.network) == unbroken.weights


def test_saving_changes_nothing(new_training: NewTraining, unbroken: Unbroken) -> None:
    training = new_training()
    for _ in range(STEPS):
        advance(training)
    assert weights_sha256(training.network) == unbroken.weights


def test_between_two_epochs_there_are_no_tuples(new_training: NewTraining, tmp_path: Path) -> None:
    training = new_training()
    for _ in range(STEPS_PER_EPOCH):
        advance(training)
    training.end_epoch()
    save_state(training, IDENTITY, None, tmp_path / "state.safetensors")
    resumed = new_training()
    assert restore_state(resumed, IDENTITY, tmp_path / "state.safetensors") is None
    assert (resumed.position, resumed.tuples) == (Position(2, 0, 2), None)


def test_a_loss_without_positives_goes_on_too(
    new_training: NewTraining, training_set: TrainingSet, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, loss="regression", loss_options={}, mining=Mining.NONE)
    training, resumed = new_training(settings), new_training(settings)
    advance(training)
    save_state(training, IDENTITY, None, tmp_path / "state.safetensors")
    restore_state(resumed, IDENTITY, tmp_path / "state.safetensors")
    assert resumed.tuples is not None
    assert resumed.tuples.positives.shape == resumed.tuples.negatives.shape == (len(training_set.items), 0)


def test_the_scale_of_float16_s_gradients_comes_back(new_training: NewTraining, tmp_path: Path) -> None:
    scales: list[float] = []
    for scale in (8.0, 65536.0):
        training = new_training()
        training._stepping.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=7)
        if not scales:
            save_state(training, IDENTITY, None, tmp_path / "state.safetensors")
        restore_state(training, IDENTITY, tmp_path / "state.safetensors")
        assert training.scaler is not None
        scales.append(training.scaler.get_scale())
    assert scales == [8.0, 8.0]


@pytest.fixture
def saved(unbroken: Unbroken, tmp_path: Path) -> Path:
    """The state after one step; a test may change it."""
    return Path(shutil.copy(unbroken.after[1][4], tmp_path / "state.safetensors"))


def test_the_file_can_be_read_without_us(unbroken: Unbroken, start: StudentCheckpoint, saved: Path) -> None:
    _, weights, tuples, _, _ = unbroken.after[1]
    tensors = load_file(saved)
    student = copy.deepcopy(start.student)
    student.load_state_dict(
        {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
    )
    assert weights_sha256(student) == weights
    assert tuples is not None
    assert tensors["tuples.negatives"].tolist() == tuples.negatives.tolist()
    assert tensors["adam.0.step"].item() == 1
    with safe_open(saved, framework="pt") as opened:
        header = json.loads(opened.metadata()["aml_edge_training"])
    assert header == {
        "version": 1,
        "identity": json.loads(json.dumps(asdict(IDENTITY))),
        "position": {"epoch": 1, "batch": 1, "step": 1},
        "best_loss": 0.25,
        "scaler": None,
    }


def refused(training: Training, path: Path, identity: Identity = IDENTITY) -> str:
    """Returns what is said of a state; the training is as it was before."""
    before = (weights_sha256(training.network), training.position, training.tuples, moments(training))
    with pytest.raises(TrainingError) as caught:
        restore_state(training, identity, path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert len(message.splitlines()) == 1
    assert before == (weights_sha256(training.network), training.position, training.tuples, moments(training))
    return message.removeprefix(f"{path} ")


def test_any_byte_that_is_changed_is_noticed(new_training: NewTraining, saved: Path) -> None:
    training, content = new_training(), bytearray(saved.read_bytes())
    (header,) = np.frombuffer(bytes(content[:8]), "<u8")
    generator = np.random.default_rng(0)
    places = [
        *range(8),
        *generator.choice(np.arange(8, 8 + int(header)), 40, replace=False).tolist(),
        *generator.choice(np.arange(8 + int(header), len(content)), 20, replace=False).tolist(),
        len(content) - 1,
    ]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(generator.integers(8))
        saved.write_bytes(changed)
        with pytest.raises(TrainingError, match="cannot be read: "):
            restore_state(training, IDENTITY, saved)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 0.5, -1])
def test_a_file_that_was_cut_is_refused(new_training: NewTraining, saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    message = refused(new_training(), saved)
    assert message.startswith("cannot be read: ")
    assert message.endswith("; start again with --overwrite.")


@pytest.mark.parametrize("what", ["garbage", "zeros", "text", "nothing", "folder", "student", "safetensors"])
def test_another_file_is_refused(
    new_training: NewTraining, start: StudentCheckpoint, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "state.safetensors"
    if what == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(10_000))
    elif what == "zeros":
        path.write_bytes(bytes(10_000))
    elif what == "text":
        path.write_text("{}" * 100)
    elif what == "folder":
        path.mkdir()
    elif what == "student":
        save_student(start, tmp_path, file_name=path.name)
    elif what == "safetensors":
        save_file({"network.adaptor.weight": torch.zeros(3)}, path)
    message = refused(new_training(), path)
    assert message.startswith("cannot be read: ")
    assert message.endswith("; start again with --overwrite.")
    if what in ("student", "safetensors"):
        assert message == (
            "cannot be read: it is damaged, or not what a training has saved; start again with --overwrite."
        )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"settings": replace(SETTINGS, epochs=9, seed=4).to_json()}, "`epochs`, `seed`"),
        ({"settings": replace(SETTINGS, loss_options={"margin": 0.8}).to_json()}, "`loss_options`"),
        ({"training_fingerprint": "9" * 64}, "training images, labels or teacher embeddings"),
        ({"validation_fingerprint": None}, "validation images, labels or teacher embeddings"),
        ({"processes": 2}, "processes (1, now 2)"),
        ({"precision": "bf16"}, "precision (no, now bf16)"),
        (
            {"training_fingerprint": "9" * 64, "processes": 4},
            "training images, labels or teacher embeddings, processes (1, now 4)",
        ),
    ],
)
def test_a_state_of_another_training_is_refused(
    new_training: NewTraining, saved: Path, changes: dict[str, object], what: str
) -> None:
    identity = replace(IDENTITY, **changes)  # type: ignore[arg-type]
    assert refused(new_training(), saved, identity) == (
        f"was saved by a training that differs in {what}; go on with the same, or start again with --overwrite."
    )


def test_a_state_of_another_version_is_refused(
    new_training: NewTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("aml_edge.training.state.STATE_VERSION", 2)
        save_state(new_training(), IDENTITY, None, tmp_path / "state")
    assert refused(new_training(), tmp_path / "state") == (
        "was saved by a training that differs in its version; go on with the same, or start again with --overwrite."
    )


@pytest.mark.parametrize("network", [StudentSpec("mobilenetv2_035", 8), StudentSpec("mobilenetv2_050", 16)])
def test_a_state_of_other_shapes_is_refused(new_training: NewTraining, saved: Path, network: StudentSpec) -> None:
    """As where a newer timm builds a backbone otherwise."""
    with pytest.raises(TrainingError) as caught:
        restore_state(new_training(network=Student(network).eval()), IDENTITY, saved)
    message = str(caught.value)
    assert message.startswith(f"{saved} does not fit the training: ")
    assert "size mismatch for" in message
    assert message.endswith("; start again with --overwrite.")
    assert "\n" not in message


def test_moments_of_weights_that_do_not_learn_are_refused(
    new_training: NewTraining, start: StudentCheckpoint, saved: Path
) -> None:
    student = copy.deepcopy(start.student)
    for weight in student.backbone.parameters():
        weight.requires_grad_(False)
    with pytest.raises(TrainingError, match=r"does not fit the training: .*; start again with --overwrite"):
        restore_state(new_training(network=student), IDENTITY, saved)


def test_a_write_that_fails_leaves_the_state_before(
    new_training: NewTraining, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, before = new_training(), saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(training, IDENTITY, None, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
