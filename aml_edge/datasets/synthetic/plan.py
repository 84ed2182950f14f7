"""Which images a synthetic data set has: of which landmark, how hard, under which name, with which ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePosixPath

import numpy as np

from aml_edge.datasets.sfm import image_id
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.views import Difficulty

VIEWS_PER_DISTRACTOR = 4
"""Distractors are views of landmarks too, of which no query asks; each landmark gives so many."""

TRAINING_CYCLE = (Difficulty.QUERY, Difficulty.EASY, Difficulty.HARD, Difficulty.EASY, Difficulty.HARD)
DISTRACTOR_CYCLE = (Difficulty.EASY, Difficulty.HARD)

Box = tuple[float, float, float, float]


class Role(IntEnum):
    """What a landmark is for; part of every seed, so that no landmark has two roles. Never renumber."""

    SCENERY = 0
    TRAIN = 1
    VAL = 2
    TEST = 3
    DISTRACTOR = 4


class Stream(IntEnum):
    """What a landmark's lots are drawn for; the views follow from `VIEWS` on."""

    LOOKS = 0
    PAIRS = 1
    VIEWS = 2


@dataclass(frozen=True)
class Shot:
    """One image of a landmark.

    Args:
        name: in the data set's metadata: without folder and suffix.
        path: relative to the folder of both data sets.
        view: its number among the landmark's.
        difficulty: of the view.
    """

    name: str
    path: PurePosixPath
    view: int
    difficulty: Difficulty


@dataclass(frozen=True)
class Subject:
    """A landmark and its images."""

    role: Role
    number: int
    shots: tuple[Shot, ...]


def lots(spec: SyntheticSpec, role: Role, number: int, stream: int) -> np.random.Generator:
    """Returns the generator of one purpose; it depends on nothing that is drawn elsewhere."""
    return np.random.default_rng((spec.seed, int(role), number, stream))


def sfm_root(spec: SyntheticSpec) -> PurePosixPath:
    """Returns the folder of the training set, relative to the folder of both."""
    return PurePosixPath("train", spec.name)


def revisited_root(spec: SyntheticSpec) -> PurePosixPath:
    """Returns the folder of the test set, relative to the folder of both."""
    return PurePosixPath("test", spec.name)


def subjects(spec: SyntheticSpec) -> list[Subject]:
    """Returns every landmark of a data set, in the order of its metadata."""
    distractors = range(0, spec.distractors, VIEWS_PER_DISTRACTOR)
    return [
        *(_training_subject(spec, Role.TRAIN, number) for number in range(spec.landmarks_train)),
        *(_training_subject(spec, Role.VAL, number) for number in range(spec.landmarks_val)),
        *(_test_subject(spec, number) for number in range(spec.landmarks_test)),
        *(_distractor(spec, number, first) for number, first in enumerate(distractors)),
    ]


def sfm_metadata(spec: SyntheticSpec, planned: Sequence[Subject]) -> dict[str, dict[str, list[object]]]:
    """Returns what the pickle of the training set holds: plain lists of text and numbers."""
    return {
        "train": _sfm_split(spec, [subject for subject in planned if subject.role is Role.TRAIN]),
        "val": _sfm_split(spec, [subject for subject in planned if subject.role is Role.VAL]),
    }


def revisited_metadata(planned: Sequence[Subject], boxes: Sequence[Sequence[Box]]) -> dict[str, list[object]]:
    """Returns what the pickle of the test set holds: plain lists of text and numbers.

    Args:
        planned: all landmarks.
        boxes: for each of them, a box for every query.
    """
    names: list[object] = []
    queries: list[object] = []
    ground_truth: list[object] = []
    for subject, subject_boxes in zip(planned, boxes, strict=True):
        if subject.role not in (Role.TEST, Role.DISTRACTOR):
            continue
        rows: dict[Difficulty, list[int]] = {difficulty: [] for difficulty in Difficulty}
        for shot in subject.shots:
            if shot.difficulty is Difficulty.QUERY:
                queries.append(shot.name)
            else:
                rows[shot.difficulty].append(len(names))
                names.append(shot.name)
        answers = {str(label): rows[label] for label in (Difficulty.EASY, Difficulty.HARD, Difficulty.JUNK)}
        ground_truth += [
            {"bbx": list(box), **{label: list(found) for label, found in answers.items()}} for box in subject_boxes
        ]
    return {"imlist": names, "qimlist": queries, "gnd": ground_truth}


def _training_subject(spec: SyntheticSpec, role: Role, number: int) -> Subject:
    shots = []
    for view in range(spec.views_train):
        cid = _cid(spec, role, number, view)
        difficulty = TRAINING_CYCLE[view % len(TRAINING_CYCLE)]
        shots.append(Shot(cid, sfm_root(spec) / image_id(cid), view, difficulty))
    return Subject(role, number, tuple(shots))


def _cid(spec: SyntheticSpec, role: Role, number: int, view: int) -> str:
    """A name as the published ones: hexadecimal; its end, by which it is filed, is the landmark's."""
    digest = hashlib.sha256(f"{spec.seed} {role.name} {number} {view}".encode()).hexdigest()
    return f"{digest[:24]}{_cluster(spec, role, number):08x}"


def _cluster(spec: SyntheticSpec, role: Role, number: int) -> int:
    return number if role is Role.TRAIN else spec.landmarks_train + number


def _test_subject(spec: SyntheticSpec, number: int) -> Subject:
    shots: list[Shot] = []
    for difficulty, count in (
        (Difficulty.QUERY, spec.queries),
        (Difficulty.EASY, spec.easy),
        (Difficulty.HARD, spec.hard),
        (Difficulty.JUNK, spec.junk),
    ):
        for place in range(count):
            name = f"landmark{number:04}_{difficulty}{place:02}"
            shots.append(Shot(name, _test_path(spec, name), len(shots), difficulty))
    return Subject(Role.TEST, number, tuple(shots))


def _distractor(spec: SyntheticSpec, number: int, first: int) -> Subject:
    shots = []
    for view in range(min(VIEWS_PER_DISTRACTOR, spec.distractors - first)):
        name = f"distractor{first + view:05}"
        shots.append(Shot(name, _test_path(spec, name), view, DISTRACTOR_CYCLE[view % len(DISTRACTOR_CYCLE)]))
    return Subject(Role.DISTRACTOR, number, tuple(shots))


def _test_path(spec: SyntheticSpec, name: str) -> PurePosixPath:
    return revisited_root(spec) / "jpg" / f"{name}.jpg"


def _sfm_split(spec: SyntheticSpec, planned: Sequence[Subject]) -> dict[str, list[object]]:
    """Every second image is a query, its positive another of the same landmark."""
    split: dict[str, list[object]] = {"cids": [], "cluster": [], "qidxs": [], "pidxs": []}
    for subject in planned:
        rng, first = lots(spec, subject.role, subject.number, Stream.PAIRS), len(split["cids"])
        count = len(subject.shots)
        for query in range(0, count, 2):
            other = int(rng.integers(count - 1))
            split["qidxs"].append(first + query)
            split["pidxs"].append(first + other + (other >= query))
        split["cids"] += [shot.name for shot in subject.shots]
        split["cluster"] += [_cluster(spec, subject.role, subject.number)] * count
    return split
