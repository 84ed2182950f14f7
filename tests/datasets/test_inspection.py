"""What is said of a data set, and every kind of trouble, each found beside the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aml_edge.datasets.description import DatasetDescription, GroundTruthCounts, SplitCounts, Spread
from aml_edge.datasets.inspection import inspect
from aml_edge.datasets.layouts import DatasetKind
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.errors import DatasetError, UnsafePickleError, UsageError
from aml_edge.protocol import Protocol

Record = dict[str, Any]
Write = Callable[[Record], Path]


def described(root: Path, *, decode: bool = False) -> DatasetDescription:
    (description,) = inspect(root, decode=decode)
    return description


def test_a_revisited_set(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    description = described(root)
    assert (description.name, description.kind, description.root) == ("toy5", DatasetKind.REVISITED, root)
    assert description.ground_truth == GroundTruthCounts(
        queries=2,
        database=5,
        easy=Spread(1, 1.0, 1, 2),
        hard=Spread(0, 0.5, 1, 1),
        junk=Spread(0, 1.0, 2, 2),
        distractors=1,
    )
    images = description.images
    assert (images.count, images.smallest, images.largest, images.common) == (7, (8, 6), (8, 6), (((8, 6), 7),))
    assert images.size_bytes == sum(path.stat().st_size for path in (root / "jpg").iterdir())
    assert (description.splits, description.problems) == ((), ())


def test_an_sfm_set(write_sfm: Write, sfm_record: Record) -> None:
    description = described(write_sfm(sfm_record))
    assert (description.name, description.kind) == ("toy-SfM", DatasetKind.SFM)
    assert description.splits == (
        SplitCounts("train", 6, 2, Spread(3, 3.0, 3, 6), 3),
        SplitCounts("val", 2, 1, Spread(2, 2.0, 2, 2), 1),
    )
    assert (description.images.count, description.ground_truth, description.problems) == (8, None, ())


def test_a_folder_of_images(tmp_path: Path) -> None:
    for name, size in (("a.png", (4, 4)), ("sub/b.png", (2, 8)), ("sub/c.png", (9, 3)), ("sub/d.png", (4, 4))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    description = described(tmp_path)
    assert (description.name, description.kind) == (tmp_path.name, DatasetKind.FOLDER)
    images = description.images
    assert images.count == 4
    assert images.common[0] == ((4, 4), 2)
    assert images.largest == (9, 3)
    assert images.smallest == (2, 8)  # as many pixels as 4×4; the narrower one
    assert description.problems == ()


def test_data_sets_in_folders_below_are_each_described(
    tmp_path: Path,
    write_revisited: Write,
    revisited_record: Record,
    write_sfm: Write,
    sfm_record: Record,
    progress: Any,
) -> None:
    write_revisited(revisited_record)
    write_sfm(sfm_record)
    descriptions = inspect(tmp_path, progress=progress)
    assert [description.name for description in descriptions] == ["toy-SfM", "toy5"]
    assert progress.announced == [("looking at images", 8), ("looking at images", 7)]
    assert progress.done == 15


def test_a_synthetic_set_is_what_was_asked_for_and_sound(tmp_path: Path) -> None:
    spec = SyntheticSpec(
        image_side_px=48, landmarks_train=2, landmarks_val=1, views_train=3, landmarks_test=2, distractors=2
    )
    write_synthetic(tmp_path / "out", spec)
    test, train = inspect(tmp_path / "out", decode=True)
    assert test.problems == train.problems == ()
    assert test.ground_truth == GroundTruthCounts(
        2, 24, Spread(4, 4.0, 4, 8), Spread(5, 5.0, 5, 10), Spread(2, 2.0, 2, 4), 2
    )
    assert [(split.split, split.images, split.clusters) for split in train.splits] == [("train", 6, 2), ("val", 3, 1)]


def test_everything_wrong_with_a_revisited_set_is_told(write_revisited: Write, revisited_record: Record) -> None:
    first, second = revisited_record["gnd"]
    first["bbx"] = [0, 0, 9.5, 6]  # two pixels more than the image, one is forgiven
    second |= {"easy": [], "junk": [3]}
    revisited_record["imlist"].append("hall_q")
    root = write_revisited(revisited_record)
    jpg = root / "jpg"
    Image.new("RGB", (8, 6)).save(jpg / "stray.jpg")
    (jpg / "hall_1.jpg").unlink()
    (jpg / "tower_0.jpg").write_bytes(b"no image")
    problems = described(root).problems
    assert problems == (
        f"1 of 7 images cannot be found, the first is {jpg / 'hall_1.jpg'}.",
        f"1 of 7 images cannot be read, the first is {jpg / 'tower_0.jpg'}: "
        "it is no image, or of a format that is not read.",
        f"queries with a box that reaches outside their image: 1, the first is {jpg / 'hall_q.jpg'}.",
        f"queries with neither easy nor hard images, which never count: 1, the first is {jpg / 'tower_q.jpg'}.",
        f"queries that are in the database too: 1, the first is {jpg / 'hall_q.jpg'}.",
        f"files in jpg/ that are neither query nor database: 1, the first is {jpg / 'stray.jpg'}.",
    )


@pytest.mark.parametrize(("right", "outside"), [(8.0, False), (9.0, False), (9.1, True)])
def test_a_box_may_end_a_pixel_outside(
    write_revisited: Write, revisited_record: Record, right: float, outside: bool
) -> None:
    revisited_record["gnd"][0]["bbx"] = [0, 0, right, 6]
    assert bool(described(write_revisited(revisited_record)).problems) == outside


def test_everything_wrong_with_an_sfm_set_is_told(write_sfm: Write, sfm_record: Record) -> None:
    train = sfm_record["train"]
    train |= {"qidxs": [0, 1, 2], "pidxs": [1, 3, 2]}
    sfm_record["val"]["cids"][0] = train["cids"][4]
    root = write_sfm(sfm_record)
    places = [root / "ims" / "ff" / "ee" / "dd" / cid for cid in train["cids"]]
    assert described(root).problems == (
        f"queries of train with a positive of another cluster: 1, the first is {places[1]}.",
        f"queries of train that are their own positive: 1, the first is {places[2]}.",
        f"images in both splits: 1, the first is {places[4]}.",
    )


def test_a_training_set_without_validation_is_described_with_that_problem(write_sfm: Write, sfm_record: Record) -> None:
    del sfm_record["val"]
    root = write_sfm(sfm_record)
    description = described(root)
    assert [split.split for split in description.splits] == ["train"]
    assert description.problems == (f"{root / 'toy-SfM.pkl'} has no split 'val'; it has: train.",)


def test_only_decoding_finds_a_truncated_image(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    noise.save(path)
    path.write_bytes(path.read_bytes()[:-800])
    assert described(tmp_path).problems == ()
    (problem,) = described(tmp_path, decode=True).problems
    assert problem.startswith(f"1 of 1 images cannot be read, the first is {path}: ")


def test_where_no_image_can_be_read_there_is_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    images = described(tmp_path).images
    assert (images.count, images.size_bytes, images.smallest, images.largest, images.common) == (1, 0, None, None, ())


def test_a_size_is_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert described(tmp_path).images.largest == described(tmp_path, decode=True).images.largest == (4, 10)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as refusal:
        inspect(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} holds no image and no data set; give a folder that does. Data sets are known by what they hold: "
        "revisited by gnd_NAME.pkl; SfM by NAME.pkl and ims/; revisitop1m by revisitop1m.txt; INSTRE by "
        "gnd_instre.mat; Google Landmarks v2 by train_clean.csv and train/, or retrieval_solution_v2.1.csv and test/; "
        "Stanford Online Products by Ebay_train.txt or Ebay_test.txt; CUB-200-2011 by images.txt, "
        "image_class_labels.txt and images/."
    )
    with pytest.raises(UsageError, match="is no folder; give the folder that holds the images"):
        inspect(tmp_path / "nowhere")


def test_metadata_of_several_sets_is_refused(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    (root / "gnd_again.pkl").write_bytes((root / "gnd_toy5.pkl").read_bytes())
    with pytest.raises(DatasetError, match=r"several data sets \(gnd_again.pkl, gnd_toy5.pkl\); move all but one away"):
        inspect(root)


def test_a_hostile_pickle_is_refused(write_revisited: Write, revisited_record: Record) -> None:
    root = write_revisited(revisited_record)
    (root / "gnd_toy5.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UnsafePickleError):
        inspect(root)


@pytest.mark.parametrize(
    ("counts", "median"), [([3, 1, 2], 2.0), ([4, 1, 3, 2], 2.5), ([5], 5.0)], ids=["odd", "even", "one"]
)
def test_a_spread_has_the_median(
    write_revisited: Write, revisited_record: Record, counts: list[int], median: float
) -> None:
    revisited_record["imlist"] = [f"d{row}" for row in range(5)]
    revisited_record["qimlist"] = [f"q{row}" for row in range(len(counts))]
    revisited_record["gnd"] = [
        {"bbx": [0, 0, 8, 6], "easy": list(range(count)), "hard": [], "junk": []} for count in counts
    ]
    truth = described(write_revisited(revisited_record)).ground_truth
    assert truth is not None
    assert truth.easy == Spread(min(counts), median, max(counts), sum(counts))


def test_sets_of_classes_are_described(products: Path, birds: Path, classes: Path) -> None:
    none = Spread(0, 0.0, 0, 0)
    description = described(products)
    assert (description.name, description.kind) == ("stanford-online-products", DatasetKind.PRODUCTS)
    assert description.images.count == 7
    assert description.ground_truth == GroundTruthCounts(
        4, 4, Spread(0, 2.0, 2, 6), none, none, 1, Protocol.METRIC_LEARNING, 2
    )
    assert description.splits == (SplitCounts("train", 3, 2, Spread(1, 1.5, 2, 3), 2),)
    alone = "images that are alone in their class, which never count: 1, the first is"
    assert description.problems == (f"{alone} {products / 'chair_final/4_0.JPG'}.",)
    description = described(birds)
    assert (description.name, description.kind, description.problems) == ("cub-200-2011", DatasetKind.BIRDS, ())
    assert description.ground_truth is not None
    assert (description.ground_truth.queries, description.ground_truth.classes) == (4, 2)
    description = described(classes)
    assert (description.name, description.kind, description.splits) == ("parts", DatasetKind.CLASSES, ())
    assert description.problems == (f"{alone} {classes / 'nut/c.jpg'}.",)


def test_landmarks_are_described(landmarks: Path) -> None:
    description = described(landmarks)
    none = Spread(0, 0.0, 0, 0)
    assert (description.name, description.kind) == ("google-landmarks-v2", DatasetKind.LANDMARKS)
    assert description.ground_truth == GroundTruthCounts(
        2, 4, Spread(1, 1.5, 2, 3), none, Spread(0, 0.0, 0, 0), 1, Protocol.LANDMARKS
    )
    assert description.splits == (SplitCounts("train", 4, 2, Spread(1, 2.0, 3, 4), 3),)
    assert (description.images.count, description.problems) == (10, ())
    (landmarks / "test").rename(landmarks / "elsewhere")
    description = described(landmarks)
    assert (description.name, description.ground_truth) == ("Google Landmarks v2", None)


def test_instre_and_distractors_are_described(distractors: Path, write_instre: Write, instre_record: Record) -> None:
    instre_record["gnd"][1] = {"ok": [], "bbx": [0, 0, 9.5, 6]}
    root = write_instre(instre_record)
    description = described(root)
    assert (description.name, description.kind) == ("instre", DatasetKind.INSTRE)
    query = root / instre_record["qimlist"][1]
    assert description.problems == (
        f"queries with a box that reaches outside their image: 1, the first is {query}.",
        f"queries without a positive, which never count: 1, the first is {query}.",
    )
    description = described(distractors)
    assert (description.name, description.kind, description.problems) == ("revisitop1m", DatasetKind.DISTRACTORS, ())
    assert description.splits == (SplitCounts("distractors", 3, 0, Spread(0, 0.0, 0, 0), 0),)


def test_an_image_to_train_on_that_is_tested_on_is_told(products: Path) -> None:
    path = products / "Ebay_train.txt"
    path.write_text(path.read_text() + "9 11319 1 bicycle_final/3_1.JPG\n")
    (problem, _) = sorted(described(products).problems, reverse=True)
    assert problem == (
        f"images to train on that are tested on too: 1, the first is {products / 'bicycle_final/3_1.JPG'}."
    )


def test_a_validation_split_that_is_broken_is_a_problem(write_sfm: Write, sfm_record: Record) -> None:
    sfm_record["val"]["cluster"] = [1]
    root = write_sfm(sfm_record)
    assert described(root).problems == (
        f"{root / 'toy-SfM.pkl'}: val: there are 1 clusters for 2 images; each has one.",
    )
