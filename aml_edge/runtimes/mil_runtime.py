"""`MilEmbedder`: runs a Core ML artifact without Core ML, its ML program read back and evaluated in PyTorch.

It shows errors of the conversion, of the weights and of the graph, and where half precision is too narrow. It cannot
show how a Neural Engine rounds, nor whether Core ML takes the package; its speed says nothing of a phone's.
"""

from __future__ import annotations

from collections.abc import Sequence

from aml_edge.artifact import Artifact
from aml_edge.embedder import Embeddings
from aml_edge.errors import ArtifactError
from aml_edge.formats.mil_program import MilProgram, load_program
from aml_edge.pixels import Pixels
from aml_edge.runtimes.fixed_input import embed_one_by_one


class MilEmbedder:
    """An Embedder on the MIL evaluator.

    Args:
        artifact: a Core ML package with its manifest.
        threads: of one inference; None for those that PyTorch has, which are all cores or what OMP_NUM_THREADS says.

    Raises:
        UnknownOperatorError: the program uses operators that the evaluator does not know; they are named.
        ArtifactError: the package cannot be read, or does not take one image of the manifest's side.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        from aml_edge.runtimes.mil_evaluator import MilEvaluator

        self.name = "mil evaluator cpu"
        self.space = artifact.manifest.space
        self.preprocessing = artifact.manifest.preprocessing
        self._threads = threads
        program = load_program(artifact.path)
        self._input, self._output = _image_to_embedding(program, artifact)
        self._evaluator: MilEvaluator | None = MilEvaluator(program, str(artifact.path))

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised; one image a call, since the file's batch is one."""
        return embed_one_by_one(self._run, images, self.preprocessing, self.space.dimension)

    def close(self) -> None:
        """Frees the program."""
        self._evaluator = None

    def _run(self, pixels: Pixels) -> Embeddings:
        import torch

        from aml_edge.runtimes.torch_threads import torch_threads

        assert self._evaluator is not None
        with torch_threads(self._threads):
            image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
            embeddings: Embeddings = self._evaluator.run({self._input: image})[self._output].float().numpy()
        return embeddings


def _image_to_embedding(program: MilProgram, artifact: Artifact) -> tuple[str, str]:
    """Returns the names of the program's one input and output; raises `ArtifactError` where it takes anything else."""
    side = artifact.manifest.preprocessing.image_side_px
    images = [(image.name, image.height, image.width, image.colours) for image in program.images]
    inputs = [(entry.name, entry.shape) for entry in program.inputs]
    name = program.inputs[0].name if program.inputs else ""
    expected = images == [(name, side, side, "RGB")] and inputs == [(name, (1, 3, side, side))]
    if not expected or len(program.outputs) != 1:
        raise ArtifactError(
            f"{artifact.path} does not take one RGB image of {side}×{side} px to one embedding, as its manifest says; "
            "export it again."
        )
    return name, program.outputs[0]
