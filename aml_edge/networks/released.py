"""Students, teachers and whitenings by name: what `--student`, `--teacher` and `--whitening` take."""

from __future__ import annotations

from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.networks.backbones import backbone_spec
from aml_edge.networks.checkpoints import (
    STUDENT_FILE,
    TEACHER_FILE,
    StudentCheckpoint,
    TeacherCheckpoint,
    load_student,
    load_teacher,
    weights_sha256,
)
from aml_edge.networks.foreign import read_published_whitening
from aml_edge.networks.imagenet import IMAGENET_PREFIX, load_imagenet_backbone
from aml_edge.networks.recorded_weights import recorded_weights_sha256
from aml_edge.networks.released_cache import fetched
from aml_edge.networks.released_files import (
    STUDENT_PREFIX,
    TEACHER_PREFIX,
    released_student,
    released_teacher,
    student_of_file,
)
from aml_edge.networks.released_spaces import released_space
from aml_edge.networks.released_whitenings import refuse_teacher
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.torch_file import is_torch_file
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import load_teacher_whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import SayingProgress, SilentProgress
from aml_edge.space import EmbeddingSpace, untrained_space

UNTRAINED_SPEC = StudentSpec("efficientnet_b3", 2048)
DEMO = "demo"
RUNS = Path("runs")


def resolve_teacher(name: str, *, runs: Path = RUNS, progress: SayingProgress | None = None) -> TeacherCheckpoint:
    """Returns the teacher of a name, in evaluation mode.

    Args:
        name: a teacher's file, a folder that holds one, or the name of a run; ``"gem:resnet101"``: a released one,
            downloaded where it is not in the cache (`aml_edge.networks.released_files`); or
            ``"imagenet:efficientnet_lite2"``: an ImageNet backbone with GeM, never trained for retrieval.
        runs: the folder of runs.
        progress: where a download is announced.

    Raises:
        UsageError: the name says nothing.
        MissingExtraError: its weights are in a package that is not installed.
        DownloadError: the released file cannot be had, or is not the right one.
        CheckpointError, UnsafePickleError: the file is damaged, holds no teacher, or is hostile.
    """
    for path in (Path(name), runs / name):
        if path.is_file() or (path / TEACHER_FILE).is_file():
            return load_teacher(path)
    progress = progress or SilentProgress()
    if name.startswith(TEACHER_PREFIX):
        return load_teacher(fetched(released_teacher(name.removeprefix(TEACHER_PREFIX)), progress))
    backbone = name.removeprefix(IMAGENET_PREFIX)
    if backbone == name:
        raise UsageError(
            f"`teacher` is {name!r}; it must be a teacher's file, a run's folder, gem:NAME as released, or "
            f"{IMAGENET_PREFIX}BACKBONE."
        )
    teacher = Teacher(TeacherSpec(backbone)).eval()
    teacher.backbone = load_imagenet_backbone(backbone, progress=progress)
    return TeacherCheckpoint(teacher, f"{backbone}-gem-imagenet", _preprocessing(backbone))


def resolve_student(
    name: str | None,
    *,
    runs: Path = RUNS,
    space: EmbeddingSpace | None = None,
    progress: SayingProgress | None = None,
) -> StudentCheckpoint:
    """Returns the student of a name, in evaluation mode.

    Args:
        name: a student's file, a folder that holds one, ``"demo"`` for the demo's run, the name of a run,
            ``"aml:efficientnet-b3-reg-resnet101"`` for a released one, downloaded where it is not in the cache
            (`aml_edge.networks.released_files`), or None for the newest run; without any run a seeded EfficientNet-B3
            with random weights, which is not trained.
        runs: the folder of runs.
        space: of the index that the student shall ask, without whitening. A published student's file does not say
            whose it is: one that goes by a released name is held to the teacher of that name, any other is taken to
            be of this space.
        progress: where a download is announced, and what had to be assumed.

    Raises:
        UsageError: the name says nothing.
        SpaceMismatchError: a released student is of another teacher than the index.
        CheckpointError: the file is damaged.
        DownloadError: the released file cannot be had, or is not the right one.
    """
    progress = progress or SilentProgress()
    if name is None:
        newest = newest_student(runs)
        return untrained_student(UNTRAINED_SPEC) if newest is None else load_student(newest)
    for path in (Path(name), runs / name):
        if path.is_file() or (path / STUDENT_FILE).is_file():
            known = student_of_file(path.name) if path.is_file() and is_torch_file(path) else None
            return load_student(path, space=space if known is None else released_space(known, space, progress))
    if name.startswith(STUDENT_PREFIX):
        released = released_student(name.removeprefix(STUDENT_PREFIX))
        space = released_space(released, space, progress)  # first, since nothing is downloaded to be refused
        return load_student(fetched(released.file, progress), space=space)
    if name == DEMO:
        raise UsageError(
            f"`student` is 'demo', but there is no {runs / DEMO / STUDENT_FILE}; `aml-edge demo` makes it."
        )
    raise UsageError(
        f"`student` is {name!r}; it must be a student's file, a run's folder, the name of a run in {runs}, or aml:NAME "
        "as released."
    )


def resolve_whitening(name: str, teacher: TeacherCheckpoint) -> Whitening:
    """Returns the whitening of a name, to follow a teacher.

    Args:
        name: one that came with the teacher, e.g. ``"retrieval-SfM-120k/ss"``, or a file: a published `{m, P}`,
            or one that `aml-edge whitening` wrote.
        teacher: whose embeddings it is for.

    Raises:
        UsageError: the name says nothing, or the whitening takes embeddings of another dimension.
        SpaceMismatchError: it was learned for another network, as its file or its name says; both are named.
        CheckpointError, UnsafePickleError: the file is damaged, holds no whitening, or is hostile.
    """
    if name in teacher.whitenings:
        whitening = teacher.whitenings[name]
    elif Path(name).is_file():
        path = Path(name)
        if not is_torch_file(path):
            return load_teacher_whitening(path, teacher.space(), name=teacher.name)
        whitening = read_published_whitening(path)
    else:
        known = ", ".join(teacher.whitenings) or "none"
        refuse_teacher(name, teacher.name, known)
        raise UsageError(
            f"`whitening` is {name!r}; it must be a whitening's file, or one that came with teacher "
            f"'{teacher.name}': {known}."
        )
    takes = whitening.projection.shape[1]
    if takes != teacher.teacher.dimension:
        raise UsageError(
            f"`whitening` is {name!r}, which takes {takes} values, but teacher '{teacher.name}' gives "
            f"{teacher.teacher.dimension}; give one that was learned for this teacher."
        )
    return whitening


def newest_student(runs: Path) -> Path | None:
    """Returns the run folder whose student was written last, or None where no run has one."""
    files = list(runs.glob(f"*/{STUDENT_FILE}"))
    return max(files, key=lambda file: (file.stat().st_mtime_ns, file)).parent if files else None


def student_of_weights(sha256: str, *, runs: Path = RUNS) -> StudentCheckpoint | None:
    """Returns the student of the run whose weights have that SHA-256, or None where no run has them.

    What a run's record says is only where to look: the weights themselves are compared.
    """
    for file in sorted(runs.glob(f"*/{STUDENT_FILE}")):
        if recorded_weights_sha256(file) == sha256:
            checkpoint = load_student(file)
            if checkpoint.weights_sha256 == sha256:
                return checkpoint
    return None


def untrained_student(spec: StudentSpec, *, seed: int = 0) -> StudentCheckpoint:
    """Returns a student with seeded random weights in a space of its own: for sizes and speeds only."""
    student = Student(spec, seed=seed).eval()
    space = untrained_space(spec.dimension, weights_sha256(student))
    return StudentCheckpoint(student, f"{spec.backbone}-untrained", space, _preprocessing(spec.backbone), trained=False)


def _preprocessing(backbone: str) -> Preprocessing:
    spec = backbone_spec(backbone)
    return Preprocessing(mean=spec.mean, std=spec.std)
