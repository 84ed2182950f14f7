"""Run by test_processes.py, in as many processes as its launcher starts: trains a student by each of some losses.

Every process writes what it ends with, so that the test can compare processes, and numbers of processes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from aml_edge.datasets.labelled_images import ImageLabels
from aml_edge.image_loading import ImageItem
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training.inputs import PixelInputs
from aml_edge.training.loop import Training
from aml_edge.training.processes import Processes
from aml_edge.training.settings import Mining, Mode, TrainingSettings
from aml_edge.training.split import Split
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet
from aml_edge.training.validation import validation_loss

NATIVE = Preprocessing(64)
SPACE = EmbeddingSpace("lot", "0" * 64, 16)
LABELS = ImageLabels(
    clusters=(5, 5, 5, 2, 2, 2, 9, 9, 9, 0, 0, 0),
    query_rows=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
    positive_rows=(1, 2, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9),
)
REG = TrainingSettings(
    epochs=2,
    batch_size=5,
    queries_per_epoch=11,
    image_side_px=64,
    learning_rate=1e-4,
    frozen_stages=0,
    warm_start=False,
    images_at_once=8,
)
"""Of 11 anchors: batches of 5, 5 and 1, of which two processes take 2 and 3, and none and 1."""
CASES = {
    "reg": REG,
    "contr": replace(
        REG,
        loss="contrastive",
        loss_options={"margin": 0.7},
        mode=Mode.SYMMETRIC,
        mining=Mining.HARD,
        negatives=2,
        pool_size=10,
    ),
    "rkd": replace(REG, loss="relational"),
    "rkd_of_one": replace(REG, loss="relational", queries_per_epoch=1),
}


def training_set(folder: Path) -> TrainingSet:
    rows = np.random.default_rng(0).uniform(size=(12, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    items = tuple(ImageItem(path) for path in sorted(folder.glob("*.png")))
    return TrainingSet(items, LABELS, TeacherEmbeddings(rows, SPACE))


def new_student(rank: int) -> Student:
    """Returns a student of each process's own; only the main one's weights count."""
    return Student(StudentSpec("mobilenetv2_035", 16), seed=rank).eval()


def train(case: str, images: TrainingSet, processes: Processes, *, double: bool) -> tuple[Student, dict[str, object]]:
    """Returns the student and what happened on the way."""
    settings, student = CASES[case], new_student(processes.accelerator.process_index)
    inputs = PixelInputs(student, images, NATIVE)
    if double:
        student.double()
        normalise = Normalise(NATIVE.mean, NATIVE.std)
        inputs.trunk = lambda stack: student.backbone(normalise(stack).double())
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as a run does
    processes.share(student)
    split = Split(student, inputs, images, settings, processes)
    training = Training(student, split, settings, processes)
    losses, tuples = [], []
    while not training.is_done:
        losses += [[record.loss, record.anchors, record.images] for record in training.steps_of_epoch()]
        assert training.tuples is not None
        tuples.append([rows.tolist() for rows in vars(training.tuples).values()])
        training.end_epoch()
    return student, {
        "losses": losses,
        "tuples": tuples,
        "validation_loss": validation_loss(split, seed=0),
        "embedding_of_one": split.embeddings_of(np.array([3])).tolist(),
        "embeddings": split.embeddings_of(np.arange(11)).tolist(),
    }


def main(folder: Path, out: Path, precision: str) -> None:
    torch.set_num_threads(1)
    processes = Processes(Accelerator(cpu=True, mixed_precision="bf16" if precision == "bf16" else "no"))
    rank, images = processes.accelerator.process_index, training_set(folder)
    told: dict[str, object] = {
        "count": processes.count,
        "is_main": processes.is_main,
        "any": [processes.any(False), processes.any(rank == processes.count - 1), processes.any(True)],
        "sum": processes.summed(torch.tensor([1.0, 10.0 * rank], dtype=torch.float64)).tolist(),
    }
    save_file(new_student(rank).state_dict(), out / f"start-{rank}.safetensors")
    for case in CASES:
        student, told[case] = train(case, images, processes, double=precision == "double")
        weights = {name: value.contiguous() for name, value in student.state_dict().items()}
        save_file(weights, out / f"{case}-{rank}.safetensors")
    (out / f"{rank}.json").write_text(json.dumps(told))
    processes.wait()
    processes.accelerator.end_training()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
