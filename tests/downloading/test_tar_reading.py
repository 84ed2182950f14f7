"""The tar reader against Python's own: what tarfile writes, and what it would not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.downloading.archive_members import BrokenArchiveError, MemberRefusedError
from aml_edge.downloading.tar_reading import BLOCK_BYTES, is_tar, tar_members

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
LONG = "a_folder_with_a_long_name/" * 5 + "n" * 90


def tar_of(files: dict[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(archive: bytes) -> list[tuple[str, bytes]]:
    """Returns (name, content) of every file, read in pieces of 100 bytes."""
    found = []
    for member in tar_members(io.BytesIO(archive)):
        content = b"".join(iter(lambda content=member.content: content.read(100), b""))  # type: ignore[misc]
        assert len(content) == member.size_bytes
        if not member.is_folder:
            found.append((member.name, content))
    return found


@pytest.mark.parametrize("tar_format", FORMATS)
def test_what_tarfile_writes_is_read(tar_format: int) -> None:
    files = {"a.jpg": b"a" * 700, "b/c.jpg": b"", "d/e/f.jpg": b"\0" * 512, LONG: b"long"}
    assert read(tar_of(files, tar_format)) == list(files.items())


@pytest.mark.parametrize("tar_format", FORMATS[1:])
def test_a_long_name_cut_within_a_letter_in_its_first_header_is_read(tar_format: int) -> None:
    """Found by the test below."""
    files = {f"{'n' * start}{'ü' * 80}.jpg": b"a" for start in range(4)}
    assert read(tar_of(files, tar_format)) == list(files.items())


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150).filter(
            lambda name: not name.endswith("/")
        ),
        st.binary(max_size=1500),
        max_size=4,
    ),
    tar_format=st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
)
def test_any_names_and_contents_are_read_as_tarfile_reads_them(files: dict[str, bytes], tar_format: int) -> None:
    archive = tar_of(files, tar_format)
    with tarfile.open(fileobj=io.BytesIO(archive), format=tar_format) as theirs:
        expected = [(info.name, content.read()) for info in theirs if (content := theirs.extractfile(info))]
    assert read(archive) == expected


def test_folders_have_no_content_and_content_may_be_passed_over() -> None:
    folder = tarfile.TarInfo("jpg")
    folder.type = tarfile.DIRTYPE
    content = folder.tobuf() + tar_of({"jpg/a": b"a" * 1000, "jpg/b": b"b"})
    members = [(member.name, member.size_bytes, member.is_folder) for member in tar_members(io.BytesIO(content))]
    assert members == [("jpg/", 0, True), ("jpg/a", 1000, False), ("jpg/b", 1, False)]


def test_sizes_in_base_256_and_signed_checksums_are_read() -> None:
    archive = bytearray(tar_of({"ä": b"abc"}, tarfile.GNU_FORMAT))
    archive[124:136] = b"\x80" + (3).to_bytes(11, "big")
    signed = [byte - 256 if byte > 127 else byte for byte in (*archive[:148], *b" " * 8, *archive[156:512])]
    archive[148:156] = f"{sum(signed):06o}\0 ".encode()
    assert read(bytes(archive)) == [("ä", b"abc")]


def with_header(change: Callable[[tarfile.TarInfo], None]) -> bytes:
    info = tarfile.TarInfo("bad")
    change(info)
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(2 * BLOCK_BYTES)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (tarfile.LNKTYPE, "is a hard link; only files and folders are extracted"),
        (tarfile.SYMTYPE, "is a symbolic link; only files and folders are extracted"),
        (tarfile.CHRTYPE, "is a device; only files and folders are extracted"),
        (tarfile.BLKTYPE, "is a device; only files and folders are extracted"),
        (tarfile.FIFOTYPE, "is a named pipe; only files and folders are extracted"),
        (tarfile.GNUTYPE_SPARSE, "is a sparse file, which could fill a disk"),
        (b"V", "is of kind 'V'; only files and folders are extracted"),
    ],
)
def test_other_kinds_of_members_are_refused(kind: bytes, rule: str) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, "/etc/passwd"

    with pytest.raises(MemberRefusedError) as refusal:
        read(with_header(change))
    assert (refusal.value.member, refusal.value.rule) == ("bad", rule)


@pytest.mark.parametrize("keyword", ["GNU.sparse.map", "GNU.sparse.major"])
def test_sparse_files_in_pax_headers_are_refused(keyword: str) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {keyword: "1"}

    with pytest.raises(MemberRefusedError, match="sparse"):
        read(with_header(change))


def test_a_huge_pax_header_is_refused_before_it_is_read() -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {"comment": "x" * 70_000}

    with pytest.raises(MemberRefusedError, match="has a header of more than 65536 bytes"):
        read(with_header(change)[:BLOCK_BYTES])


def pax(content: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK_BYTES) + tar_of({"a": b"abc"})


@pytest.mark.parametrize(
    "content",
    [b"9" * 40_000, b"5 a=b\n", b"7 a=b\n", b"6 a=bb", b"x a=b\n", b"6 ab=\n", b"99999 a=b\n", b"0 a=\n", b"-6 a=b\n"],
)
def test_damaged_pax_headers_are_refused_in_no_time(content: bytes) -> None:
    """The first is that of CVE-2024-6232, which takes Python 3.11.7 seconds."""
    if content == b"6 ab=\n":
        assert read(pax(content)) == [("a", b"abc")]
        return
    with pytest.raises(BrokenArchiveError, match="has a damaged pax header"):
        read(pax(content))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"11 size=-1\n", "has a size that is no number"),
        (b"12 size=1e9\n", "has a size that is no number"),
        (b"11 path=\xff\xfe\n", "has a name that is not in UTF-8"),
    ],
)
def test_pax_values_are_looked_at(record: bytes, reason: str) -> None:
    with pytest.raises(BrokenArchiveError, match=reason):
        read(pax(record))


def test_one_name_for_all_members_is_refused() -> None:
    with pytest.raises(MemberRefusedError, match="gives all members one name or size"):
        read(pax(b"10 path=b\n", tarfile.XGLTYPE))
    assert read(pax(b"13 comment=b\n", tarfile.XGLTYPE)) == [("a", b"abc")]


def test_an_archive_cut_anywhere_is_found_out() -> None:
    """Even between two members, where tarfile says nothing."""
    whole = tar_of({"a": b"a" * 600, "b": b"b"})
    end = 2 * BLOCK_BYTES + 3 * BLOCK_BYTES  # two headers; two blocks of a, one of b
    for cut in range(0, end, 64):
        with pytest.raises(BrokenArchiveError, match="is cut off"):
            read(whole[:cut])
    assert read(whole[: end + BLOCK_BYTES]) == read(whole)


def test_what_follows_the_end_is_not_overlooked() -> None:
    with pytest.raises(BrokenArchiveError, match="holds something after its end"):
        read(tar_of({"a": b"a"}) + tar_of({"b": b"b"}))


def test_a_wrong_checksum_or_number_is_damage() -> None:
    archive = bytearray(tar_of({"a": b"a"}))
    archive[0] ^= 1
    assert not is_tar(bytes(archive))
    with pytest.raises(BrokenArchiveError, match="is no tar archive, or a damaged one"):
        read(bytes(archive))
    archive[0] ^= 1
    archive[148:154] = b"      "
    assert not is_tar(bytes(archive))
    assert not is_tar(b"")
    assert is_tar(tar_of({"a": b"a"}))


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 4095), change=st.binary(min_size=1, max_size=8))
def test_damaged_archives_give_our_errors_only(place: int, change: bytes) -> None:
    archive = tar_of({LONG: b"a" * 600, "b": b"b"})
    damaged = archive[:place] + change + archive[place + len(change) :]
    try:
        read(damaged)
    except (BrokenArchiveError, MemberRefusedError) as error:
        assert str(error)
