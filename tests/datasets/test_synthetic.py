"""The synthetic data set as files: the same bytes however it is made, both published layouts, nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import pickletools
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aml_edge.datasets.revisited import load_revisited
from aml_edge.datasets.sfm import load_sfm
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.errors import UsageError

SPEC = SyntheticSpec(
    name="tiny",
    seed=5,
    image_side_px=64,
    landmarks_train=3,
    landmarks_val=1,
    views_train=5,
    landmarks_test=3,
    queries=2,
    easy=2,
    hard=3,
    junk=1,
    distractors=6,
)
KILLED = Path(__file__).with_name("synthetic_killed.py")
IMAGES = 3 * 5 + 1 * 5 + 3 * (2 + 2 + 3 + 1) + 6


def digests(root: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file by its path."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished data set, which no test may change."""
    out = tmp_path_factory.mktemp("synthetic") / "set"
    write_synthetic(out, SPEC)
    return out


def test_report_counts_what_was_written(tmp_path: Path) -> None:
    report = write_synthetic(tmp_path / "set", SPEC)
    assert (report.train_images, report.val_images, report.queries, report.database_images) == (15, 5, 6, 24)
    assert report.new_images == IMAGES
    assert len([path for path in report.train_root.rglob("*") if path.is_file()]) == 15 + 5 + 1
    assert len(list((report.test_root / "jpg").iterdir())) == 6 + 24
    assert report.seconds > 0


def test_same_spec_gives_the_same_bytes_elsewhere_and_on_two_workers(made: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "two workers", SPEC, workers=2)
    assert digests(tmp_path / "two workers") == digests(made)


def test_another_seed_gives_other_images(made: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "set", replace(SPEC, seed=6))
    other, images = digests(tmp_path / "set"), [name for name in digests(made) if name.endswith(".jpg")]
    assert images
    assert all(other[name] != digest for name, digest in digests(made).items() if name in images)


def test_more_landmarks_leave_the_first_as_they_are(made: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "set", replace(SPEC, landmarks_test=4, landmarks_train=4, distractors=9))
    more = digests(tmp_path / "set")
    kept = {name: digest for name, digest in digests(made).items() if name.endswith(".jpg")}
    assert {name: more[name] for name in kept} == kept


def test_no_two_images_are_the_same(made: Path) -> None:
    images = [digest for name, digest in digests(made).items() if "/jpg/" in name or "/ims/" in name]
    assert len(images) == IMAGES
    assert len(set(images)) == IMAGES


def test_images_have_the_side_that_was_asked_for(made: Path) -> None:
    sizes = set()
    for path in [
        *(made / "test/tiny/jpg").iterdir(),
        *(p for p in (made / "train/tiny/ims").rglob("*") if p.is_file()),
    ]:
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
    assert sizes == {(64, 48), (48, 64)}


def test_reader_of_the_revisited_layout_reads_the_test_set(made: Path) -> None:
    dataset = load_revisited(made / "test" / "tiny")
    assert dataset.name == "tiny"
    assert (len(dataset.query_items), len(dataset.database_items)) == (6, 24)
    names = [path.removeprefix("jpg/").removesuffix(".jpg") for path in dataset.database_ids]
    for item, answer in zip(dataset.query_items, dataset.ground_truth, strict=True):
        landmark = item.path.stem.partition("_")[0]
        for label, count in (("easy", 2), ("hard", 3), ("junk", 1)):
            rows = getattr(answer, label)
            assert sorted(names[row] for row in rows) == [f"{landmark}_{label}{place:02}" for place in range(count)]
        assert item.box is not None
        with Image.open(item.path) as image:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= image.width
            assert 0 <= top < bottom <= image.height
            assert (right - left) * (bottom - top) > 0.15 * image.width * image.height
    assert len([name for name in names if name.startswith("distractor")]) == 6
    assert not {item.path for item in dataset.query_items} & {item.path for item in dataset.database_items}


@pytest.mark.parametrize(("split", "clusters"), [("train", [0, 1, 2]), ("val", [3])])
def test_reader_of_the_sfm_layout_reads_the_training_set(made: Path, split: str, clusters: list[int]) -> None:
    dataset = load_sfm(made / "train" / "tiny", split)
    assert dataset.name == "tiny"
    assert list(dataset.clusters) == [cluster for cluster in clusters for _ in range(5)]
    assert len(dataset.query_rows) == 3 * len(clusters)
    for query, positive in zip(dataset.query_rows, dataset.positive_rows, strict=True):
        assert query != positive
        assert dataset.clusters[query] == dataset.clusters[positive]


def test_pickles_hold_plain_values_in_the_published_protocol(made: Path) -> None:
    """As the published code reads them: `pickle.load`, then `cfg['gnd'][i]['bbx']` and `cids[i][-2:]`."""
    for path in (made / "train/tiny/tiny.pkl", made / "test/tiny/gnd_tiny.pkl"):
        content = path.read_bytes()
        assert content[:2] == b"\x80\x02"
        assert not {"GLOBAL", "STACK_GLOBAL", "REDUCE"} & {code.name for code, _, _ in pickletools.genops(content)}
        assert_plain(pickle.loads(content))
    training = pickle.loads((made / "train/tiny/tiny.pkl").read_bytes())
    for split in ("train", "val"):
        for cid in training[split]["cids"]:
            assert len(cid) == 32
            assert int(cid, 16) >= 0
            assert (made / "train/tiny/ims" / cid[-2:] / cid[-4:-2] / cid[-6:-4] / cid).is_file()


def assert_plain(value: Any) -> None:
    assert type(value) in (dict, list, str, int, float)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_plain(inner)


def test_finished_set_is_left_alone(tmp_path: Path) -> None:
    write_synthetic(tmp_path, SPEC)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_synthetic(tmp_path, SPEC).new_images == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_is_missing_is_made_again(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    write_synthetic(out, SPEC)
    for name in ("test/tiny/gnd_tiny.pkl", "test/tiny/jpg/landmark0001_query00.jpg", "contact_sheet.png"):
        (out / name).unlink()
    (out / "test/tiny/jpg/.landmark0000_easy00.77.partial.jpg").write_bytes(b"half a pict")
    assert write_synthetic(out, SPEC).new_images == 1
    assert digests(out) == digests(made)


def test_killed_before_anything_that_it_does_to_a_file(made: Path, tmp_path: Path) -> None:
    """The record, folders, images, the sheet, the two pickles: the last is killed just before its last step."""
    (tmp_path / "spec").write_bytes(pickle.dumps(SPEC))
    kills = ["1", "4", "60", "120", "168", "178"]
    command = [sys.executable, str(KILLED), str(tmp_path), str(tmp_path / "spec"), *kills]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert [line.split() for line in printed if line] == [[kill, "True"] for kill in kills]
    for kill in kills:
        out = tmp_path / f"killed at {kill}"
        assert not (out / "test/tiny/gnd_tiny.pkl").exists()
        write_synthetic(out, SPEC)
        assert digests(out) == digests(made), f"killed at event {kill}"


def test_killed_with_workers_and_started_again_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    code = (
        "import sys; from pathlib import Path; from aml_edge.datasets.synthetic.writing import write_synthetic;"
        "from aml_edge.datasets.synthetic.spec import SyntheticSpec;"
        f"write_synthetic(Path(sys.argv[1]), {SPEC!r}, workers=2)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(out)])
    while child.poll() is None and not (out / "train/tiny/ims").exists():
        time.sleep(0.01)
    child.kill()
    child.wait()
    write_synthetic(out, SPEC)  # while the killed call's workers perhaps end their last image
    wait_until_quiet(out)
    assert digests(out) == digests(made)


def wait_until_quiet(out: Path) -> None:
    """Waits until no image is half-written, as the last one of a killed call's worker may be for a moment."""
    for _ in range(100):
        if not list(out.rglob(".*.partial*")):
            return
        time.sleep(0.05)


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from concurrent.futures import ProcessPoolExecutor;"
        "import multiprocessing; from aml_edge.datasets.synthetic.writing import _end_with_parent;"
        "pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), initializer=_end_with_parent);"
        "Path(sys.argv[1]).write_text(str(pool.submit(os.getpid).result())); time.sleep(60)"
    )
    note = tmp_path / "pid"
    child = subprocess.Popen([sys.executable, "-c", code, str(note)])
    while child.poll() is None and not (note.is_file() and note.read_text()):
        time.sleep(0.01)
    worker = int(note.read_text())
    child.kill()
    child.wait()
    for _ in range(500):
        if not is_running(worker):
            return
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    pytest.fail(f"worker {worker} outlived its parent")


def is_running(process: int) -> bool:
    """Whether a process that is not ours to wait for still runs; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_contact_sheet_shows_a_row_for_each_landmark(made: Path) -> None:
    with Image.open(made / "contact_sheet.png") as sheet:
        cells = sheet.convert("L")
    assert cells.width == 4 + 8 * 164
    assert cells.height == 18 + 3 * 164
    middles = [cells.getpixel((4 + column * 164 + 80, 18 + 164 + 80)) for column in range(8)]
    paper = [place for place, grey in enumerate(middles) if grey == 250]
    assert paper == [7], "one query, two easy, three hard, one junk view, and room for another"


def test_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError) as caught:
        write_synthetic(tmp_path, SPEC)
    assert str(caught.value) == (
        f"`out` is {tmp_path}, which holds thesis.tex and no synthetic data set; give an empty or new folder."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError) as caught:
        write_synthetic(tmp_path / "out", SPEC)
    assert str(caught.value) == f"`out` is {tmp_path / 'out'}, a file; give a folder that is empty or not there."


def test_set_of_another_spec_is_refused(made: Path) -> None:
    before = digests(made)
    with pytest.raises(UsageError) as caught:
        write_synthetic(made, replace(SPEC, seed=6, hard=9))
    assert str(caught.value) == (
        f"`out` is {made}, which holds a synthetic data set with seed 5, hard 3; "
        "give another folder, or remove this one."
    )
    assert digests(made) == before


def test_unfinished_set_of_other_versions_is_refused_and_a_finished_one_is_not(tmp_path: Path) -> None:
    write_synthetic(tmp_path, SPEC)
    record = tmp_path / "synthetic.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "pillow": "9.9"}))
    assert write_synthetic(tmp_path, SPEC).new_images == 0
    (tmp_path / "test/tiny/jpg/distractor00000.jpg").unlink()
    with pytest.raises(UsageError, match=r"an unfinished data set of pillow 9\.9, and this is pillow "):
        write_synthetic(tmp_path, SPEC)


def test_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "synthetic.json").write_text('{"spec": ')
    with pytest.raises(UsageError) as caught:
        write_synthetic(tmp_path, SPEC)
    message = f"{tmp_path / 'synthetic.json'} is damaged; remove {tmp_path}, or give another folder."
    assert str(caught.value) == message


def test_no_worker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        write_synthetic(tmp_path / "set", SPEC, workers=0)
    assert str(caught.value) == "`workers` is 0; drawing takes at least one."
    assert not (tmp_path / "set").exists()


def test_a_failing_write_leaves_no_half_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_synthetic(tmp_path, SPEC)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["synthetic.json"]


def test_progress_counts_every_image(tmp_path: Path) -> None:
    from aml_edge.progress import SilentProgress

    announced: list[int] = []

    class Watching(SilentProgress):
        def task(self, description: str, total: int) -> Any:
            announced.append(total)
            return super().task(description, total)

    write_synthetic(tmp_path, SPEC, progress=Watching())
    assert announced == [IMAGES]
