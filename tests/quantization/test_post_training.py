"""Post-training quantization of a whole student."""

from __future__ import annotations

import numpy as np
import torch

from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.post_training import QuantizedStudent


def test_integers_keep_the_embeddings(
    quantized: QuantizedStudent, checkpoint: StudentCheckpoint, photographs: list[np.ndarray]
) -> None:
    student = DeployableStudent(checkpoint.student, checkpoint.preprocessing)
    pixels = torch.from_numpy(np.stack(photographs))
    with torch.inference_mode():
        floating = torch.cat([student(image[None]) for image in pixels])
        integers = FakeQuantizedNetwork(quantized.graph, quantized.quantization)(pixels)

    cosines = (floating * integers).sum(1)
    assert cosines.min() > 0.99
    assert cosines.max() < 0.99999
