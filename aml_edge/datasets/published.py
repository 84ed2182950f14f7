"""Published data sets: where their files are, how large, under which terms, and how they become a layout that is read.

Where the addresses and sizes come from:
- Oxford, Paris, R1M, SfM-120k: `download.py` of github.com/filipradenovic/revisitop and cnnimageretrieval-pytorch, and
  the pages of the two image sets. R1M's size is an estimate that somebody gives in an issue on GitHub, not its makers.
- INSTRE: the addresses are those in the README of github.com/aosokin/os2d. They are ftp, which is not fetched here.
- Google Landmarks v2: github.com/cvdfoundation/google-landmark, which gives sizes and an MD5 file for each archive.
- Stanford Online Products: size and SHA-256 are those that TensorFlow Datasets recorded.
- CUB-200-2011: record 65de6-vp158 of CaltechDATA, whose page was not seen; size and MD5 are those that other projects'
  code has for the file.

Not verified here: no machine that this was written on could reach any of these hosts, so whether the files are still
there, and whether sizes and hashes hold, is known only once somebody has downloaded them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from aml_edge.downloading.placement import Placement
from aml_edge.errors import UsageError

_GZIP, _ZIP, _PICKLE, _MATLAB = (b"\x1f\x8b",), (b"PK\x03\x04",), (b"\x80", b"("), (b"MATLAB",)
_PHOTOGRAPHS = (".jpg", ".jpeg")
_ARCHIVE_ENDINGS = (".tar", ".tgz", ".tar.gz", ".zip")
_MOST_TIMES, _MOST_SPARE_BYTES, _MOST_UNKNOWN_BYTES = 2, 50_000_000, 20_000_000_000
"""How long a file may be: twice what is said of it, since that may be old, and some; else what any of them may be."""


@dataclass(frozen=True)
class PublishedFile:
    """A file of a published data set: an archive, by the ending of its name, or one that is taken as it is.

    Args:
        name: with which it is kept and found in a folder of files that were fetched by hand; parts joined by ``/``.
        url: where it is published.
        size_bytes: about; None where nobody says.
        placement: where its members, or it itself, go.
        beginnings: what it begins with; empty where anything will do.
        sha256, md5: published by somebody; empty where none is known.
        md5_url: of a text file that begins with its MD5; empty where there is none.
    """

    name: str
    url: str
    size_bytes: int | None = None
    placement: Placement = Placement()  # noqa: RUF009
    beginnings: tuple[bytes, ...] = ()
    sha256: str = ""
    md5: str = ""
    md5_url: str = ""

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked."""
        return self.name.endswith(_ARCHIVE_ENDINGS)

    @property
    def is_fetched(self) -> bool:
        """Whether it is at an address that is fetched here, else it must be fetched by hand."""
        return self.url.startswith(("http://", "https://"))

    @property
    def has_hash(self) -> bool:
        """Whether somebody published a hash of it; else the first download is recorded."""
        return bool(self.sha256 or self.md5 or self.md5_url)

    @property
    def most_bytes(self) -> int:
        """How long it can be."""
        if self.size_bytes is None:
            return _MOST_UNKNOWN_BYTES
        return _MOST_TIMES * self.size_bytes + _MOST_SPARE_BYTES


@dataclass(frozen=True)
class PublishedDataset:
    """A published data set.

    Args:
        name: to ask for it by, and of its folder.
        title: in words.
        files: all that its layout needs.
        terms: its licence, in a sentence or two.
        page: where the terms stand.
    """

    name: str
    title: str
    files: tuple[PublishedFile, ...]
    terms: str
    page: str

    @property
    def size_bytes(self) -> int:
        """About the size of all files whose size is known."""
        return sum(file.size_bytes or 0 for file in self.files)

    @property
    def unsized(self) -> int:
        """How many files there are of which nobody says how large they are."""
        return sum(file.size_bytes is None for file in self.files)


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_REVISITED = "http://cmp.felk.cvut.cz/revisitop/data/datasets"
_R1M = "http://ptak.felk.cvut.cz/revisitop/revisitop1m"
_SFM = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/train"
_INSTRE = "ftp://ftp.irisa.fr/local/texmex/corpus/instre"
_LANDMARKS = "https://s3.amazonaws.com/google-landmark"
_FLAT = Placement("jpg", flat=True, suffixes=_PHOTOGRAPHS)
_VGG_TERMS = (
    "Photographs from Flickr, under Flickr's terms of use and the Visual Geometry Group's terms of access; no licence "
    "of the ground truth is stated (http://cmp.felk.cvut.cz/revisitop)."
)


def _vgg(path: str, size_bytes: int | None) -> PublishedFile:
    return PublishedFile(path.rpartition("/")[2], f"{_VGG}/{path}", size_bytes, _FLAT, _GZIP)


def _revisited(name: str, size_bytes: int) -> PublishedFile:
    file = f"gnd_{name}.pkl"
    return PublishedFile(file, f"{_REVISITED}/{name}/{file}", size_bytes, beginnings=_PICKLE)


def _landmark_list(path: str) -> PublishedFile:
    return PublishedFile(path.rpartition("/")[2], f"{_LANDMARKS}/{path}")


def _landmark_images(split: str, archives: int, size_bytes: int) -> tuple[PublishedFile, ...]:
    stems = [f"images_{number:03}" for number in range(archives)]
    return tuple(
        PublishedFile(
            f"{split}/{stem}.tar",
            f"{_LANDMARKS}/{split}/{stem}.tar",
            size_bytes,
            Placement(split, suffixes=_PHOTOGRAPHS),
            md5_url=f"{_LANDMARKS}/md5sum/{split}/md5.{stem}.txt",
        )
        for stem in stems
    )


_ALL = (
    PublishedDataset(
        "roxford5k",
        "revisited Oxford: 70 queries, 4993 images",
        (_vgg("oxbuildings/oxbuild_images-v1.tgz", 1_938_000_000), _revisited("roxford5k", 150_000)),
        _VGG_TERMS,
        f"{_VGG}/oxbuildings/",
    ),
    PublishedDataset(
        "rparis6k",
        "revisited Paris: 70 queries, 6322 images",
        (
            _vgg("parisbuildings/paris_1-v1.tgz", 1_270_000_000),
            _vgg("parisbuildings/paris_2-v1.tgz", None),
            _revisited("rparis6k", 277_000),
        ),
        _VGG_TERMS,
        f"{_VGG}/parisbuildings/",
    ),
    PublishedDataset(
        "r1m",
        "a million distractors for revisited Oxford and Paris",
        (
            *(
                PublishedFile(file, f"{_R1M}/jpg/{file}", 4_400_000_000, Placement("jpg"), _GZIP)
                for file in (f"revisitop1m.{number}.tar.gz" for number in range(1, 101))
            ),
            PublishedFile("revisitop1m.txt", f"{_R1M}/revisitop1m.txt"),
        ),
        "No licence of the photographs is known here.",
        "http://cmp.felk.cvut.cz/revisitop/",
    ),
    PublishedDataset(
        "sfm120k",
        "retrieval-SfM-120k, to train on: 91642 images, 6403 to validate",
        (
            PublishedFile("ims.tar.gz", f"{_SFM}/ims/ims.tar.gz", 37_000_000_000, Placement("ims"), _GZIP),
            PublishedFile("retrieval-SfM-120k.pkl", f"{_SFM}/dbs/retrieval-SfM-120k.pkl", beginnings=_PICKLE),
        ),
        "No licence is stated; the photographs come from Flickr.",
        "http://cmp.felk.cvut.cz/cnnimageretrieval/",
    ),
    PublishedDataset(
        "instre",
        "INSTRE: 1250 queries, 27293 images",
        (
            PublishedFile(
                "instre.tar.gz",
                f"{_INSTRE}/instre.tar.gz",
                2_300_000_000,
                Placement(suffixes=_PHOTOGRAPHS),
                _GZIP,
            ),
            PublishedFile("gnd_instre.mat", f"{_INSTRE}/gnd_instre.mat", 200_000, beginnings=_MATLAB),
        ),
        "No licence is stated; the photographs come from the web and from the authors.",
        "http://123.57.42.89/instre/home.html",
    ),
    PublishedDataset(
        "gldv2-clean-train",
        "Google Landmarks v2, to train on: 4.1 million images, of which the clean list names 1.58 million",
        (_landmark_list("metadata/train_clean.csv"), *_landmark_images("train", 500, 1_000_000_000)),
        "Annotations: CC BY 4.0. Images: CC BY without ND, as train_attribution.csv says of each; without warranty.",
        "https://github.com/cvdfoundation/google-landmark",
    ),
    PublishedDataset(
        "gldv2-retrieval",
        "Google Landmarks v2, the retrieval task: 117577 test images, 761757 index images",
        (
            _landmark_list("ground_truth/retrieval_solution_v2.1.csv"),
            _landmark_list("metadata/index.csv"),
            *_landmark_images("test", 20, 500_000_000),
            *_landmark_images("index", 100, 850_000_000),
        ),
        "Annotations: CC BY 4.0. Images: CC0 or public domain; without warranty.",
        "https://github.com/cvdfoundation/google-landmark",
    ),
    PublishedDataset(
        "sop",
        "Stanford Online Products: 120053 images of 22634 products",
        (
            PublishedFile(
                "Stanford_Online_Products.zip",
                "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
                3_083_860_082,
                Placement(strip=1),
                _ZIP,
                "b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48",
            ),
        ),
        "The archive holds a LICENSE; the photographs come from eBay.",
        "https://cvgl.stanford.edu/projects/lifted_struct/",
    ),
    PublishedDataset(
        "cub200",
        "CUB-200-2011: 11788 images of 200 kinds of birds",
        (
            PublishedFile(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                1_150_585_339,
                Placement(strip=1),
                _GZIP,
                md5="97eceeb196236b17998738112f37df78",
            ),
        ),
        "The photographs come from Flickr and belong to those who took them; the page says what they may be used for.",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
    ),
)
PUBLISHED: Mapping[str, PublishedDataset] = {dataset.name: dataset for dataset in _ALL}


def published(name: str) -> PublishedDataset:
    """Returns a data set by its name; raises `UsageError` that names the nearest one where there is none."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    known = {**{one: one for one in PUBLISHED}, **{_called(one): one.name for one in PUBLISHED.values()}}
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f"; did you mean {known[nearest[0]]!r}?" if nearest else ""
    raise UsageError(f"`name` is {name!r}; published data sets are: {', '.join(PUBLISHED)}{meant}")


def _called(dataset: PublishedDataset) -> str:
    """Returns what people call a data set: the beginning of its title."""
    return dataset.title.partition(":")[0].lower()
