"""The student that a training starts from."""

from __future__ import annotations

from aml_edge.networks.backbones import backbone_spec
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.imagenet import load_imagenet_backbone
from aml_edge.networks.released import IMAGENET_PREFIX
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace


def starting_student(backbone: str, space: EmbeddingSpace, *, image_side_px: int, seed: int = 0) -> StudentCheckpoint:
    """Returns an untrained student that claims a teacher's space: its adaptor has seeded random weights.

    Args:
        backbone: a named backbone or one of timm, with random weights; or ``"imagenet:efficientnet_lite0"``.
        space: of the teacher's index.
        image_side_px: longest side of the images it is to be trained on.
        seed: of the random weights.

    Raises:
        UsageError: there is no such backbone, or no ImageNet weights for it.
        MissingExtraError: its ImageNet weights are in a package that is not installed.
    """
    architecture = backbone.removeprefix(IMAGENET_PREFIX)
    student = Student(StudentSpec(architecture, space.dimension), seed=seed).eval()
    if architecture != backbone:
        student.backbone = load_imagenet_backbone(architecture)
    spec = backbone_spec(architecture)
    preprocessing = Preprocessing(image_side_px, Fit.NATIVE, spec.mean, spec.std)
    return StudentCheckpoint(student, f"{architecture}-untrained", space, preprocessing, trained=False)
