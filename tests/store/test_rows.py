"""The wide column is written once, where it stays; and however the run went, the file is the same."""

import zlib
from itertools import permutations

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frcnn_cli.core.checksum import checksum
from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.rows import HEAD, Rows
from frcnn_cli.store.schema import FEATURES
from frcnn_cli.store.writer import StageWriter
from tests.conftest import same_datasets

PROVENANCE = {"features_id": "x", "dtype": "float16"}
IMAGES = [ImageRecord(f"{i}.jpg", 10, 20, f"{i:032x}", 1) for i in range(4)]
REFS = [ImageRef(image.key, image.key) for image in IMAGES]
DIGESTS = {image.key: image.digest for image in IMAGES}


def columns(i):
    """Maps of 3, 4, 5 and 6 x 40 cells: 7 kB each or more."""
    maps = np.random.default_rng(i).standard_normal(((3 + i) * 40, 30)).astype(np.float16)
    return {"maps": maps, "map_size": np.array([3 + i, 40], np.int32), "scale": np.array(1.0 + i)}


def begin(path, order):
    with StageWriter(path, FEATURES, PROVENANCE) as out:
        for i in order:
            out.add(IMAGES[i], columns(i))


def go_on(path):
    done = []
    with StageWriter(path, FEATURES, PROVENANCE) as out:
        for ref in out.missing(REFS, DIGESTS.get):
            i = REFS.index(ref)
            out.add(IMAGES[i], columns(i))
            done.append(i)
        out.finish()
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "f.h5"
    assert go_on(path) == [0, 1, 2, 3]
    return path


def test_rows_lie_where_they_were_written(whole):
    with h5py.File(whole) as file:
        assert file["maps"].id.get_offset() == HEAD
    with StageFile(whole, FEATURES) as file:
        for i, (image, arrays) in enumerate(file):
            assert image == IMAGES[i]
            for name, array in columns(i).items():
                np.testing.assert_array_equal(arrays[name], array)
    assert [path.name for path in whole.parent.iterdir()] == ["f.h5"]


def test_nothing_is_written_twice(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(h5py.Dataset, "__setitem__", lambda dataset, *_: written.append(dataset.name))
    go_on(tmp_path / "f.h5")
    assert set(written) == {"/map_size", "/scale"}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order_ends_in_the_same_file(tmp_path, whole, order):
    begin(tmp_path / "f.h5", order)
    assert go_on(tmp_path / "f.h5") == []
    assert same_datasets(tmp_path / "f.h5", whole)


@pytest.mark.parametrize("lost", [1, 5_000, 9_000, 30_000, 60_000])
def test_rows_that_are_torn_off_are_done_again(tmp_path, whole, lost):
    path = tmp_path / "f.h5"
    begin(path, range(4))
    rows = tmp_path / "f.h5.partial-rows"
    rows.write_bytes(rows.read_bytes()[:-lost])
    done = go_on(path)
    assert done == [0, 1, 2, 3][-len(done) :]
    assert done
    assert same_datasets(path, whole)


@pytest.mark.parametrize("i", range(4))
def test_pages_that_were_lost_are_noticed(tmp_path, whole, i):
    path = tmp_path / "f.h5"
    begin(path, range(4))
    rows = tmp_path / "f.h5.partial-rows"
    content = bytearray(rows.read_bytes())
    at = HEAD + sum(columns(j)["maps"].nbytes for j in range(i))
    content[at : at + 512] = bytes(512)
    rows.write_bytes(content)
    assert go_on(path) == [i]
    assert same_datasets(path, whole)


def test_pages_that_were_swapped_are_noticed(tmp_path, whole):
    path = tmp_path / "f.h5"
    begin(path, range(4))
    rows = tmp_path / "f.h5.partial-rows"
    content = bytearray(rows.read_bytes())
    first, second = slice(HEAD, HEAD + 512), slice(HEAD + 512, HEAD + 1024)
    content[first], content[second] = content[second], content[first]
    rows.write_bytes(content)
    assert go_on(path) == [0]
    assert same_datasets(path, whole)


def test_rows_without_their_journal_and_a_journal_without_its_rows(tmp_path, whole):
    begin(tmp_path / "a.h5", range(4))
    (tmp_path / "a.h5.partial").unlink()
    assert go_on(tmp_path / "a.h5") == [0, 1, 2, 3]
    begin(tmp_path / "b.h5", range(4))
    (tmp_path / "b.h5.partial-rows").unlink()
    assert go_on(tmp_path / "b.h5") == [0, 1, 2, 3]
    assert same_datasets(tmp_path / "a.h5", whole)
    assert same_datasets(tmp_path / "b.h5", whole)


def test_killed_while_the_file_is_completed(tmp_path, whole, monkeypatch):
    """The head is there and half of the tail, then nothing: as a kill leaves it."""
    path = tmp_path / "f.h5"
    begin(path, range(4))
    put = Rows._put

    def killed(self, raw, offset):
        if offset > HEAD:
            put(self, raw[: len(raw) // 2], offset)
            raise KeyboardInterrupt
        put(self, raw, offset)

    with monkeypatch.context() as patched:
        patched.setattr(Rows, "_put", killed)
        with pytest.raises(KeyboardInterrupt):
            go_on(path)
    assert not path.exists()
    assert (tmp_path / "f.h5.partial-rows").read_bytes()[:4] == b"\x89HDF"
    assert go_on(path) == []
    assert same_datasets(path, whole)


@pytest.mark.parametrize("dropped", [(3,), (2, 3), (0,), (1, 2)])
def test_images_that_are_no_longer_asked_for(tmp_path, dropped):
    """Their rows lie in the file, before or behind the others."""
    kept = [i for i in range(4) if i not in dropped]
    path = tmp_path / "f.h5"
    begin(path, range(4))
    with StageWriter(path, FEATURES, PROVENANCE) as out:
        assert out.missing([REFS[i] for i in kept], DIGESTS.get) == []
        assert out.finish() == len(kept)
    with StageFile(path, FEATURES) as file:
        assert [image.key for image in file.images] == [f"{i}.jpg" for i in kept]
        for at, i in enumerate(kept):
            np.testing.assert_array_equal(file[at]["maps"], columns(i)["maps"])
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_an_image_that_changed_and_cannot_be_read_any_more(tmp_path):
    path = tmp_path / "f.h5"
    begin(path, range(4))
    with StageWriter(path, FEATURES, PROVENANCE) as out:
        assert [ref.key for ref in out.missing(REFS, (DIGESTS | {"3.jpg": "other"}).get)] == ["3.jpg"]
        assert out.finish() == 3
    with StageFile(path, FEATURES) as file:
        np.testing.assert_array_equal(file[2]["maps"], columns(2)["maps"])


def test_a_journal_of_another_version(tmp_path):
    path = tmp_path / "f.h5"
    (tmp_path / "f.h5.partial").write_bytes(b"frcnn-journal-1\n and so on")
    with pytest.raises(FrcnnError, match="another version.*--force"):
        StageWriter(path, FEATURES, PROVENANCE)
    with StageWriter(path, FEATURES, PROVENANCE, force=True) as out:
        out.add(IMAGES[0], columns(0))
        out.finish()


def test_few_rows_and_no_rows(tmp_path):
    """Too small to be laid where they are: written once more."""
    path = tmp_path / "f.h5"
    small = {"maps": np.ones((2, 3), np.float16), "map_size": np.array([1, 2], np.int32), "scale": np.array(1.0)}
    with StageWriter(path, FEATURES, PROVENANCE) as out:
        out.add(IMAGES[0], small)
        out.finish()
    with StageFile(path, FEATURES) as file:
        np.testing.assert_array_equal(file[0]["maps"], small["maps"])
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_changed_byte_changes_the_checksum(raw, data):
    values = np.frombuffer(raw, np.uint8)
    assert checksum(values) == zlib.crc32(raw)
    other = values.copy()
    at = data.draw(st.integers(0, len(raw) - 1))
    other[at] ^= data.draw(st.integers(1, 255))
    assert checksum(other) != checksum(values)


def test_the_checksum_is_of_the_values_in_their_order():
    values = np.arange(24, dtype=np.float16).reshape(4, 6)
    assert checksum(values[:, ::2]) == checksum(values[:, ::2].copy())
    assert checksum(values.T) != checksum(values)
    assert checksum(values[[1, 0, 2, 3]]) != checksum(values)
    assert checksum(values[:0]) == 0


def test_rows_of_another_version_are_discarded_with_their_journal(tmp_path, whole):
    """They had no mark."""
    (tmp_path / "f.h5.partial").write_bytes(b"frcnn-journal-2\n and so on")
    (tmp_path / "f.h5.partial-rows").write_bytes(bytes(HEAD) + b"rows")
    with StageWriter(tmp_path / "f.h5", FEATURES, PROVENANCE, force=True) as out:
        for i in range(4):
            out.add(IMAGES[i], columns(i))
        out.finish()
    assert same_datasets(tmp_path / "f.h5", whole)


def test_damaged_rows_are_reported(tmp_path):
    from frcnn_cli.store.journal import summary

    begin(tmp_path / "f.h5", range(4))
    assert summary(tmp_path / "f.h5.partial")[1:] == (4, False)
    rows = tmp_path / "f.h5.partial-rows"
    raw = bytearray(rows.read_bytes())
    raw[-1] ^= 1
    rows.write_bytes(raw)
    assert summary(tmp_path / "f.h5.partial")[1:] == (3, True)
    rows.unlink()
    assert summary(tmp_path / "f.h5.partial")[1:] == (0, True)
