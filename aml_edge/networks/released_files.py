"""Which teachers and students were released: names, files, addresses, and the hash where one is published.

Published where:
- teachers, with whitening learned before or within the network: the lists of pretrained networks in
  `cirtorch/examples/test.py` of github.com/filipradenovic/cnnimageretrieval-pytorch. A name ends in the first seven hex
  digits of the file's SHA-256 (`sha256_hash` in `cirtorch/utils/general.py`).
- students and their whitenings: the lists at the top of `test.py` of github.com/budnikm/aml. Its addresses have no
  scheme; http:// is ours. One of them reads ``efficientnet_b3_gem_reg_vgg16.pthaa.tar`` where all others end in
  ``.pth.tar``, and whether that is a slip in the list or the name on the server is not known: both are tried. No hash
  is published.

Not verified here: no machine that this was written on could reach either host, so whether the files are still there,
how long they are and whether the seven digits hold is known only once somebody has downloaded them.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from aml_edge.errors import UsageError

TEACHER_PREFIX, STUDENT_PREFIX = "gem:", "aml:"
TEACHERS_URL = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/networks"
STUDENTS_URL = "http://files.inria.fr/aml"

TEACHER_PATHS = (
    "retrieval-SfM-120k/retrievalSfM120k-vgg16-gem-b4dcdc6.pth",
    "retrieval-SfM-120k/retrievalSfM120k-resnet101-gem-b80fb85.pth",
    "retrieval-SfM-120k/rSfM120k-tl-resnet50-gem-w-97bf910.pth",
    "retrieval-SfM-120k/rSfM120k-tl-resnet101-gem-w-a155e54.pth",
    "retrieval-SfM-120k/rSfM120k-tl-resnet152-gem-w-f39cada.pth",
    "gl18/gl18-tl-resnet50-gem-w-83fdc30.pth",
    "gl18/gl18-tl-resnet101-gem-w-a4d43db.pth",
    "gl18/gl18-tl-resnet152-gem-w-21278d5.pth",
)
SHORT_TEACHERS = {"vgg16": "retrievalSfM120k-vgg16-gem", "resnet101": "retrievalSfM120k-resnet101-gem"}
"""The two teachers of the released students, by what the students' names call them."""

BACKBONES = ("efficientnet_b3", "mobilenet_v2")
LOSSES = ("contr_plus", "reg", "contr", "dark", "ms", "rkd", "triplet")
ALONE = ("contr_2048", "contr_512")
"""Students that were trained without a teacher, in as many dimensions."""
OTHER_NAMES = {"efficientnet_b3_gem_reg_vgg16.pth.tar": "efficientnet_b3_gem_reg_vgg16.pthaa.tar"}

_HASHED = re.compile(r"(?P<name>.+)-(?P<sha256>[0-9a-f]{7})\.pth")


@dataclass(frozen=True)
class ReleasedFile:
    """A file as it was released.

    Args:
        names: that it may have, in a cache folder too; the first one is ours.
        urls: in the order of the names.
        sha256: the first hex digits of its SHA-256; empty where none is published.
    """

    names: tuple[str, ...]
    urls: tuple[str, ...]
    sha256: str = ""


@dataclass(frozen=True)
class ReleasedStudent:
    """A student as it was released.

    Args:
        name: ours, e.g. ``"efficientnet-b3-reg-resnet101"``.
        stem: of its file, e.g. ``"efficientnet_b3_gem_reg_resnet101"``.
        loss: that it was trained with, one of `LOSSES`.
        teacher: short name of the teacher that it was trained for; None where it was trained alone.
    """

    name: str
    stem: str
    loss: str
    teacher: str | None

    @property
    def file(self) -> ReleasedFile:
        """Its weights."""
        return _student_file(f"{self.stem}.pth.tar")

    @property
    def whitening(self) -> ReleasedFile:
        """The whitening learned after training on its own embeddings, for queries and database alike."""
        return _student_file(f"{self.stem}_whitening.pth")


def _students() -> dict[str, ReleasedStudent]:
    pairs = [(loss, teacher) for loss in LOSSES for teacher in SHORT_TEACHERS]
    trained = [(f"{loss}_{teacher}", loss, teacher) for loss, teacher in pairs]
    alone = [(words, words.partition("_")[0], None) for words in ALONE]
    students = {}
    for backbone in BACKBONES:
        for words, loss, teacher in (*trained, *alone):
            name = f"{backbone}_{words}".replace("_", "-")
            students[name] = ReleasedStudent(name, f"{backbone}_gem_{words}", loss, teacher)
    return students


STUDENTS = _students()


def released_teacher(name: str) -> ReleasedFile:
    """Returns the file of a teacher, by its published name or a short one, without the prefix.

    Raises:
        UsageError: no such teacher was released; names the nearest one.
    """
    published = SHORT_TEACHERS.get(name, name)
    files = {}
    for path in TEACHER_PATHS:
        file = path.rpartition("/")[2]
        hashed = _HASHED.fullmatch(file)
        assert hashed is not None
        files[hashed["name"]] = ReleasedFile((file,), (f"{TEACHERS_URL}/{path}",), hashed["sha256"])
    if published not in files:
        raise _unknown("teacher", TEACHER_PREFIX, name, (*SHORT_TEACHERS, *files))
    return files[published]


def released_student(name: str, *, argument: str = "student") -> ReleasedStudent:
    """Returns a student by our name, a published one or the stem of its file, without the prefix.

    Args:
        name: e.g. ``"efficientnet-b3-reg-resnet101"``, ``"efficientnet-b3-gem-reg-resnet101"``.
        argument: that the name was given as, for the message.

    Raises:
        UsageError: no such student was released; names the nearest one.
    """
    ours = name.replace("_", "-").replace("-gem-", "-").replace("-dr-", "-dark-")  # the paper's name of the loss is DR
    if ours not in STUDENTS:
        raise _unknown(argument, STUDENT_PREFIX, name, tuple(STUDENTS))
    return STUDENTS[ours]


def student_of_file(name: str) -> ReleasedStudent | None:
    """Returns the student that was released under a file name, or None: then the name says nothing."""
    return next((student for student in STUDENTS.values() if name in student.file.names), None)


def _student_file(name: str) -> ReleasedFile:
    names = (name, OTHER_NAMES[name]) if name in OTHER_NAMES else (name,)
    return ReleasedFile(names, tuple(f"{STUDENTS_URL}/{one}" for one in names))


def _unknown(argument: str, prefix: str, name: str, known: tuple[str, ...]) -> UsageError:
    nearest = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    released = ", ".join(prefix + one for one in known)
    step = f"did you mean {prefix}{nearest[0]}?" if nearest else f"released are {released}."
    return UsageError(f"`{argument}` is {prefix + name!r}, which was not released; {step}")
