"""The tables against the published lists, which lie in `tests/data/released`."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.errors import UsageError
from aml_edge.networks.released_files import (
    LOSSES,
    STUDENTS,
    TEACHER_PATHS,
    released_student,
    released_teacher,
    student_of_file,
)

LISTS = Path(__file__).parents[1] / "data" / "released"
PUBLISHED_STUDENTS = [line.split() for line in (LISTS / "students.txt").read_text().splitlines()]
PUBLISHED_TEACHERS = [line.split() for line in (LISTS / "teachers.txt").read_text().splitlines()]
SLIP = "efficientnet_b3_gem_reg_vgg16.pthaa.tar"


@pytest.mark.parametrize(
    ("name", "listed", "whitening"), PUBLISHED_STUDENTS, ids=[one[0] for one in PUBLISHED_STUDENTS]
)
def test_each_published_student_is_found_with_its_files(name: str, listed: str, whitening: str) -> None:
    student = released_student(name)
    for file, address in ((student.file, listed), (student.whitening, whitening)):
        assert f"http://files.inria.fr/aml/{address}" in file.urls
        assert file.urls == tuple(f"http://files.inria.fr/aml/{one}" for one in file.names)
        assert file.sha256 == ""
        assert len(file.urls) == (2 if address == SLIP else 1)
    assert student.file.names[0] == f"{student.stem}.pth.tar"
    assert student_of_file(listed) == student


def test_no_other_students_are_claimed() -> None:
    assert len(STUDENTS) == len(PUBLISHED_STUDENTS) == 32
    assert {student.stem + ".pth.tar" for student in STUDENTS.values()} == {
        listed.replace(".pthaa.", ".pth.") for _, listed, _ in PUBLISHED_STUDENTS
    }


def test_the_address_with_the_slip_comes_second() -> None:
    assert released_student("efficientnet-b3-reg-vgg16").file.names == ("efficientnet_b3_gem_reg_vgg16.pth.tar", SLIP)


@pytest.mark.parametrize(("name", "url"), PUBLISHED_TEACHERS, ids=[one[0] for one in PUBLISHED_TEACHERS])
def test_each_published_teacher_is_found_with_address_and_hash(name: str, url: str) -> None:
    file = released_teacher(name)
    assert file.urls == (url,)
    assert file.names == (url.rpartition("/")[2],)
    assert file.sha256 == url[-11:-4]
    assert len(TEACHER_PATHS) == len(PUBLISHED_TEACHERS)


def test_the_teachers_of_the_students_have_short_names() -> None:
    assert released_teacher("resnet101") == released_teacher("retrievalSfM120k-resnet101-gem")
    assert released_teacher("vgg16") == released_teacher("retrievalSfM120k-vgg16-gem")


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet-b3-contr-plus-vgg16",
        "efficientnet-b3-gem-contr-plus-vgg16",
        "efficientnet_b3_gem_contr_plus_vgg16",
    ],
)
def test_a_student_has_our_name_the_published_one_and_its_file_s(name: str) -> None:
    student = released_student(name)
    assert (student.name, student.stem) == (
        "efficientnet-b3-contr-plus-vgg16",
        "efficientnet_b3_gem_contr_plus_vgg16",
    )


def test_the_paper_s_name_of_a_loss_will_do_for_the_file_s() -> None:
    assert released_student("mobilenet-v2-dr-vgg16").stem == "mobilenet_v2_gem_dark_vgg16"


def test_loss_and_teacher_are_those_of_the_name() -> None:
    for student in STUDENTS.values():
        loss = student.loss.replace("_", "-")
        if student.teacher is None:
            assert student.name.endswith(("-contr-2048", "-contr-512"))
        else:
            assert student.name.endswith(f"-{loss}-{student.teacher}")
    taught = [student for student in STUDENTS.values() if student.teacher is not None]
    assert {(student.loss, student.teacher) for student in taught} == {
        (loss, teacher) for loss in LOSSES for teacher in ("resnet101", "vgg16")
    }
    assert len(STUDENTS) - len(taught) == 4


@pytest.mark.parametrize(
    "name", ["a file.bin", "", "efficientnet_b3_gem_reg_resnet101_whitening.pth", "efficientnet_b3_gem_reg_resnet101"]
)
def test_other_file_names_say_nothing(name: str) -> None:
    assert student_of_file(name) is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("efficientnet-b3-reg-resnet10", "efficientnet-b3-reg-resnet101"),
        ("mobilenet_v2_gem_kd_vgg16", "mobilenet-v2-rkd-vgg16"),
        ("mobilenet-contr-2048", "mobilenet-v2-contr-2048"),
    ],
)
def test_a_student_that_was_not_released_is_said_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UsageError) as refusal:
        released_student(name)
    assert str(refusal.value) == f"`student` is 'aml:{name}', which was not released; did you mean aml:{nearest}?"


def test_a_teacher_that_was_not_released_is_said_with_the_nearest() -> None:
    with pytest.raises(UsageError) as refusal:
        released_teacher("resnet-101")
    assert str(refusal.value) == ("`teacher` is 'gem:resnet-101', which was not released; did you mean gem:resnet101?")


def test_where_no_name_is_near_all_are_said() -> None:
    with pytest.raises(UsageError) as refusal:
        released_teacher("")
    names = ", ".join(f"gem:{name}" for name in ("vgg16", "resnet101", *(name for name, _ in PUBLISHED_TEACHERS)))
    assert str(refusal.value) == f"`teacher` is 'gem:', which was not released; released are {names}."
