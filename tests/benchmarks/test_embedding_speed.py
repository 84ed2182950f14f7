"""The speed of embedding: what is counted and how it is said; times themselves are the machine's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aml_edge.benchmarks import embedding_speed
from aml_edge.benchmarks.embedding_speed import EmbeddingSpeed, measure_embedding_speed
from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace


class RecordingEmbedder(FakeEmbedder):
    """Remembers the first pixel of each image."""

    def __init__(self) -> None:
        super().__init__(EmbeddingSpace("toy", "a" * 64, 8), Preprocessing(16))
        self.seen: list[int] = []

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        self.seen += [int(image[0, 0, 0]) for image in images]
        return super().embed(images)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(5):
        grey = np.full((8, 8, 3), 50 * number, np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    return tmp_path


def test_every_turn_embeds_every_image(images: Path) -> None:
    embedder = RecordingEmbedder()
    speed = measure_embedding_speed(embedder, image_source(images), 3)
    assert embedder.seen == [0, 50, 100, 150, 200] * 2 * (3 + 1)
    assert (speed.images, len(speed.forward), len(speed.building), len(speed.ratios)) == (5, 3, 3, 3)
    assert min(*speed.forward, *speed.building) > 0


def test_a_ratio_is_of_one_round() -> None:
    assert EmbeddingSpeed(5, (10.0, 20.0), (9.0, 19.0)).ratios == (0.9, 0.95)


def test_the_command_prints_rates_and_their_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], images: Path
) -> None:
    teacher = TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval(), "tiny", Preprocessing(64))
    asked: list[tuple[str, int, int, int]] = []

    def measured(embedder: Any, source: Any, rounds: int, options: Any) -> EmbeddingSpeed:
        asked.append((embedder.name, len(source.ids), rounds, options.workers))
        return EmbeddingSpeed(3, (10.0, 20.0, 40.0), (9.0, 19.0, 40.0))

    monkeypatch.setattr(embedding_speed, "resolve_teacher", lambda name: {"tiny": teacher}[name])
    monkeypatch.setattr(embedding_speed, "measure_embedding_speed", measured)
    words = f"--teacher tiny --images {images} --image-size 48 --most-images 3 --rounds 3 --threads 1 --workers 4"
    monkeypatch.setattr(sys, "argv", ["embedding_speed", *words.split()])
    embedding_speed.main()
    ((name, count, rounds, workers),) = asked
    assert (name.partition(", ")[2], count, rounds, workers) == ("1 threads", 3, 3, 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"tiny, {name}; 3 images of {images}, at most 48 px; 3 rounds after one untimed"
    assert lines[1] == "forward alone  median   20.00 images/s, from 10.00 to 40.00"
    assert lines[2] == "index build    median   19.00 images/s, from 9.00 to 40.00"
    assert lines[3] == "ratio          median   95.0%, from 90.0% to 100.0%"
