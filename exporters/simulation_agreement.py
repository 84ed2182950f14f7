"""How near a file in integers is to the fake-quantized network, which says what it should compute.

Where they differ, the file's converter or its runtime's kernels do something else than was calibrated, searched or
trained for; how near both are to the student in floating point is another question.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from aml_edge.artifact import Artifact
from aml_edge.errors import ArtifactError, ExportError
from aml_edge.exporters.agreement import centred_cosines, evenly_spaced, spread_of
from aml_edge.exporters.quantization.sensitivity import embed_quantized
from aml_edge.formats import write_manifest
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress, SilentProgress
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization_record import SimulationAgreement
from aml_edge.runtimes import RUNTIMES, open_artifact, verification_runtime

MOST_IMAGES = 32
"""A converter that rounds in another way, or kernels that do, show it on any image."""
MOST_SIMULATED_IMAGES = 8
"""In a runtime that simulates another one, which is slow and has no kernels of its own to judge. It gets one thread: on
a busy machine two took 9 s an image of 256 px, waiting for each other, and one 0.3 s."""


def measure_simulation(
    artifact: Artifact, quantized: QuantizedStudent, images: Sequence[Pixels], progress: Progress | None = None
) -> SimulationAgreement | None:
    """Returns how near a file is to the network that it was made from, in the runtime that verifies it.

    Args:
        artifact: the file.
        quantized: what it was made from.
        images: (H, W, 3) uint8 each, fitted for the file; at most 32 are taken, evenly, 8 where the runtime simulates.
        progress: where the work is announced, one step an image.

    Returns:
        None where there are fewer than two images, which have no centred cosine.

    Raises:
        ExportError: the file gives values that are not finite.
        MissingExtraError, RuntimeUnavailableError, ArtifactError: it cannot be run here.
    """
    runtime = verification_runtime(artifact)
    most, threads = (MOST_SIMULATED_IMAGES, 1) if RUNTIMES[runtime].simulates else (MOST_IMAGES, None)
    taken = [images[place] for place in evenly_spaced(len(images), most)]
    if len(taken) < 2:
        return None
    simulated, rows = embed_quantized(quantized, taken), []
    task = (progress or SilentProgress()).task("holding the file to its simulation", len(taken))
    with closing(open_artifact(artifact, runtime, threads=threads)) as embedder, task as done:
        for image in taken:
            rows.append(embedder.embed([image]))
            done.advance()
    spread = spread_of(centred_cosines(simulated, np.concatenate(rows)))
    if not np.isfinite(spread.smallest):
        raise ExportError(
            f"{artifact.path} gives embeddings that are not finite on calibration images, unlike the network that it "
            f"was made from; do not ship it: export it in another precision than '{artifact.manifest.precision}'."
        )
    return SimulationAgreement(len(taken), spread.smallest, spread.median)


def with_simulation(artifact: Artifact, simulation: SimulationAgreement) -> Artifact:
    """Returns the artifact with its agreement in its manifest, inside the file and beside it.

    Args:
        artifact: of a calibrated precision, as it is.
        simulation: as it was measured.

    Raises:
        ArtifactError: the file cannot be written.
    """
    record = artifact.manifest.quantization
    assert record is not None, "a file of a calibrated precision says how its integers were chosen"
    manifest = replace(artifact.manifest, quantization=replace(record, simulation=simulation))
    try:
        return write_manifest(Artifact(artifact.path, manifest))
    except OSError as problem:
        raise ArtifactError(
            f"how near it is to its simulation cannot be written into {artifact.path}: {problem.strerror}; make the "
            "file and its folder writable, then export it again."
        ) from None
