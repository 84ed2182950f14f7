"""``--ann``: a factory and, after a colon, parameters; nothing that could leave the index's folder or FAISS's sense."""

from __future__ import annotations

import pytest

from aml_edge.approximate.specification import ApproximateSpec, approximate_spec
from aml_edge.errors import UsageError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("IVF4096,PQ64", ApproximateSpec("IVF4096,PQ64")),
        ("IVF16,Flat:nprobe=4", ApproximateSpec("IVF16,Flat", "nprobe=4")),
        ("OPQ64_256,IVF65536(PCA32,Flat),PQ64x4fsr,Refine(SQfp16):nprobe=64,k_factor_rf=2.5",
         ApproximateSpec("OPQ64_256,IVF65536(PCA32,Flat),PQ64x4fsr,Refine(SQfp16)", "nprobe=64,k_factor_rf=2.5")),
        ("HNSW8_2+PQ4", ApproximateSpec("HNSW8_2+PQ4")),
    ],
)  # fmt: skip
def test_reads_what_it_writes(text: str, spec: ApproximateSpec) -> None:
    assert approximate_spec(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize(
    "factory", ["", "../IVF16", "a/b", "IVF16, Flat", "IVF16,Flat\n", ".Flat", "Flat\0", "IVF\\16", "F" * 129, "größe"]
)
def test_a_factory_is_of_harmless_characters(factory: str) -> None:
    with pytest.raises(UsageError) as refused:
        ApproximateSpec(factory)
    assert str(refused.value) == (
        f"`ann` is {factory!r}; it must be a string of FAISS's index factory, of letters, digits and _,()+- alone, "
        "e.g. IVF4096,PQ64."
    )


@pytest.mark.parametrize(
    "part",
    ["nprobe", "nprobe=", "nprobe=0", "nprobe=-1", "nprobe=1e30", "nprobe=2000000000", "=3", "n p=1"],
)
def test_a_parameter_is_a_name_and_a_number_above_zero(part: str) -> None:
    with pytest.raises(UsageError) as refused:
        approximate_spec(f"Flat:{part}")
    assert str(refused.value) == (
        f"`ann` has the parameter {part!r}; it must be NAME=NUMBER, with a number above 0 and at most 1e+09, "
        "e.g. nprobe=16."
    )


@pytest.mark.parametrize(
    ("part", "why"),
    [("verbose=1", "lets FAISS print"), ("ht=40", "compares codes by bits that are in no order here")],
)
def test_parameters_that_could_only_harm_are_refused(part: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        approximate_spec(f"IVF16,PQ8:nprobe=2,{part}")
    assert str(refused.value) == f"`ann` has the parameter {part!r}, which {why}; leave it out."


def test_something_follows_a_colon() -> None:
    with pytest.raises(UsageError, match=r"^`ann` is 'Flat:'; parameters follow the colon, e\.g\. Flat:nprobe=16\.$"):
        approximate_spec("Flat:")


def test_parameters_are_separated_by_one_comma() -> None:
    with pytest.raises(UsageError, match="has the parameter ''"):
        approximate_spec("Flat:nprobe=1,,efSearch=2")
