"""Objects of a store: what is listed and read, and that a store which fails is no image that is not there."""

from __future__ import annotations

import hashlib
import pickle
import sys
import uuid
from collections.abc import Iterator

import pytest

from aml_edge.errors import DatasetError, DownloadError, ImageError, MissingExtraError, UsageError
from aml_edge.remote_images import RemoteFile, is_url, list_remote, open_remote

fsspec = pytest.importorskip("fsspec")
CONTENTS = {"a.jpg": b"first", "sub/b.png": b"second", "sub/.hidden.png": b"", ".trash/c.png": b"third"}


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of a folder in fsspec's memory."""
    system, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for name, content in CONTENTS.items():
        system.pipe_file(f"{root}/{name}", content)
    yield f"memory://{root}"
    system.rm(root, recursive=True)


def test_a_url_is_no_path() -> None:
    assert [is_url(one) for one in ("s3://bucket/a", "memory://a", "/data/a", "data:a", "C:\\data")] == [
        *[True] * 2,
        *[False] * 3,
    ]


def test_objects_are_listed_by_their_place_below_the_url(memory: str) -> None:
    for url in (memory, f"{memory}/"):
        listed = list_remote(url)
        assert list(listed) == ["a.jpg", "sub/b.png"]
        assert [one.url for one in listed.values()] == [f"{memory}/a.jpg", f"{memory}/sub/b.png"]
        assert [one.read() for one in listed.values()] == [b"first", b"second"]
        assert [one.size_bytes for one in listed.values()] == [5, 6]
    assert list(list_remote(f"{memory}/sub")) == ["b.png"]
    assert list(list_remote(f"{memory}/sub/b.png")) == ["b.png"]


def test_a_store_that_speaks_s3_gives_sizes_etags_and_bytes(bucket: str) -> None:
    system = fsspec.filesystem("s3")
    for name, content in CONTENTS.items():
        system.pipe_file(f"{bucket}/photos/{name}", content)
    listed = list_remote(f"{bucket}/photos")
    assert list(listed) == ["a.jpg", "sub/b.png"]
    for name, file in listed.items():
        content = CONTENTS[name]
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()  # what S3 says of an object put in one piece
        assert file == RemoteFile(f"{bucket}/photos/{name}", len(content), f'"{etag}"')
        assert file.signature == f'{len(content)} "{etag}"'
        assert pickle.loads(pickle.dumps(file)).read() == content
    with open_remote(f"{bucket}/photos/a.jpg") as stream:
        stream.seek(2)
        assert stream.read() == b"rst"
    system.pipe_file(f"{bucket}/photos/a.jpg", b"other")
    assert list_remote(f"{bucket}/photos")["a.jpg"].signature != listed["a.jpg"].signature
    system.rm(f"{bucket}/photos/a.jpg")
    with pytest.raises(ImageError, match=r"^s3://toy/photos/a.jpg cannot be read as an image: there is no such obj"):
        listed["a.jpg"].read()
    for nowhere in (f"{bucket}/nothing", "s3://another-bucket/photos"):
        with pytest.raises(UsageError) as refusal:
            list_remote(nowhere)
        assert str(refusal.value) == f"`images` is {nowhere!r}, where nothing is; check its name."


def test_a_store_that_fails_is_no_unreadable_image(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a cut connection would leave images out."""

    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("cut\noff")

    file = list_remote(memory)["a.jpg"]
    for method in ("cat_file", "find", "open"):
        monkeypatch.setattr(type(fsspec.filesystem("memory")), method, fails)
    for fetch in (file.read, lambda: open_remote(file.url)):
        with pytest.raises(DownloadError) as refusal:
            fetch()
        assert str(refusal.value) == (
            f"{file.url} cannot be fetched: cut off; run the same command again, and it goes on."
        )
    with pytest.raises(DatasetError) as unlisted:
        list_remote(memory)
    assert str(unlisted.value) == f"{memory} cannot be listed: cut off; check its name and your rights."


def test_an_object_that_comes_with_other_bytes_than_listed_is_refused(memory: str) -> None:
    file = RemoteFile(f"{memory}/a.jpg", 4)
    with pytest.raises(DownloadError) as refusal:
        file.read()
    assert str(refusal.value) == (
        f"{memory}/a.jpg came with 5 bytes, and was listed with 4; it was changed meanwhile, or the connection was "
        "cut: run the same command again."
    )
    assert RemoteFile(file.url).read() == b"first"  # a row of a table that names it knows no size


def test_an_object_that_is_too_large_for_an_image_is_not_read(memory: str) -> None:
    with pytest.raises(ImageError, match=r"it has 2000000000 bytes, and an image at most 1073741824"):
        RemoteFile(f"{memory}/a.jpg", 2_000_000_000).read()


def test_what_reads_a_url_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as unknown:
        list_remote("nope://bucket/a")
    assert str(unknown.value) == (
        "`images` is 'nope://bucket/a', and fsspec knows no nope://; give s3://, gs:// or a folder."
    )
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"^reading gs://a/b needs gcsfs, .*: pip install 'aml-edge\[gcs\]'$"):
        list_remote("gs://a/b")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"^reading s3://a/b needs fsspec, .*: pip install 'aml-edge\[s3\]'$"):
        list_remote("s3://a/b")
