"""The network that a training starts from."""

from __future__ import annotations

from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.networks.backbones import FeatureMap, backbone_spec
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.imagenet import IMAGENET_PREFIX, load_imagenet_backbone
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import SayingProgress
from aml_edge.space import EmbeddingSpace, untrained_space
from aml_edge.training.settings import ANY_BACKBONE, OWN_SIDE, Network, TrainingSettings


def starting_network(
    settings: TrainingSettings, space: EmbeddingSpace | None, *, progress: SayingProgress | None = None
) -> StudentCheckpoint | TeacherCheckpoint:
    """Returns what a training starts from: an ImageNet or random trunk, and a student's adaptor of random weights.

    Args:
        settings: network, backbone, dimension, image side and seed.
        space: of the teacher's index, which the student claims; None where it is trained alone.
        progress: where a download of ImageNet weights is announced.

    Raises:
        UsageError: there is no such backbone, no ImageNet weights for it, no dimension is known, or it cannot be.
        TeacherIndexError: the index has another dimension than the settings ask for.
        MissingExtraError: its ImageNet weights are in a package that is not installed.
    """
    _require_complete(settings)
    architecture = settings.backbone.removeprefix(IMAGENET_PREFIX)
    spec = backbone_spec(architecture)
    preprocessing = Preprocessing(settings.image_side_px, settings.fit, spec.mean, spec.std)
    name = f"{architecture}-untrained"
    if settings.network is Network.TEACHER:
        teacher = Teacher(TeacherSpec(architecture), seed=settings.seed).eval()
        if settings.dimension not in (0, teacher.dimension):
            raise UsageError(
                f"`dimension` is {settings.dimension}, but a teacher has no adaptor and {architecture} gives "
                f"{teacher.dimension} values; set it to 0."
            )
        teacher.backbone = _imagenet_trunk(settings, progress) or teacher.backbone
        return TeacherCheckpoint(teacher, name, preprocessing)
    dimension = settings.dimension if space is None else space.dimension
    if not dimension:
        raise UsageError("`dimension` is 0, but no index says how many values an embedding has; set it.")
    if settings.dimension not in (0, dimension):
        raise TeacherIndexError(
            f"`dimension` is {settings.dimension}, but the teacher's index has {dimension}; set it to 0, or give an "
            "index of the teacher that the recipe is for."
        )
    student = Student(StudentSpec(architecture, dimension), seed=settings.seed).eval()
    student.backbone = _imagenet_trunk(settings, progress) or student.backbone
    return StudentCheckpoint(student, name, space or untrained_space(dimension, "0" * 64), preprocessing, trained=False)


def _require_complete(settings: TrainingSettings) -> None:
    """Raises `UsageError` where settings leave to a student what only a quantization-aware training has."""
    for name, value in (("backbone", ANY_BACKBONE), ("image_side_px", OWN_SIDE)):
        if getattr(settings, name) == value:
            raise UsageError(
                f"`{name}` is {value!r}, which takes that of a trained student; name the student: --qat --from RUN, or "
                f"set `{name}`."
            )


def _imagenet_trunk(settings: TrainingSettings, progress: SayingProgress | None) -> FeatureMap | None:
    """Returns the trunk with ImageNet weights where the settings name them; a download comes after all refusals."""
    architecture = settings.backbone.removeprefix(IMAGENET_PREFIX)
    return None if architecture == settings.backbone else load_imagenet_backbone(architecture, progress=progress)
