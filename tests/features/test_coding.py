"""Conv maps in fewer bytes: principal components, 8 and 4 bits; through the files and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn_cli.core.errors import FileFormatError, UsageError
from frcnn_cli.features.coding import Basis, Coding, without_basis


def cells_of(rng, count=400, channels=12, rank=4):
    """Cells that vary in a few directions, and a little in all."""
    directions = rng.normal(size=(rank, channels)) * np.arange(rank, 0, -1)[:, None]
    return (rng.normal(size=(count, rank)) @ directions + 0.01 * rng.normal(size=(count, channels)) + 5).astype("f4")


def slow_basis(cells, count):
    """Principal components by a singular value decomposition of the centred cells."""
    mean = cells.astype(np.float64).mean(axis=0)
    return mean, np.linalg.svd(cells - mean, full_matrices=False)[2][:count]


def test_the_components_are_those_of_a_singular_value_decomposition():
    cells = cells_of(np.random.default_rng(0))
    basis = Basis.fitted([cells[:150], cells[150:]], 4)
    mean, components = slow_basis(cells, 4)
    assert np.abs(basis.mean - mean).max() < 5e-3  # rounded to float16
    assert np.abs(np.abs((basis.components * components).sum(axis=1)) - 1).max() < 1e-3


def test_a_basis_in_json_and_back():
    basis = Basis.fitted([cells_of(np.random.default_rng(1))], 3)
    assert Basis.read(json.loads(json.dumps(basis.described()))) == basis
    assert basis.floor is None
    assert Basis.fitted([np.abs(cells_of(np.random.default_rng(1)))], 3).floor == 0.0


@pytest.mark.parametrize(
    "changed",
    [
        {"components": 4}, {"channels": "12"}, {"floor": "low"}, {"basis": "%%"}, {"basis": "AAAA"}, {"basis": 7},
        {"basis": None}, {"components": 0}, {"components": 10**9, "channels": 10**9},
        {"floor": float("nan")}, {"floor": float("inf")},
    ],
)  # fmt: skip
def test_a_damaged_basis(changed):
    described = Basis.fitted([cells_of(np.random.default_rng(1))], 3).described() | changed
    with pytest.raises(FileFormatError, match=r"f\.h5 is damaged"):
        Coding.of({"dtype": "int8", "pca": described}, "f.h5")


def test_a_coding_that_is_unknown():
    with pytest.raises(FileFormatError, match="int3"):
        Coding.of({"dtype": "int3"}, "f.h5")


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([("float16", True), ("float32", True), ("int8", False), ("int8", True), ("int4", True)]),
    st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_coding_returns_what_it_was_given_up_to_a_step(which, count, number, seed):
    dtype, with_basis = which
    rng = np.random.default_rng(seed)
    cells = cells_of(rng, number)
    basis = Basis.fitted([cells_of(rng)], count) if with_basis else None
    coding = Coding(dtype, basis)
    columns = {"maps": cells, "mirrored": cells[::-1], "map_size": np.array([1, number], np.int32)}
    coded = coding.encoded(columns)
    there = coding.decoded(coded)
    assert set(there) == set(columns)
    assert there["maps"].dtype == np.float32
    # Sums of other rows round differently, so that a value may fall on the other side of a step.
    tolerance = 1e-3 + float(coded.get("steps", np.zeros(1)).sum())
    assert np.abs(there["maps"] - there["mirrored"][::-1]).max() <= tolerance
    # What is lost besides the dropped components: half a step of each value, more only for values of 4 bits that are
    # clipped.
    values = cells if basis is None else (cells - basis.mean) @ basis.components.T
    read = there["maps"] if basis is None else (there["maps"] - basis.mean) @ np.linalg.pinv(basis.components)
    eight = values.shape[1] if dtype == "int8" else -(-values.shape[1] // 8)
    if dtype.startswith("int"):
        assert coded["maps"].dtype == np.int8
        assert coded["maps"].shape[1] == eight + -(-(values.shape[1] - eight) // 2)
        steps = coded["steps"]
        inside = np.abs(values) <= steps * np.where(np.arange(len(steps)) < eight, 127.5, 7.5)
        assert inside[:, :eight].all()
        assert (np.abs(read - values)[inside] <= (steps * 0.51 + 0.02 * (1 + np.abs(values)))[inside]).all()
    else:
        assert np.abs(read - values).max() < 0.02 * (1 + np.abs(values).max())


def test_values_of_four_bits_one_by_one():
    """The packed values, against a loop over bits."""
    rng = np.random.default_rng(3)
    cells = cells_of(rng, 20)
    basis = Basis.fitted([cells], 11)
    coded = Coding("int4", basis).encoded({"maps": cells})
    values = (cells - basis.mean) @ basis.components.T
    for t in range(20):
        raw = coded["maps"][t].astype(np.uint8).tolist()
        for n in range(11):
            step = coded["steps"][n]
            if n < 2:
                expected = int(np.clip(np.rint(values[t, n] / step), -127, 127)) & 255
                assert raw[n] == expected
            else:
                byte = raw[2 + (n - 2) // 2]
                bits = byte & 15 if n % 2 == 0 else byte >> 4
                assert bits == int(np.clip(np.rint(values[t, n] / step), -7, 7)) & 15


def test_a_map_of_one_value():
    for coding in (Coding("int8"), Coding("int4", Basis.fitted([np.ones((5, 3), np.float32)], 2))):
        cells = np.full((6, 3), 1.0, np.float32)
        assert np.allclose(coding.decoded(coding.encoded({"maps": cells}))["maps"], cells, atol=0.01)


def test_without_principal_components_floats_are_stored_as_they_are():
    columns = {"maps": cells_of(np.random.default_rng(0)).astype(np.float16)}
    coding = Coding("float16")
    assert coding.encoded(columns)["maps"] is columns["maps"]
    assert coding.decoded(columns)["maps"] is columns["maps"]
    assert coding.described() == {"dtype": "float16"}


def test_what_is_refused():
    with pytest.raises(UsageError, match="int4 stores principal components only"):
        Coding("int4")
    with pytest.raises(UsageError, match="13 principal components of 12 channels"):
        Basis.fitted([cells_of(np.random.default_rng(0))], 13)
    with pytest.raises(UsageError, match="Use at most 360, which fit into a file"):
        Basis.fitted([np.zeros((2, 1024), np.float32)], 400)
    with pytest.raises(ValueError, match="maps of int8 in a file of float16"):
        Coding("float16").decoded({"maps": np.zeros((2, 3), np.int8)})
    coding = Coding("int8")
    with pytest.raises(ValueError, match="without the steps"):
        coding.decoded({"maps": np.zeros((2, 3), np.int8)})
    with pytest.raises(ValueError, match="3 bytes do not hold 2 values"):
        coding.decoded({"maps": np.zeros((2, 3), np.int8), "steps": np.ones(2, np.float32)})


def test_other_files_record_a_hash_of_the_components():
    basis = Basis.fitted([cells_of(np.random.default_rng(1))], 3)
    shown = without_basis(Coding("int8", basis).described())
    assert len(shown["pca"]["basis"]) == 32
    assert shown["pca"]["components"] == 3
    assert without_basis({"dtype": "float16"}) == {"dtype": "float16"}
