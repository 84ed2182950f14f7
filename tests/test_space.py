"""The contract: what makes two spaces the same, what refuses them, and a fingerprint that must never change."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_edge.errors import SpaceMismatchError, UsageError
from aml_edge.space import EmbeddingSpace, require_same_space, untrained_space

SPACE = EmbeddingSpace("resnet101-gem", "a" * 64, 2048)
WHITENED = replace(SPACE, whitening_sha256="b" * 64)
OTHERS = {
    "teacher": replace(SPACE, teacher="vgg16-gem"),
    "weights_sha256": replace(SPACE, weights_sha256="c" * 64),
    "dimension": replace(SPACE, dimension=512),
    "whitening_sha256": WHITENED,
}

spaces = st.builds(
    EmbeddingSpace,
    teacher=st.text(min_size=1),
    weights_sha256=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    dimension=st.integers(1, 1 << 40),
    whitening_sha256=st.none() | st.from_regex(r"\A[0-9a-f]{64}\Z"),
)


def test_fingerprint_is_the_hash_of_the_canonical_json() -> None:
    canonical = (
        '{"dimension":2048,"normalisation":"l2","teacher":"resnet101-gem",'
        f'"weights_sha256":"{"a" * 64}","whitening_sha256":null}}'
    )
    assert SPACE.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()


def test_fingerprint_of_files_in_the_world_stays() -> None:
    # printed once with sha256sum over the line above; another value would orphan every index and artifact
    assert SPACE.fingerprint == "a31549c352cd959686290a7c0faf6bdb9539007b5c58bb25f38cb4c62e2db449"


def test_a_name_beyond_ascii_is_hashed_as_utf8() -> None:
    space = replace(SPACE, teacher="résnet")
    canonical = f'{{"dimension":2048,"normalisation":"l2","teacher":"résnet","weights_sha256":"{"a" * 64}",'
    expected = hashlib.sha256((canonical + '"whitening_sha256":null}').encode("utf-8")).hexdigest()
    assert space.fingerprint == expected


@pytest.mark.parametrize("field", OTHERS)
def test_every_field_changes_the_fingerprint(field: str) -> None:
    assert OTHERS[field].fingerprint != SPACE.fingerprint


def test_all_fields_that_can_differ_are_tried_above() -> None:
    assert {field.name for field in fields(EmbeddingSpace)} == {*OTHERS, "normalisation"}


@given(spaces)
def test_a_record_that_is_read_again_is_the_same_space(space: EmbeddingSpace) -> None:
    again = EmbeddingSpace.from_json(space.to_json())
    assert again == space
    assert again.fingerprint == space.fingerprint


def test_a_space_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SPACE.dimension = 3  # type: ignore[misc]


@pytest.mark.parametrize("field", OTHERS)
def test_another_space_is_refused_with_both_sides_named(field: str) -> None:
    with pytest.raises(SpaceMismatchError) as refusal:
        require_same_space(SPACE, OTHERS[field], left_name="student 'demo'", right_name="the index landmarks")
    assert str(refusal.value) == (
        f"student 'demo' lives in {SPACE.describe()}, but the index landmarks in {OTHERS[field].describe()} "
        f"(different {field}); compare only what was made for the same teacher."
    )


def test_all_differences_are_named() -> None:
    other = replace(WHITENED, dimension=512)
    with pytest.raises(SpaceMismatchError, match=r"\(different dimension, whitening_sha256\)"):
        require_same_space(SPACE, other, left_name="a", right_name="b")


def test_the_same_space_passes() -> None:
    require_same_space(SPACE, replace(SPACE), left_name="a", right_name="b")


def test_description_tells_whitenings_apart() -> None:
    assert SPACE.describe() == "resnet101-gem (aaaaaaaa), 2048-D, no whitening"
    assert WHITENED.describe() == "resnet101-gem (aaaaaaaa), 2048-D, whitening bbbbbbbb"


def test_whitening_keeps_the_teacher_and_other_weights_do_not() -> None:
    assert SPACE.same_teacher(replace(WHITENED, dimension=512))
    assert not SPACE.same_teacher(OTHERS["weights_sha256"])
    assert not SPACE.same_teacher(OTHERS["teacher"])


def test_an_untrained_network_shares_its_space_with_no_other() -> None:
    first, second = untrained_space(64, "a" * 64), untrained_space(64, "b" * 64)
    assert first.is_untrained and not SPACE.is_untrained
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": ""}, "`teacher` is empty; a space is named for its teacher."),
        ({"dimension": 0}, "`dimension` is 0; an embedding has at least one value."),
        ({"weights_sha256": "abc"}, "`weights_sha256` is 'abc'; it must be 64 lower-case hex digits."),
        ({"weights_sha256": "A" * 64}, f"`weights_sha256` is '{'A' * 64}'; it must be 64 lower-case hex digits."),
        ({"whitening_sha256": ""}, "`whitening_sha256` is ''; it must be 64 lower-case hex digits."),
        ({"normalisation": "l1"}, "`normalisation` is 'l1'; only 'l2' exists."),
    ],
)
def test_a_space_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        replace(SPACE, **change)  # type: ignore[arg-type]
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("field", "value"),
    [("teacher", 3), ("dimension", "2048"), ("dimension", 2.0), ("dimension", True), ("whitening_sha256", 0)],
)
def test_a_record_with_a_wrong_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=r"a field of the space .* has the wrong type"):
        EmbeddingSpace.from_json({**SPACE.to_json(), field: value})


def test_a_record_with_other_fields_is_refused() -> None:
    record = SPACE.to_json()
    with pytest.raises(UsageError, match=r"a space has the fields .*, this one has \['dimension'"):
        EmbeddingSpace.from_json({name: value for name, value in record.items() if name != "teacher"})
    with pytest.raises(UsageError, match="'colour'"):
        EmbeddingSpace.from_json({**record, "colour": "red"})
