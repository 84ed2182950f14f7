"""Honest and hostile archives, and what lies on disk afterwards."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from aml_edge.downloading.archives import LIMITS, ArchiveLimits, Extracted, extract
from aml_edge.downloading.placement import Placement
from aml_edge.errors import ArchiveError

PHOTO = np.random.default_rng(0).bytes(3000)
FILES = {"jpg/a.jpg": PHOTO, "jpg/b.jpg": PHOTO[::-1], "readme.txt": b"hello"}
KEEP = Placement()
KINDS = ("tar", "tar.gz", "zip")


class Place(NamedTuple):
    """Where an archive lies and where it is unpacked to."""

    archive: Path
    folder: Path

    def unpack(self, placement: Placement = KEEP, **options: Any) -> Extracted:
        return extract(self.archive, self.folder, placement, **options)

    def refusal(self, **options: Any) -> str:
        """Returns what is said of the archive; nothing of it may be left."""
        with pytest.raises(ArchiveError) as refusal:
            self.unpack(**options)
        assert [path.name for path in self.folder.parent.iterdir()] == []
        said = str(refusal.value)
        assert said.startswith(str(self.archive))
        return said.removeprefix(str(self.archive))

    @property
    def files(self) -> dict[str, bytes]:
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return Place(tmp_path / "a.archive", tmp_path / "data" / "set")


def pack(files: dict[str, bytes], kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_with(*members: tuple[str, dict[str, Any]], content: bytes = b"") -> bytes:
    """Returns a tar archive of headers with these attributes; each has the content if its size says so."""
    blocks = []
    for name, attributes in members:
        info = tarfile.TarInfo(name)
        for attribute, value in attributes.items():
            setattr(info, attribute, value)
        blocks += [info.tobuf(), content[: info.size], bytes(-min(info.size, len(content)) % 512)]
    return b"".join(blocks) + bytes(1024)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_unpacked_whole(place: Place, kind: str) -> None:
    place.archive.write_bytes(pack(FILES, kind))
    assert place.unpack() == Extracted(3, 6005, 0)
    assert place.files == FILES
    assert [path.name for path in place.folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_go_where_the_layout_has_them(place: Place, kind: str) -> None:
    place.archive.write_bytes(pack(FILES, kind))
    assert place.unpack(Placement("images", flat=True, suffixes=(".jpg",))) == Extracted(2, 6000, 1)
    assert set(place.files) == {"images/a.jpg", "images/b.jpg"}


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_that_of_the_archive(place: Place, kind: str, progress: Any) -> None:
    place.archive.write_bytes(pack({f"{number}.jpg": PHOTO for number in range(40)}, kind))
    place.unpack(progress=progress)
    kilobytes = 120 if kind == "zip" else place.archive.stat().st_size // 1000
    assert progress.announced == [("unpacking a.archive, kB", kilobytes)]
    assert progress.done == kilobytes


def test_permissions_are_those_of_new_files(place: Place) -> None:
    place.archive.write_bytes(tar_with(("run", {"mode": 0o6777, "size": 1, "uid": 0}), content=b"x"))
    mask = os.umask(0o022)
    try:
        place.unpack()
    finally:
        os.umask(mask)
    assert stat.S_IMODE((place.folder / "run").stat().st_mode) == 0o644


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["/tmp/x", "../x", "a/../../x", "a\\..\\x", "C:x", "a\x07"])
def test_names_that_lead_elsewhere_are_refused(place: Place, kind: str, name: str) -> None:
    place.archive.write_bytes(pack({"a.jpg": PHOTO, name: b"evil"}, kind))
    said = place.refusal()
    assert said.startswith(f": member {name!a} ")
    assert said.endswith(
        "; nothing of the archive was kept. Do not trust it; get it again from where it was published."
    )


def test_the_whole_message(place: Place) -> None:
    place.archive.write_bytes(pack({"../x": b"evil"}, "tar"))
    assert place.refusal() == (
        ": member '../x' leads out of its folder; nothing of the archive was kept. Do not trust it; get it again from "
        "where it was published."
    )


def test_a_link_and_a_file_through_it_are_refused(place: Place, tmp_path: Path) -> None:
    link = {"type": tarfile.SYMTYPE, "linkname": str(tmp_path)}
    place.archive.write_bytes(tar_with(("out", link), ("out/evil", {"size": 1}), content=b"x"))
    assert ": member 'out' is a symbolic link; only files and folders are extracted" in place.refusal()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_devices_and_pipes_are_refused(place: Place, kind: bytes) -> None:
    place.archive.write_bytes(tar_with(("bad", {"type": kind, "linkname": "a"})))
    assert "only files and folders are extracted" in place.refusal()


def zip_with(change: Callable[[zipfile.ZipInfo], None], content: bytes = b"x") -> bytes:
    buffer, info = io.BytesIO(), zipfile.ZipInfo("bad")
    change(info)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"external_attr": (stat.S_IFLNK | 0o777) << 16}, "is a symbolic link; only files and folders are extracted"),
        ({"external_attr": (stat.S_IFIFO | 0o777) << 16}, "is a device or a pipe; only files and folders are"),
        ({"compress_type": zipfile.ZIP_BZIP2}, "is compressed by method 12; only 0 and 8 are read"),
    ],
)
def test_links_and_strange_members_of_zip_archives_are_refused(
    place: Place, attributes: dict[str, int], rule: str
) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        for attribute, value in attributes.items():
            setattr(info, attribute, value)

    place.archive.write_bytes(zip_with(change))
    assert f": member 'bad' {rule}" in place.refusal()


def patched(archive: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Returns the archive with other bytes at an offset from the first record of that signature."""
    at = archive.index(signature) + offset
    return archive[:at] + value + archive[at + len(value) :]


def test_encrypted_members_are_refused(place: Place) -> None:
    place.archive.write_bytes(patched(pack({"a": b"secret"}, "zip"), b"PK\x01\x02", 8, b"\x01\x00"))
    assert ": member 'a' is encrypted; nothing of the archive was kept" in place.refusal()


def test_a_zip_member_that_lies_before_the_archive_is_refused(place: Place) -> None:
    """Found by fuzzing: the system's error for such a place is not one about a file."""
    moved = patched(pack({"a": PHOTO, "b": PHOTO}, "zip"), b"PK\x05\x06", 16, (2**20).to_bytes(4, "little"))
    place.archive.write_bytes(moved)
    assert place.refusal() == " names a place outside of itself; nothing of it was kept: get it again."


@pytest.mark.parametrize("size", [1, 5_000])
def test_zip_members_that_lie_about_their_size_are_refused(place: Place, size: int) -> None:
    place.archive.write_bytes(patched(pack({"a": PHOTO}, "zip"), b"PK\x01\x02", 24, size.to_bytes(4, "little")))
    assert "; nothing of it was kept: get it again." in place.refusal()


def test_a_zip_archive_with_a_directory_too_large_is_refused(place: Place) -> None:
    place.archive.write_bytes(patched(pack({"a": PHOTO}, "zip"), b"PK\x05\x06", 12, (2**31).to_bytes(4, "little")))
    assert place.refusal() == " has a directory of 2147.5 MB, which is too large; nothing of it was kept: get it again."


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_cut_anywhere_is_refused(place: Place, kind: str) -> None:
    whole = pack(FILES, kind)
    for cut in range(1, 12):
        place.archive.write_bytes(whole[: min(len(whole) - 1, len(whole) * cut // 12)])
        if kind == "tar" and len(whole) * cut // 12 > 512 * 17 + 511:
            continue  # the end's second block and what fills the last record are not missed
        assert place.refusal().endswith("; nothing of it was kept: get it again.")


def test_a_damaged_byte_in_a_gzip_archive_is_found(place: Place) -> None:
    """Whether in the middle or in the checksum at the end, which tarfile does not look at."""
    whole = pack(FILES, "tar.gz")
    for at in (len(whole) // 2, len(whole) - 6):
        place.archive.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "; nothing of it was kept: get it again." in place.refusal()


def test_one_archive_in_several_gzip_members_is_read_and_two_archives_are_not(place: Place) -> None:
    whole = pack(FILES, "tar")
    place.archive.write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:]))
    place.unpack()
    assert place.files == FILES
    place.folder.rename(place.folder.parent.parent / "seen")
    place.archive.write_bytes(gzip.compress(whole) + gzip.compress(whole))
    assert place.refusal() == " holds something after its end; nothing of it was kept: get it again."


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_that_unpacks_to_too_much_is_refused(place: Place, kind: str) -> None:
    place.archive.write_bytes(pack({"a.jpg": bytes(1_000_000)}, kind))
    said = place.refusal(limits=ArchiveLimits(most_ratio=20.0, always_bytes=900_000))
    assert said == " unpacks to more than 0.9 MB; nothing of it was kept: get it again."
    place.unpack(limits=ArchiveLimits(most_ratio=20.0, always_bytes=1_100_000))


def test_zeros_after_the_end_count_too(place: Place) -> None:
    place.archive.write_bytes(gzip.compress(pack(FILES, "tar") + bytes(2_000_000)))
    assert "unpacks to more than 1.0 MB" in place.refusal(limits=ArchiveLimits(always_bytes=1_000_000))


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_members_are_refused(place: Place, kind: str) -> None:
    place.archive.write_bytes(pack(FILES, kind))
    assert place.refusal(limits=ArchiveLimits(most_files=2)).startswith(" holds more than 2 members; ")


def test_too_little_room_is_said_before_anything_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("aml_edge.downloading.member_writing.shutil.disk_usage", lambda folder: Usage(4000))
    place.archive.write_bytes(pack(FILES, "zip"))
    assert place.refusal() == (
        f" needs 0.0 MB or more, but {place.folder.parent} has 0.0 MB free; free some space, or choose a folder on "
        "another disk."
    )


def test_a_disk_that_fills_up_names_the_file_and_leaves_nothing(place: Place) -> None:
    """A limit on the size of files stands for the full disk: the system refuses the same call."""
    import resource

    place.archive.write_bytes(pack({"a.jpg": PHOTO * 100}, "tar"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as failure:
            place.unpack()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.value.filename.endswith("a.jpg")
    assert list(place.folder.parent.iterdir()) == []


def test_a_file_that_occurs_twice_may_be_the_same_only(place: Place) -> None:
    twice = tar_with(("a", {"size": 3}), ("./a", {"size": 3}), content=b"abc")
    place.archive.write_bytes(twice)
    assert place.unpack() == Extracted(1, 3, 0)
    assert place.files == {"a": b"abc"}
    place.folder.rename(place.folder.parent.parent / "seen")
    place.archive.write_bytes(tar_with(("a", {"size": 3}), ("a", {"size": 2}), content=b"abc"))
    assert ": member 'a' occurs twice with different content; " in place.refusal()


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_file_cannot_be_a_folder_too(place: Place, names: tuple[str, str]) -> None:
    place.archive.write_bytes(tar_with(*((name, {"size": 1}) for name in names), content=b"x"))
    assert f": member '{names[1]}' would take the place of another member" in place.refusal()


def test_names_that_differ_only_in_case_are_refused_where_that_matters(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that knows no difference says that the second file is there; here a stand-in says so."""
    place.archive.write_bytes(tar_with(("a.jpg", {"size": 1}), ("A.jpg", {"size": 1}), content=b"x"))
    place.unpack()
    assert set(place.files) == {"a.jpg", "A.jpg"}
    place.folder.rename(place.folder.parent.parent / "seen")
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: opened(self.with_name(self.name.lower()), *mode))
    assert ": member 'A.jpg' would take the place of another member; their names may differ" in place.refusal()


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_without_what_is_wanted_is_refused(place: Place, kind: str) -> None:
    place.archive.write_bytes(pack({"readme.txt": b"a"}, kind))
    said = place.refusal(placement=Placement(suffixes=(".jpg",)))
    assert said == " holds nothing that belongs to the data set; nothing of it was kept: get it again."


@pytest.mark.parametrize("content", [b"", b"<html>", b"Rar!\x1a\x07\x01\x00" + bytes(600), b"BZh91AY&SY"])
def test_what_is_no_archive_is_refused(place: Place, content: bytes) -> None:
    place.archive.write_bytes(content)
    assert place.refusal() == (
        " is neither a tar nor a tar.gz nor a zip archive; nothing of it was kept: get it again."
    )


def test_what_a_killed_process_left_is_removed(place: Place) -> None:
    left = place.folder.with_name(".set.extracting")
    left.mkdir()
    (left / "half.jpg").write_bytes(b"ha")
    place.archive.write_bytes(pack(FILES, "tar"))
    place.unpack()
    assert place.files == FILES
    assert not left.exists()


def test_an_archive_is_not_changed_and_a_missing_one_is_an_error(place: Place) -> None:
    with pytest.raises(FileNotFoundError):
        place.unpack()
    assert list(place.folder.parent.iterdir()) == []
    place.archive.write_bytes(pack(FILES, "zip"))
    place.archive.chmod(0o400)
    before = place.archive.read_bytes()
    place.unpack()
    assert place.archive.read_bytes() == before
    assert LIMITS.most_ratio == 20.0
