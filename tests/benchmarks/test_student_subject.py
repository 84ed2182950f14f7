"""The student as a subject: what it opens is the student, on the pixels of the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from aml_edge.benchmarks.student_subject import StudentSubject, cuda_devices
from aml_edge.errors import CheckpointError
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing

SIDE = 32
FILE = Preprocessing(SIDE, Fit.SQUASH)


@pytest.fixture
def subject(checkpoint: StudentCheckpoint, tmp_path: Path) -> StudentSubject:
    save_student(checkpoint, tmp_path)
    made: StudentSubject = pickle.loads(pickle.dumps(StudentSubject(tmp_path, FILE, "cpu", 1)))
    return made


def test_opens_the_student_on_the_pixels_of_the_file(checkpoint: StudentCheckpoint, subject: StudentSubject) -> None:
    subject.import_runtime()
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    normalised = (torch.from_numpy(image) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    with torch.inference_mode():
        expected = checkpoint.student(normalised.movedim(2, 0)[None]).numpy()
    embedder = subject.open()
    np.testing.assert_allclose(embedder.embed([image]), expected, atol=1e-5)
    assert (embedder.name, embedder.space, embedder.preprocessing) == ("torch eager cpu", checkpoint.space, FILE)


def test_the_cpu_has_no_memory_of_an_accelerator(subject: StudentSubject) -> None:
    assert subject.device_peak_bytes() is None


def test_an_accelerator_says_what_its_allocator_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {"cuda": 4096}.__getitem__)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", ("this", "that").__getitem__)
    assert StudentSubject(tmp_path, FILE, "cuda", None).device_peak_bytes() == 4096
    assert cuda_devices() == ("this", "that")


def test_no_accelerator_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_devices() == ()


def test_a_student_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"student\.safetensors does not exist"):
        StudentSubject(tmp_path, FILE, "cpu", 1).open()
