"""Released files by name, the whole way: small files in the published form, served on this machine, downloaded, read.

The server stands for both hosts; the teacher's name carries the first digits of the hash of the file that is served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.datasets.image_source import image_source
from aml_edge.downloading.downloads import OFFLINE_VARIABLE
from aml_edge.errors import CheckpointError, DownloadError, SpaceMismatchError, UnsafePickleError, UsageError
from aml_edge.image_loading import embed_items
from aml_edge.index import open_index
from aml_edge.index.building import build_index
from aml_edge.index.whitening import resolve_student_whitening
from aml_edge.networks import released_files
from aml_edge.networks.checkpoints import StudentCheckpoint, weights_sha256
from aml_edge.networks.released import resolve_student, resolve_teacher, resolve_whitening
from aml_edge.networks.released_cache import CACHE_VARIABLE
from aml_edge.networks.student import StudentSpec
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import SilentProgress
from aml_edge.querying import student_queries
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.space import EmbeddingSpace

Published = Callable[[str], Any]
STUDENT = "mobilenet-v2-reg-vgg16"
FILE = "mobilenet_v2_gem_reg_vgg16.pth.tar"
ALONE, ALONE_FILE = "mobilenet-v2-contr-512", "mobilenet_v2_gem_contr_512.pth.tar"
STRANGER = EmbeddingSpace("resnet101-gem", "b" * 64, 2048)


class Lines(SilentProgress):
    """A progress that remembers the lines that it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Host(NamedTuple):
    """The server, its copies of the files, and the cache that they are downloaded into."""

    server: Any
    teacher: str
    cache: Path
    lines: Lines

    @property
    def asked(self) -> list[str]:
        """What was asked for, by file name."""
        return [path.rpartition("/")[2] for path, _ in self.server.requests]


@pytest.fixture(scope="module")
def contents(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a teacher, a student of it, and a whitening, in the published form."""
    folder = tmp_path_factory.mktemp("contents")
    adaptor = torch.randn(512, 1280, 1, 1, generator=torch.Generator().manual_seed(0))
    whitening = {"m": np.zeros((512, 1)), "P": np.eye(512)[:7]}
    torch.save(whitening, folder / "whitening")
    student = published("mobilenet_v2").save(folder / "student", **{"features.1.weight": adaptor})
    teacher = published("vgg16").save(folder / "teacher", meta={"Lw": {"retrieval-SfM-120k": {"ss": whitening}}})
    return {
        "teacher": teacher.read_bytes(),
        "student": student.read_bytes(),
        "whitening": (folder / "whitening").read_bytes(),
    }


@pytest.fixture
def host(contents: dict[str, bytes], faulty_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(released_files, "TEACHERS_URL", f"{faulty_server.url}/networks")
    monkeypatch.setattr(released_files, "STUDENTS_URL", f"{faulty_server.url}/aml")
    digits = hashlib.sha256(contents["teacher"]).hexdigest()[:7]
    teacher = f"retrievalSfM120k-vgg16-gem-{digits}.pth"
    paths = tuple(
        path.replace("retrievalSfM120k-vgg16-gem-b4dcdc6.pth", teacher) for path in released_files.TEACHER_PATHS
    )
    monkeypatch.setattr(released_files, "TEACHER_PATHS", paths)
    faulty_server.files |= {
        f"/networks/retrieval-SfM-120k/{teacher}": contents["teacher"],
        f"/aml/{FILE}": contents["student"],
        f"/aml/{ALONE_FILE}": contents["student"],
        "/aml/mobilenet_v2_gem_rkd_vgg16.pth.tar": contents["student"],
        "/aml/mobilenet_v2_gem_reg_vgg16_whitening.pth": contents["whitening"],
    }
    return Host(faulty_server, teacher, tmp_path / "cache", Lines())


def student(host: Host, name: str, space: EmbeddingSpace | None = None) -> StudentCheckpoint:
    return resolve_student(f"aml:{name}", runs=host.cache / "no runs", space=space, progress=host.lines)


def test_from_two_names_to_answers_of_a_teacher_s_index(host: Host, published: Published, tmp_path: Path) -> None:
    """The teacher indexes images, the student asks; both give what the networks give that the files were made from."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 20, 90)).save(images / f"{number}.png")
    source, preprocessing = image_source(images), Preprocessing(64)
    teacher = resolve_teacher("gem:vgg16", progress=host.lines)
    index = build_index(teacher_embedder(teacher, preprocessing), source, tmp_path / "index")
    asking = student(host, STUDENT, index.space_before_whitening)
    assert asking.space == index.space == teacher.space()
    queries = student_queries(replace(asking, preprocessing=preprocessing), open_index(tmp_path / "index"))
    with closing(queries):
        assert embed_items(queries, source.items).shape == (3, 512)
    file = published("vgg16")
    with torch.inference_mode():
        torch.testing.assert_close(teacher.teacher(file.images), file.embeddings, rtol=0, atol=1e-6)
    assert host.asked == [host.teacher, FILE]
    assert {part.name for part in host.cache.iterdir()} == {
        name + end for name in (host.teacher, FILE) for end in ("", ".json")
    }


def test_a_download_is_said_with_what_from_where_to_where_and_how_much(host: Host, contents: dict[str, bytes]) -> None:
    resolve_teacher("gem:retrievalSfM120k-vgg16-gem", progress=host.lines)
    size = len(contents["teacher"]) / 1e6
    assert host.lines.lines == [
        f"downloading {host.teacher} to {host.cache}",
        f"from {host.server.url}/networks/retrieval-SfM-120k/{host.teacher}: {size:.1f} MB",
    ]


def test_the_second_time_nothing_is_downloaded_and_nothing_said(host: Host) -> None:
    first = resolve_teacher("gem:vgg16")
    again = resolve_teacher("gem:vgg16", progress=host.lines)
    assert again.space() == first.space()
    assert (host.asked, host.lines.lines) == ([host.teacher], [])


def test_an_existing_path_goes_before_a_released_name(
    host: Host, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gem:vgg16").write_bytes(contents["teacher"])
    Path(f"aml:{STUDENT}").write_bytes(contents["student"])
    assert resolve_teacher("gem:vgg16").name == "vgg16-gem"
    assert student(host, STUDENT).student.spec == StudentSpec("mobilenet_v2", 512)
    assert host.asked == []


def test_offline_the_address_and_the_place_are_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    with pytest.raises(DownloadError) as refusal:
        student(host, ALONE)
    assert str(refusal.value) == (
        f"`AML_EDGE_OFFLINE` is '1', so {ALONE_FILE} is not downloaded; get it from "
        f"{host.server.url}/aml/{ALONE_FILE} and put it at {host.cache / ALONE_FILE}."
    )


def test_a_teacher_with_another_hash_than_its_name_says_is_refused(host: Host) -> None:
    path = f"/networks/retrieval-SfM-120k/{host.teacher}"
    host.server.files[path] = host.server.files[path][:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"the published one begins with {host.teacher[-11:-4]}; it was not kept"):
        resolve_teacher("gem:vgg16")


def test_a_hostile_file_is_refused_by_the_reader(host: Host) -> None:
    """No hash of a student is published: what comes is read as any file of which nothing is known."""
    host.server.files[f"/aml/{ALONE_FILE}"] = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02R."
    with pytest.raises(UnsafePickleError, match=r"asks for posix\.system"):
        student(host, ALONE)


def test_a_page_that_calls_itself_a_file_is_not_kept(host: Host) -> None:
    host.server.files[f"/aml/{ALONE_FILE}"] = b"<!doctype html>"
    with pytest.raises(DownloadError, match=rf"/aml/{ALONE_FILE} gives something else than {ALONE_FILE}"):
        student(host, ALONE)
    assert list(host.cache.iterdir()) == []


def test_a_file_that_is_something_else_is_refused_by_the_reader(host: Host, contents: dict[str, bytes]) -> None:
    host.server.files[f"/aml/{ALONE_FILE}"] = contents["whitening"]
    with pytest.raises(CheckpointError, match="holds a whitening, not a network"):
        student(host, ALONE)


@pytest.mark.parametrize(
    ("resolve", "name", "said"),
    [
        (resolve_student, "aml:mobilenet-v2-reg-vgg", f"did you mean aml:{STUDENT}?"),
        (resolve_student, f"aml:{STUDENT}/whitening", f"did you mean aml:{STUDENT}?"),
        (resolve_teacher, "gem:vgg-16", "did you mean gem:vgg16?"),
    ],
)
def test_a_name_that_was_not_released_downloads_nothing(
    host: Host, resolve: Callable[[str], object], name: str, said: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve(name)
    assert str(refusal.value).endswith(f" is {name!r}, which was not released; {said}")
    assert host.asked == []


def test_an_index_of_another_teacher_is_refused_before_anything_is_downloaded(host: Host) -> None:
    with pytest.raises(SpaceMismatchError) as refusal:
        student(host, STUDENT, STRANGER)
    assert str(refusal.value) == (
        f"student 'aml:{STUDENT}' lives in the space of vgg16-gem (gem:vgg16), but the index before whitening in "
        "resnet101-gem (bbbbbbbb), 2048-D, no whitening; compare only what was made for the same teacher."
    )
    assert host.asked == []


def test_where_the_teacher_was_never_used_an_index_of_its_name_is_taken_at_its_word(host: Host) -> None:
    named_alike = EmbeddingSpace("vgg16-gem", "c" * 64, 512)
    assert student(host, STUDENT, named_alike).space == named_alike
    assert host.lines.lines[0] == (
        f"student 'aml:{STUDENT}' was trained for gem:vgg16; that the index was made by the same weights (cccccccc) is "
        "taken on trust: gem:vgg16 was never used on this machine."
    )


def test_where_the_teacher_was_used_an_index_of_its_name_but_other_weights_is_refused(host: Host) -> None:
    known = resolve_teacher("gem:vgg16").space()
    with pytest.raises(SpaceMismatchError) as refusal:
        student(host, STUDENT, EmbeddingSpace("vgg16-gem", "c" * 64, 512))
    assert str(refusal.value) == (
        f"student 'aml:{STUDENT}' lives in vgg16-gem ({known.weights_sha256[:8]}), 512-D, no whitening, but the index "
        "before whitening in vgg16-gem (cccccccc), 512-D, no whitening (different weights_sha256); compare only what "
        "was made for the same teacher."
    )
    assert host.asked == [host.teacher]


def test_without_an_index_the_teacher_s_space_is_taken_where_it_is_known(host: Host) -> None:
    alone = student(host, STUDENT)
    assert alone.space == EmbeddingSpace("mobilenet_v2-gem", weights_sha256(alone.student), 512)
    assert host.lines.lines[0] == (
        f"student 'aml:{STUDENT}' was trained for gem:vgg16, whose weights are not known on this machine: it is given "
        "a space of its own here, which no index has; name the index that gem:vgg16 made, if there is one."
    )
    known = resolve_teacher("gem:vgg16").space()
    host.lines.lines.clear()
    assert student(host, STUDENT).space == known
    assert host.lines.lines == []


def test_a_student_trained_alone_lives_in_no_teacher_s_index(host: Host) -> None:
    """Though it has as many dimensions as the teacher."""
    teacher = resolve_teacher("gem:vgg16").space()
    alone = student(host, ALONE, teacher)
    assert alone.space == EmbeddingSpace("mobilenet_v2-gem", weights_sha256(alone.student), 512)


def test_a_student_whose_loss_fails_in_a_teacher_s_index_is_said_to(host: Host) -> None:
    teacher = resolve_teacher("gem:vgg16").space()
    student(host, "mobilenet-v2-rkd-vgg16", teacher)
    assert host.lines.lines[0] == (
        "student 'aml:mobilenet-v2-rkd-vgg16' was trained with a loss (rkd) whose students fail completely in the "
        "teacher's index, as the paper found."
    )
    host.lines.lines.clear()
    student(host, STUDENT, teacher)
    assert not any("with a loss" in line for line in host.lines.lines)


@pytest.mark.parametrize("in_runs", [False, True])
def test_a_file_by_a_released_name_is_held_to_its_teacher(
    host: Host, contents: dict[str, bytes], tmp_path: Path, in_runs: bool
) -> None:
    (tmp_path / FILE).write_bytes(contents["student"])
    with pytest.raises(SpaceMismatchError, match=rf"student 'aml:{STUDENT}' lives in the space of vgg16-gem"):
        resolve_student(FILE if in_runs else str(tmp_path / FILE), runs=tmp_path, space=STRANGER)
    (tmp_path / "any.pth.tar").write_bytes(contents["student"])
    any_space = EmbeddingSpace("any", "d" * 64, 512)
    assert resolve_student(str(tmp_path / "any.pth.tar"), space=any_space).space == any_space


def test_a_student_s_whitening_is_downloaded_for_that_student(host: Host) -> None:
    asking = student(host, STUDENT)
    found = resolve_student_whitening(Path(f"aml:{STUDENT}/whitening"), asking, progress=host.lines)
    assert torch.equal(found.projection, torch.eye(512)[:7])
    assert host.asked == [FILE, "mobilenet_v2_gem_reg_vgg16_whitening.pth"]


def test_the_whitening_of_another_student_is_refused(host: Host) -> None:
    with pytest.raises(SpaceMismatchError) as refusal:
        resolve_student_whitening(Path(f"aml:{STUDENT}/whitening"), student(host, ALONE))
    assert str(refusal.value) == (
        f"`student_whitening` is 'aml:{STUDENT}/whitening', which was learned on embeddings of student "
        "'mobilenet_v2_gem_reg_vgg16', but it shall follow student 'mobilenet_v2_gem_contr_512'; name the one that was "
        "learned for this student."
    )


def test_a_student_is_not_its_whitening(host: Host) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve_student_whitening(Path(f"aml:{STUDENT}"), student(host, STUDENT))
    assert str(refusal.value) == (
        f"`student_whitening` is 'aml:{STUDENT}', which is a student; its whitening is aml:{STUDENT}/whitening."
    )


def test_a_student_s_whitening_does_not_follow_a_teacher(host: Host) -> None:
    teacher = resolve_teacher("gem:vgg16")
    with pytest.raises(SpaceMismatchError) as refusal:
        resolve_whitening(f"aml:{STUDENT}/whitening", teacher)
    assert str(refusal.value) == (
        f"`whitening` is 'aml:{STUDENT}/whitening', which was learned on embeddings of student 'aml:{STUDENT}', but it "
        "shall follow teacher 'vgg16-gem'; name one of the teacher's: retrieval-SfM-120k/ss."
    )
    assert host.asked == [host.teacher]
