"""Every published data set in a small copy of its real layout, from a web server that fails, and killed on the way."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from aml_edge.datasets.fetched_files import FetchOptions
from aml_edge.datasets.fetching import MARKER, FetchReport, fetch, free_bytes
from aml_edge.datasets.published import PUBLISHED, PublishedDataset, published
from aml_edge.downloading.downloads import OFFLINE_VARIABLE, Patience
from aml_edge.errors import AmlEdgeError, ArchiveError, DatasetError, DownloadError, UsageError
from aml_edge.progress import SilentProgress

AT_ONCE = Patience(attempts=4, timeout_s=5.0, back_off_s=0.0)
PHOTO = np.random.default_rng(0).bytes(6000)
Files = Mapping[str, bytes]


class Saying:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def task(self, description: str, total: int) -> Any:
        return SilentProgress().task(description, total)


def packed(files: Files, name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w" if name.endswith(".tar") else "w:gz") as tar:
        for member, content in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def ground_truth(database: list[str], queries: list[str]) -> bytes:
    answer = {"bbx": [0.0, 0.0, 9.0, 9.0], "easy": [0], "hard": [1], "junk": []}
    return pickle.dumps({"imlist": database, "qimlist": queries, "gnd": [answer] * len(queries)}, 2)


def instre() -> bytes:
    from scipy.io import savemat

    gnd = np.empty((1, 1), [("ok", object), ("bbx", object)])
    gnd[0, 0] = (np.array([[1.0]]), np.array([[0.0, 0.0, 9.0, 9.0]]))
    names = np.array([["INSTRE-S1/01/a.jpg", "INSTRE-M/02/b.jpg"]], object)
    buffer = io.BytesIO()
    savemat(buffer, {"imlist": names, "qimlist": np.array([["INSTRE-S2/03/q.jpg"]], object), "gnd": gnd})
    return buffer.getvalue()


CIDS = ["00aabbccddeeff", "11aabbccddee00"]
SPLIT = {"cids": CIDS, "cluster": [1, 1], "qidxs": [0], "pidxs": [1]}
LANDMARK, OTHER = "0123456789abcdef", "fedcba9876543210"
SOP = b"image_id class_id super_class_id path\n1 1 1 bicycle_final/a.JPG\n2 1 1 bicycle_final/b.JPG\n"
CONTENTS: dict[str, dict[str, Files | bytes]] = {
    "roxford5k": {
        "oxbuild_images-v1.tgz": {"all_souls_000000.jpg": PHOTO, "ashmolean_000001.jpg": PHOTO, "q.jpg": PHOTO},
        "gnd_roxford5k.pkl": ground_truth(["all_souls_000000", "ashmolean_000001"], ["q"]),
    },
    "rparis6k": {
        "paris_1-v1.tgz": {"paris/defense/paris_defense_000000.jpg": PHOTO, "paris/.DS_Store": b"litter"},
        "paris_2-v1.tgz": {"paris/louvre/paris_louvre_000001.jpg": PHOTO, "paris/louvre/q.jpg": PHOTO},
        "gnd_rparis6k.pkl": ground_truth(["paris_defense_000000", "paris_louvre_000001"], ["q"]),
    },
    "r1m": {
        "revisitop1m.1.tar.gz": {"./0d3/0d3a.jpg": PHOTO},
        "revisitop1m.2.tar.gz": {"./0d3/0d3b.jpg": PHOTO, "./1f0/1f0c.jpg": PHOTO},
        "revisitop1m.txt": b"0d3/0d3a.jpg\n0d3/0d3b.jpg\n1f0/1f0c.jpg\n",
    },
    "sfm120k": {
        "ims.tar.gz": {f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}": PHOTO for cid in CIDS},
        "retrieval-SfM-120k.pkl": pickle.dumps({"train": SPLIT, "val": SPLIT}, 2),
    },
    "instre": {
        "instre.tar.gz": {
            "INSTRE-S1/01/a.jpg": PHOTO, "INSTRE-S1/01/a.txt": b"1 2 3 4", "INSTRE-M/02/b.jpg": PHOTO,
            "INSTRE-S2/03/q.jpg": PHOTO,
        },
        "gnd_instre.mat": instre(),
    },
    "gldv2-clean-train": {
        "train_clean.csv": f"landmark_id,images\n7,{LANDMARK} {OTHER}\n".encode(),
        "train/images_000.tar": {f"0/1/2/{LANDMARK}.jpg": PHOTO},
        "train/images_001.tar": {f"f/e/d/{OTHER}.jpg": PHOTO},
    },
    "gldv2-retrieval": {
        "retrieval_solution_v2.1.csv": f"id,images,Usage\n{LANDMARK},{OTHER},Public\n".encode(),
        "index.csv": f"id\n{OTHER}\n".encode(),
        "test/images_000.tar": {f"0/1/2/{LANDMARK}.jpg": PHOTO},
        "index/images_000.tar": {f"f/e/d/{OTHER}.jpg": PHOTO},
    },
    "sop": {
        "Stanford_Online_Products.zip": {
            "Stanford_Online_Products/Ebay_train.txt": SOP,
            "Stanford_Online_Products/Ebay_test.txt": SOP,
            "Stanford_Online_Products/bicycle_final/a.JPG": PHOTO,
            "Stanford_Online_Products/bicycle_final/b.JPG": PHOTO,
            "__MACOSX/Stanford_Online_Products/._Ebay_train.txt": b"litter",
        },
    },
    "cub200": {
        "CUB_200_2011.tgz": {
            "attributes.txt": b"1 has_bill_shape::curved\n",
            "CUB_200_2011/images.txt": b"1 001.A/a.jpg\n2 001.A/b.jpg\n3 200.B/c.jpg\n4 200.B/d.jpg\n",
            "CUB_200_2011/image_class_labels.txt": b"1 1\n2 1\n3 200\n4 200\n",
            **{f"CUB_200_2011/images/{name}.jpg": PHOTO for name in ("001.A/a", "001.A/b", "200.B/c", "200.B/d")},
        },
    },
}  # fmt: skip
HOLDS = {
    "roxford5k": "revisited: 1 queries, 2 database images",
    "rparis6k": "revisited: 1 queries, 2 database images",
    "r1m": "revisitop1m: 3 images 'distractors'",
    "sfm120k": "SfM: 2 images 'train', 2 images 'val'",
    "instre": "INSTRE: 1 queries, 2 database images",
    "gldv2-clean-train": "Google Landmarks v2: 2 images 'train'",
    "gldv2-retrieval": "Google Landmarks v2: 1 queries, 1 database images",
    "sop": "Stanford Online Products: 2 queries, 2 database images, 2 images 'train'",
    "cub200": "CUB-200-2011: 2 queries, 2 database images, 2 images 'train'",
}


class Site(NamedTuple):
    """A server that publishes a small copy of a data set, and where it goes to."""

    server: Any
    dataset: PublishedDataset
    out: Path
    progress: Saying

    def fetch(self, **options: Any) -> FetchReport:
        return fetch(self.dataset, self.out, FetchOptions(patience=AT_ONCE, **options), self.progress)

    def refusal(self, error: type[AmlEdgeError], **options: Any) -> str:
        """Returns what is said of a data set, no folder of which may be there."""
        with pytest.raises(error) as refusal:
            self.fetch(**options)
        assert type(refusal.value) is error
        assert not (self.out / self.dataset.name).exists()
        return str(refusal.value)

    def path(self, name: str) -> str:
        """Returns where the server has a file."""
        (file,) = (file for file in self.dataset.files if file.name == name)
        return file.url.removeprefix(self.server.url)

    @property
    def left(self) -> set[str]:
        return {path.name for path in self.out.iterdir()}


@cache
def contents_of(name: str) -> Files:
    """Returns the files of a data set; made once, since a gzip file has its time in it."""
    return {
        file: content if isinstance(content, bytes) else packed(content, file)
        for file, content in CONTENTS[name].items()
    }


@pytest.fixture
def site_of(faulty_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that publishes a data set: its real entry, but for address, size and hash."""
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)

    def publish(name: str) -> Site:
        contents, files = contents_of(name), []
        for file in PUBLISHED[name].files:
            if file.name not in contents:
                continue
            content = contents[file.name]
            path, md5_url = f"/{name}/{file.name}", ""
            faulty_server.files[path] = content
            if file.md5_url:
                faulty_server.files[f"{path}.txt"] = f"{hashlib.md5(content).hexdigest()}  {file.name}\n".encode()
                md5_url = f"{faulty_server.url}{path}.txt"
            sha256 = hashlib.sha256(content).hexdigest() if file.sha256 else ""
            md5 = hashlib.md5(content).hexdigest() if file.md5 else ""
            url = f"{faulty_server.url}{path}"
            files.append(replace(file, url=url, size_bytes=len(content), sha256=sha256, md5=md5, md5_url=md5_url))
        dataset = replace(PUBLISHED[name], files=tuple(files))
        return Site(faulty_server, dataset, tmp_path / "data", Saying())

    return publish


@pytest.fixture
def oxford(site_of: Any) -> Site:
    site: Site = site_of("roxford5k")
    return site


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_data_set_becomes_the_layout_that_is_read(site_of: Any, name: str) -> None:
    site = site_of(name)
    report = site.fetch()
    assert (report.name, report.path, report.new) == (name, site.out / name, True)
    assert report.holds is not None
    assert report.holds.describe() == HOLDS[name]
    recorded = {file: record.sha256 for file, record in report.files.items()}
    assert recorded == {file: hashlib.sha256(content).hexdigest() for file, content in contents_of(name).items()}
    assert site.left == {name, f"{name}.archives"}
    left = [path for path in (site.out / f"{name}.archives").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} == {".json"}
    assert len(left) == len(report.files)


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_fetched_by_hand_are_taken_and_left_as_they_are(site_of: Any, name: str, tmp_path: Path) -> None:
    site, by_hand = site_of(name), tmp_path / "by hand"
    for file, content in contents_of(name).items():
        (by_hand / file).parent.mkdir(parents=True, exist_ok=True)
        (by_hand / file).write_bytes(content)
        (by_hand / file).chmod(0o444)
    before = sorted(by_hand.rglob("*"))
    report = site.fetch(by_hand=by_hand)
    assert report.holds is not None
    assert report.holds.describe() == HOLDS[name]
    assert sorted(by_hand.rglob("*")) == before
    assert site.server.requests == []


def test_the_whole_tree_of_paris_is_flat(site_of: Any) -> None:
    site = site_of("rparis6k")
    site.fetch()
    files = {path.relative_to(site.out / "rparis6k").as_posix() for path in (site.out / "rparis6k").rglob("*.*")}
    images = {"jpg/paris_defense_000000.jpg", "jpg/paris_louvre_000001.jpg", "jpg/q.jpg"}
    assert files == {MARKER, "gnd_rparis6k.pkl", *images}


def test_a_second_time_it_is_there_and_nothing_is_asked_for(oxford: Site) -> None:
    first = oxford.fetch()
    asked = len(oxford.server.requests)
    second = oxford.fetch()
    assert (second.new, second.holds, second.files) == (False, None, first.files)
    assert len(oxford.server.requests) == asked


def test_what_is_done_is_said(oxford: Site) -> None:
    oxford.fetch()
    assert [line for line in oxford.progress.lines if line.startswith("file ")] == [
        "file 1 of 2: oxbuild_images-v1.tgz",
        "file 2 of 2: gnd_roxford5k.pkl",
    ]


def test_cut_connections_and_refused_ranges_are_gone_on_with(oxford: Site) -> None:
    path, fault = oxford.path("oxbuild_images-v1.tgz"), oxford.server.fault
    oxford.server.faults[path] = [fault(cut_after=1000), fault(ignores_range=True, cut_after=1500), fault(status=503)]
    oxford.fetch()
    assert oxford.server.ranges(path) == [None, "bytes=1000-", "bytes=1500-", "bytes=1500-"]


def test_another_call_goes_on_with_a_part(oxford: Site) -> None:
    path, fault = oxford.path("oxbuild_images-v1.tgz"), oxford.server.fault
    oxford.server.faults[path] = [fault(cut_after=1000), *[fault(status=500)] * 3]
    assert "could not be fetched in 4 attempts" in oxford.refusal(DownloadError)
    oxford.fetch()
    assert oxford.server.ranges(path)[-1] == "bytes=1000-"


def test_a_wrong_length_is_never_whole(oxford: Site) -> None:
    path, fault = oxford.path("oxbuild_images-v1.tgz"), oxford.server.fault
    oxford.server.faults[path] = [fault(length=99_999, ignores_range=True)] * 4
    assert "of 99999 bytes" in oxford.refusal(DownloadError)


def test_a_length_that_is_too_short_gives_an_archive_that_is_cut_off(oxford: Site) -> None:
    oxford.server.faults[oxford.path("oxbuild_images-v1.tgz")] = [oxford.server.fault(length=3000)]
    archive = oxford.out / "roxford5k.archives" / "oxbuild_images-v1.tgz"
    said = oxford.refusal(ArchiveError)
    assert said == f"{archive} is cut off; nothing of it was kept: get it again."
    assert list((oxford.out / "roxford5k.partial" / "unpacked").iterdir()) == []


def test_a_hash_that_the_caller_knows_is_looked_at(oxford: Site) -> None:
    said = oxford.refusal(DownloadError, sha256={"gnd_roxford5k.pkl": "0" * 64})
    assert f"the published one begins with {'0' * 64}; it was not kept" in said
    right = hashlib.sha256(contents_of("roxford5k")["gnd_roxford5k.pkl"]).hexdigest()
    oxford.fetch(sha256={"gnd_roxford5k.pkl": right[:12]})


@pytest.mark.parametrize(("name", "kind"), [("cub200", "MD5"), ("sop", "SHA-256"), ("gldv2-clean-train", "MD5")])
def test_another_file_than_the_published_one_is_refused(site_of: Any, name: str, kind: str) -> None:
    site = site_of(name)
    file = site.dataset.files[-1].name
    site.server.files[site.path(file)] = packed({"a/x.jpg": b"evil"}, file)
    assert f"gives a file whose {kind} begins with " in site.refusal(DownloadError)


def test_a_list_of_hashes_beside_a_file_by_hand_is_looked_at(site_of: Any, tmp_path: Path) -> None:
    site, by_hand = site_of("gldv2-clean-train"), tmp_path / "by hand"
    for file, content in contents_of("gldv2-clean-train").items():
        (by_hand / file).parent.mkdir(parents=True, exist_ok=True)
        (by_hand / file).write_bytes(content)
    listed = by_hand / "train" / "images_001.tar.txt"
    listed.write_text(f"{'0' * 32}  images_001.tar\n")
    md5 = hashlib.md5(contents_of("gldv2-clean-train")["train/images_001.tar"]).hexdigest()
    assert f"another file: its MD5 begins with {md5}, the published one" in site.refusal(DownloadError, by_hand=by_hand)
    listed.unlink()
    assert site.fetch(by_hand=by_hand).new


def test_a_list_of_hashes_that_is_none_is_refused(site_of: Any) -> None:
    site = site_of("gldv2-clean-train")
    site.server.files[site.path("train/images_000.tar") + ".txt"] = b"<?xml version='1.0'?><Error/>"
    listed = site.out / "gldv2-clean-train.archives" / "train" / "images_000.tar.md5"
    said = site.refusal(DownloadError)
    assert said == f"{listed} does not begin with an MD5; delete it and run the same command again."


def test_another_file_than_the_first_time_is_refused(oxford: Site) -> None:
    oxford.fetch()
    shutil.rmtree(oxford.out / "roxford5k")
    oxford.server.files[oxford.path("gnd_roxford5k.pkl")] = ground_truth(["a", "b"], ["q"])
    assert "gives another file than on 20" in oxford.refusal(DownloadError)


def test_another_file_by_hand_than_the_first_time_is_refused(oxford: Site, tmp_path: Path) -> None:
    oxford.fetch(keep_archives=True)
    shutil.rmtree(oxford.out / "roxford5k")
    by_hand = tmp_path / "by hand"
    by_hand.mkdir()
    for name, content in contents_of("roxford5k").items():
        (by_hand / name).write_bytes(content)
    (by_hand / "gnd_roxford5k.pkl").write_bytes(ground_truth(["a", "b"], ["q"]))
    said = oxford.refusal(DownloadError, by_hand=by_hand)
    assert said.startswith(f"{by_hand / 'gnd_roxford5k.pkl'} is another file than on 20")
    record = oxford.out / "roxford5k.archives" / "gnd_roxford5k.pkl.json"
    assert said.endswith(f"; if that is as it should be, delete {record} and run the same command again.")


def test_an_archive_by_hand_that_is_cut_off_may_be_replaced(oxford: Site, tmp_path: Path) -> None:
    by_hand = tmp_path / "by hand"
    by_hand.mkdir()
    for name, content in contents_of("roxford5k").items():
        (by_hand / name).write_bytes(content)
    whole = (by_hand / "oxbuild_images-v1.tgz").read_bytes()
    (by_hand / "oxbuild_images-v1.tgz").write_bytes(whole[:-20])
    said = oxford.refusal(ArchiveError, by_hand=by_hand)
    assert said == f"{by_hand / 'oxbuild_images-v1.tgz'} is cut off; nothing of it was kept: get it again."
    (by_hand / "oxbuild_images-v1.tgz").write_bytes(whole)
    assert oxford.fetch(by_hand=by_hand).new


def test_a_hostile_archive_leaves_nothing(oxford: Site, tmp_path: Path) -> None:
    hostile = packed({"a.jpg": PHOTO, "../../../evil.jpg": b"evil"}, "a.tgz")
    oxford.server.files[oxford.path("oxbuild_images-v1.tgz")] = hostile
    said = oxford.refusal(ArchiveError)
    assert ": member '../../../evil.jpg' leads out of its folder; nothing of the archive was kept." in said
    assert list(tmp_path.rglob("evil*")) == []
    assert list((oxford.out / "roxford5k.partial" / "unpacked").iterdir()) == []


def test_kept_archives_can_be_taken_from_there(oxford: Site) -> None:
    oxford.fetch(keep_archives=True)
    archives = oxford.out / "roxford5k.archives"
    assert {path.name for path in archives.iterdir()} >= set(contents_of("roxford5k"))
    shutil.rmtree(oxford.out / "roxford5k")
    asked = len(oxford.server.requests)
    before = {path: path.read_bytes() for path in archives.iterdir()}
    oxford.fetch(by_hand=archives)
    assert len(oxford.server.requests) == asked
    assert {path: path.read_bytes() for path in archives.iterdir()} == before


def test_a_data_set_that_cannot_be_read_is_not_given_its_name(oxford: Site) -> None:
    oxford.server.files[oxford.path("gnd_roxford5k.pkl")] = ground_truth(["all_souls_000000", "gone"], ["q"])
    said = oxford.refusal(DatasetError)
    partial = oxford.out / "roxford5k.partial"
    assert said == (
        f"roxford5k came whole, but cannot be read: 1 of 3 images of {partial / 'assembled'} are missing, the first is "
        f"{partial / 'assembled' / 'jpg' / 'gone.jpg'}; put them there, or get the data set again. Look at "
        f"{partial / 'assembled'}; to begin again, delete {partial}."
    )


def test_metadata_of_another_kind_is_no_layout(site_of: Any) -> None:
    site = site_of("cub200")
    content = packed({"CUB_200_2011/images/a.jpg": PHOTO}, "a.tgz")
    site.server.files[site.path("CUB_200_2011.tgz")] = content
    files = (replace(site.dataset.files[0], md5=""),)
    site = site._replace(dataset=replace(site.dataset, files=files))
    assert "has no known layout; what was published there may have changed. Look at " in site.refusal(DatasetError)


def test_two_archives_with_different_files_for_one_place_are_refused(site_of: Any) -> None:
    site = site_of("rparis6k")
    second = {
        "paris/x/paris_defense_000000.jpg": b"other",
        "paris/louvre/paris_louvre_000001.jpg": PHOTO,
        "q.jpg": PHOTO,
    }
    site.server.files[site.path("paris_2-v1.tgz")] = packed(second, "a.tgz")
    said = site.refusal(DatasetError)
    partial = site.out / "rparis6k.partial"
    assert said.startswith("rparis6k came whole, but cannot be read: ")
    assert said.endswith(
        "paris_defense_000000.jpg are different files for one place; what was published may have changed. Look at "
        f"{partial / 'assembled'}; to begin again, delete {partial}."
    )


def test_a_folder_of_something_else_is_left_alone(oxford: Site) -> None:
    (oxford.out / "roxford5k").mkdir(parents=True)
    (oxford.out / "roxford5k" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError) as refusal:
        oxford.fetch()
    assert str(refusal.value) == (
        f"`out` is {oxford.out}, where {oxford.out / 'roxford5k'} is something that was not downloaded here; move it "
        "away, or name another --out."
    )
    assert oxford.server.requests == []


def test_files_that_lack_are_named_with_their_address(oxford: Site, tmp_path: Path) -> None:
    (tmp_path / "by hand").mkdir()
    (tmp_path / "by hand" / "gnd_roxford5k.pkl").touch()
    said = oxford.refusal(UsageError, by_hand=tmp_path / "by hand")
    assert said == (
        f"`from` is {tmp_path / 'by hand'}, which lacks 1 of 2 files of roxford5k; fetch oxbuild_images-v1.tgz "
        f"({oxford.dataset.files[0].url}) and put them there."
    )


def test_what_is_not_on_the_web_must_be_fetched_by_hand(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        fetch(PUBLISHED["instre"], tmp_path, FetchOptions(), Saying())
    assert str(refusal.value).startswith(
        "instre is not published where it can be downloaded here; fetch instre.tar.gz ("
    )
    assert str(refusal.value).endswith("gnd_instre.mat) by hand and pass --from with their folder.")


def test_a_folder_of_files_fetched_by_hand_must_be_there(oxford: Site, tmp_path: Path) -> None:
    said = oxford.refusal(UsageError, by_hand=tmp_path / "no")
    assert said == f"`from` is {tmp_path / 'no'}, which is no folder; name the one that the files lie in."


def test_a_hash_of_no_file_is_refused(oxford: Site) -> None:
    said = oxford.refusal(UsageError, sha256={"x.tgz": "0" * 64})
    assert said == "`sha256` is of 'x.tgz', which is no file of roxford5k; name one that --dry-run lists."


def test_too_little_room_is_said_before_anything_is_asked_for(oxford: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_edge.datasets.fetching.free_bytes", lambda out: 3000)
    sizes = [file.size_bytes or 0 for file in oxford.dataset.files]
    needed = sum(sizes) + max(sizes)
    said = oxford.refusal(DownloadError)
    assert said == (
        f"roxford5k needs about {needed / 1e6:.1f} MB, but {oxford.out} has 0.0 MB free; free some space, or name a "
        "folder on another disk: --out."
    )
    assert oxford.server.requests == []


def test_room_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free, rel=0.2)


def test_a_damaged_marker_is_said(oxford: Site) -> None:
    oxford.fetch()
    marker = oxford.out / "roxford5k" / MARKER
    for damage in ("", "[]", '{"a": 1}', '{"a": {"b": 1}}'):
        marker.write_text(damage)
        with pytest.raises(DownloadError) as refusal:
            oxford.fetch()
        assert str(refusal.value) == (f"{marker} is damaged; delete {marker.parent} and run the same command again.")


def test_a_record_that_is_gone_is_said_once(oxford: Site) -> None:
    oxford.server.faults[oxford.path("gnd_roxford5k.pkl")] = [oxford.server.fault(status=403)]
    oxford.refusal(DownloadError)
    (oxford.out / "roxford5k.archives" / "oxbuild_images-v1.tgz.json").unlink()
    assert oxford.refusal(DownloadError) == (
        f"{oxford.out / 'roxford5k.archives' / 'oxbuild_images-v1.tgz.json'} is gone; run the same command again."
    )
    oxford.fetch()


def test_two_at_once_fetch_it_once(oxford: Site) -> None:
    second = oxford._replace(progress=Saying())
    other = threading.Thread(target=second.fetch)
    oxford.server.faults[oxford.path("oxbuild_images-v1.tgz")] = [
        oxford.server.fault(meanwhile=other.start, pause_s=0.2)
    ]
    oxford.fetch()
    other.join()
    assert second.progress.lines == ["another process fetches roxford5k; waiting for it"]
    assert len(oxford.server.requests) == 2


def test_names_are_those_of_the_catalogue_and_the_nearest_one_is_named() -> None:
    assert published("sop") is PUBLISHED["sop"]
    with pytest.raises(UsageError) as refusal:
        published("roxford")
    assert str(refusal.value) == (
        "`name` is 'roxford'; published data sets are: roxford5k, rparis6k, r1m, sfm120k, instre, gldv2-clean-train, "
        "gldv2-retrieval, sop, cub200; did you mean 'roxford5k'?"
    )


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("ROxford5k", "roxford5k"),
        ("retrieval-SfM-120k", "sfm120k"),
        ("Google Landmarks v2", "gldv2-clean-train"),
        ("Stanford Online Products", "sop"),
        ("CUB-200", "cub200"),
        ("INSTRE", "instre"),
    ],
)
def test_what_people_call_a_data_set_leads_to_its_name(called: str, name: str) -> None:
    with pytest.raises(UsageError) as refusal:
        published(called)
    assert str(refusal.value).endswith(f"; did you mean '{name}'?")


def test_the_catalogue_is_sound() -> None:
    """Names and addresses that differ, sizes that can be, hashes of the right length."""
    assert len(PUBLISHED["gldv2-clean-train"].files) == 501
    assert PUBLISHED["r1m"].files[99].url.endswith("/revisitop1m/jpg/revisitop1m.100.tar.gz")
    assert PUBLISHED["gldv2-retrieval"].files[21].md5_url.endswith("/md5sum/test/md5.images_019.txt")
    for dataset in PUBLISHED.values():
        names, urls = [file.name for file in dataset.files], [file.url for file in dataset.files]
        assert len(set(names)) == len(set(urls)) == len(names)
        assert len({name.replace("/", "-") for name in names}) == len(names)
        assert dataset.page.startswith("http")
        for file in dataset.files:
            assert len(file.sha256) in (0, 64)
            assert len(file.md5) in (0, 32)
            assert file.name.rpartition("/")[2] == file.url.rpartition("/")[2]


@pytest.mark.parametrize("way", ["by hand", "download"])
def test_a_process_killed_at_any_place_leaves_what_the_next_one_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Before every third thing done to the file system, in turn; the same call then makes the same folder."""
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in contents_of("rparis6k").items():
        (folder / name).write_bytes(content)
    script = Path(__file__).with_name("fetching_killed.py")
    ended = subprocess.run(
        [sys.executable, "-W", "error", script, folder, tmp_path / "killed", way], capture_output=True, text=True
    )
    assert ended.stderr == ""
    report = json.loads(ended.stdout)
    assert report["kills"] > 25
    assert report["trees"] == 1
