"""Building an approximate index: what is written, what is refused, and that there is a whole one or none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.approximate import building
from aml_edge.approximate.approximate_index import open_approximate
from aml_edge.approximate.building import ApproximateOptions, build_approximate, require_factory, sample_rows
from aml_edge.approximate.record import approximate_path, read_record
from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.file_lock import locked
from aml_edge.files import file_sha256
from aml_edge.index import TeacherIndex, open_index

Rows = npt.NDArray[np.float32]
IVF = ApproximateSpec("IVF16,Flat")
KILLED_BUILDS = Path(__file__).with_name("building_killed.py")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lies_beside_the_rows_and_changes_none(index: TeacherIndex) -> None:
    before, size = files(index.path), index.size_bytes
    found = build_approximate(index, approximate_spec("IVF16,PQ4x4np:nprobe=4"))
    after = files(index.path)
    made = {f"approximate/IVF16,PQ4x4np/{name}" for name in ("record.json", "vectors.faiss")}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == made
    assert open_index(index.path).size_bytes == size
    record = json.loads(after["approximate/IVF16,PQ4x4np/record.json"])
    assert record == {
        "version": 1,
        "factory": "IVF16,PQ4x4np",
        "parameters": "nprobe=4",
        "count": 600,
        "dimension": 16,
        "embeddings_sha256": file_sha256(index.path / "embeddings.npy"),
        "space_fingerprint": index.space.fingerprint,
        "clusters": 16,
        "training_rows": 600,
        "seed": 0,
        "faiss_version": found.record.faiss_version,
        "size_bytes": len(after["approximate/IVF16,PQ4x4np/vectors.faiss"]),
        "sha256": file_sha256(index.path / "approximate/IVF16,PQ4x4np/vectors.faiss"),
    }


def test_the_same_build_gives_the_same_bytes(index: TeacherIndex) -> None:
    first = build_approximate(index, IVF).record
    again = build_approximate(index, IVF, ApproximateOptions(restart=True)).record
    assert again == first  # on one machine, with one thread
    options = ApproximateOptions(training_rows=100, seed=1, restart=True)
    other = build_approximate(index, IVF, options).record
    assert (other.training_rows, other.seed) == (100, 1)
    assert other.sha256 != first.sha256


def test_rows_of_half_precision_are_added_as_they_are(
    write_rows: Callable[..., TeacherIndex], rows: Rows, tmp_path: Path
) -> None:
    halves = rows.astype(np.float16)
    index = write_rows(tmp_path / "halves", halves)
    structure = build_approximate(index, ApproximateSpec("Flat")).structure
    np.testing.assert_array_equal(structure.reconstruct_n(0, 600), halves.astype(np.float32))


def test_rows_are_added_in_blocks(
    index: TeacherIndex, rows: Rows, monkeypatch: pytest.MonkeyPatch, progress: Any
) -> None:
    monkeypatch.setattr(building, "BLOCK_BYTES", 64 * 37)
    structure = build_approximate(index, ApproximateSpec("SQ8"), progress=progress).structure
    assert progress.announced == [("training SQ8", 600), ("adding to SQ8", 600)]
    assert progress.done == 1200
    np.testing.assert_allclose(structure.reconstruct_n(0, 600), rows, atol=2 / 255)  # of a range within −1..1


@pytest.mark.parametrize(
    ("clusters", "shape", "options", "sample"),
    [
        (4096, (5_000_000, 128), ApproximateOptions(), 256 * 4096),
        (0, (5_000_000, 128), ApproximateOptions(), 256 * 256),
        (4096, (100_000, 128), ApproximateOptions(), 100_000),
        (4096, (5_000_000, 2048), ApproximateOptions(), (1 << 31) // (4 * 2048)),
        (65536, (5_000_000, 2048), ApproximateOptions(), 39 * 65536),
        (4096, (5_000_000, 128), ApproximateOptions(training_rows=7000), 7000),
        (4096, (5_000, 128), ApproximateOptions(training_rows=7000), 5000),
    ],
)
def test_the_sample_is_bounded(clusters: int, shape: tuple[int, int], options: ApproximateOptions, sample: int) -> None:
    assert sample_rows(clusters, shape, options) == sample


def test_the_sample_is_drawn_from_all_rows(index: TeacherIndex, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scalar quantizer keeps the range of each value of its sample."""
    structure = build_approximate(index, ApproximateSpec("SQ8"), ApproximateOptions(training_rows=50, seed=3)).structure
    import faiss

    drawn = rows[np.random.default_rng(3).choice(600, 50, replace=False)]
    low, width = np.split(faiss.vector_to_array(structure.sq.trained), 2)
    np.testing.assert_allclose(low, drawn.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(low + width, drawn.max(axis=0), atol=1e-6)


def test_what_is_there_is_opened_and_remembers_parameters(index: TeacherIndex, progress: Any) -> None:
    first = build_approximate(index, IVF)
    same = build_approximate(index, IVF, progress=progress)
    assert (same.record, progress.announced) == (first.record, [])
    assert build_approximate(index, approximate_spec("IVF16,Flat:nprobe=5")).record.parameters == "nprobe=5"
    assert open_approximate(index, IVF).spec.parameters == "nprobe=5"
    assert build_approximate(index, IVF).record.parameters == "nprobe=5"
    assert open_approximate(index, approximate_spec("IVF16,Flat:nprobe=2")).spec.parameters == "nprobe=2"
    assert read_record(approximate_path(index.path, "IVF16,Flat")).parameters == "nprobe=5"


def test_a_damaged_one_is_made_again_when_asked(index: TeacherIndex) -> None:
    made = build_approximate(index, IVF).record
    file = approximate_path(index.path, "IVF16,Flat") / "vectors.faiss"
    file.write_bytes(b"damaged")
    with pytest.raises(TeacherIndexError, match="aml-edge index approximate --restart"):
        build_approximate(index, IVF)
    assert build_approximate(index, IVF, ApproximateOptions(restart=True)).record == made


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("PQ4x12", "Number of training points (600) should be at least as large as number of clusters (4096)"),
        ("PCA17,Flat", "PCA matrix cannot output 17 dimensions from 16"),
    ],
)
def test_says_why_faiss_cannot_be_trained(index: TeacherIndex, factory: str, said: str) -> None:
    before = files(index.path)
    with pytest.raises(UsageError) as refused:
        build_approximate(index, ApproximateSpec(factory))
    assert str(refused.value) == (
        f"`ann` is '{factory}', which FAISS cannot train on 600 of the 600 rows of {index.path}: {said}; "
        "name one with fewer lists or shorter codes."
    )
    assert files(index.path) == before
    assert not (index.path / "approximate").exists()


def test_says_why_faiss_takes_no_rows(index: TeacherIndex) -> None:
    with pytest.raises(UsageError) as refused:
        build_approximate(index, ApproximateSpec("IDMap,Flat"))
    assert str(refused.value) == (
        "`ann` is 'IDMap,Flat', to which FAISS cannot add rows and search them: add does not make sense with "
        "IndexIDMap, use add_with_ids; name another factory, e.g. IVF256,SQ8."
    )
    assert not (index.path / "approximate").exists()


def test_a_factory_is_refused_before_long_work() -> None:
    require_factory(ApproximateSpec("IVF16,Flat"), 16, 600)
    with pytest.raises(UsageError, match="makes 16 lists, but there are 15 rows"):
        require_factory(ApproximateSpec("IVF16,Flat"), 16, 15)


def test_faiss_s_warnings_stay_off_the_terminal(index: TeacherIndex, capfd: pytest.CaptureFixture[str]) -> None:
    build_approximate(index, ApproximateSpec("IVF16,PQ4np"))  # 600 rows for 256 clusters, four times
    assert capfd.readouterr() == ("", "")


def test_an_unsound_row_is_named(write_rows: Callable[..., TeacherIndex], rows: Rows, tmp_path: Path) -> None:
    broken = rows.copy()
    broken[321] *= 2
    index = write_rows(tmp_path / "broken", broken)
    with pytest.raises(TeacherIndexError, match=r"holds an embedding of length 2, not 1, for 321\.jpg"):
        build_approximate(index, IVF)
    assert not (index.path / "approximate").exists()


def test_training_rows_are_at_least_one() -> None:
    with pytest.raises(UsageError, match=r"^`training_rows` is 0; it must be at least 1\.$"):
        ApproximateOptions(training_rows=0)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
def test_two_processes_do_not_build_the_same(index: TeacherIndex) -> None:
    folder = approximate_path(index.path, "IVF16,Flat")
    with locked(folder.with_name(".IVF16,Flat.lock"), lambda: None):
        with pytest.raises(TeacherIndexError) as refused:
            build_approximate(index, IVF)
        assert str(refused.value) == f"{folder} is being built by another process; wait for it."
        build_approximate(index, ApproximateSpec("Flat"))  # another one may be
    build_approximate(index, IVF)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_before_anything_that_it_does_to_a_file(
    write_rows: Callable[..., TeacherIndex], rows: Rows, tmp_path: Path
) -> None:
    indexes = tmp_path / "indexes"
    indexes.mkdir()
    first = write_rows(indexes / "00", rows[:40]).path
    for number in range(1, 40):
        shutil.copytree(first, indexes / f"{number:02}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(KILLED_BUILDS), str(indexes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert 10 < int(done.stdout) < 39  # a lock, a folder of two files, their names, and the lock again
