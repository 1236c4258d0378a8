"""The file contract: what is written is read, and what is not whole or not ours is refused in one line."""

import json
import random
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from frcnn_cli.core.errors import FileFormatError, FrcnnError, MismatchError, OutputExistsError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.store.join import join
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import DETECTIONS, FEATURES, FORMATS, PROPOSALS
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.child import parse_in_child
from tests.conftest import same_datasets

IMAGES = [ImageRecord(f"sub/ö{i}.jpg", 10 + i, 20, f"{i:032x}", 1 + i) for i in range(4)]
BOXES = [np.arange(4 * n, dtype=np.float32).reshape(n, 4) for n in (3, 0, 1, 2)]
PROVENANCE = {"source": {"name": "x", "options": {}}, "max_boxes": 5, "min_size": 1.0}


def write(path, order=range(4), provenance=PROVENANCE, force=False):
    with StageWriter(path, PROPOSALS, provenance, force) as out:
        for i in order:
            out.add(IMAGES[i], {"boxes": BOXES[i]})
        out.finish()
    return path


def test_what_is_written_is_read(tmp_path):
    with StageFile(write(tmp_path / "p.h5"), PROPOSALS) as file:
        assert file.images == IMAGES
        assert file.provenance == PROVENANCE
        assert file.counts().tolist() == [3, 0, 1, 2]
        assert file.format is PROPOSALS
        for i, (image, arrays) in enumerate(file):
            assert image == IMAGES[i]
            np.testing.assert_array_equal(arrays["boxes"], BOXES[i])
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5"]


def test_the_order_of_writing_does_not_matter(tmp_path):
    assert same_datasets(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", (2, 0, 3, 1)))


def test_files_are_plain_hdf5_without_variable_length_types(tmp_path):
    with h5py.File(write(tmp_path / "p.h5")) as file:
        assert file["boxes"].shape == (6, 4)
        assert file["offsets"][()].tolist() == [0, 3, 3, 4, 6]
        assert set(file["images"]) == {"key", "height", "width", "digest", "orientation"}
        assert file["checksums/boxes"][()].tolist() == [zlib.crc32(boxes.tobytes()) for boxes in BOXES]
        assert [key.decode() for key in file["images/key"][()]] == [image.key for image in IMAGES]
        found = []
        file.visititems(lambda name, x: found.append(x.dtype) if isinstance(x, h5py.Dataset) else None)
        assert not any(dtype.hasobject for dtype in found)
        assert all(file.attrs.get_id(name).get_type().get_size() for name in file.attrs)
        assert not any(h5py.check_string_dtype(file.attrs.get_id(name).dtype) == (None, None) for name in file.attrs)
        assert file.attrs["format"] == b"frcnn/proposals"


def test_features_keep_maps_and_sizes(tmp_path):
    maps = np.arange(2 * 3 * 5, dtype=np.float16).reshape(6, 5)
    with StageWriter(tmp_path / "f.h5", FEATURES, {"features_id": "x", "dtype": "float16"}) as out:
        out.add(IMAGES[0], {"maps": maps, "map_size": np.array([2, 3], np.int32), "scale": np.array(1.6)})
        out.finish()
    with StageFile(tmp_path / "f.h5", FEATURES) as file:
        arrays = file[0]
        np.testing.assert_array_equal(arrays["maps"], maps)
        assert arrays["map_size"].tolist() == [2, 3]
        assert arrays["scale"] == 1.6


def test_an_existing_file_is_not_overwritten_unless_forced(tmp_path):
    path = write(tmp_path / "p.h5")
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="--force"):
        write(path)
    assert path.read_bytes() == before
    write(path, (0,), force=True)
    with StageFile(path) as file:
        assert len(file) == 1


def stop_after(path, count, provenance=PROVENANCE):
    """What a run leaves behind that ends after `count` images."""
    with StageWriter(path, PROPOSALS, provenance) as out:
        for i in range(count):
            out.add(IMAGES[i], {"boxes": BOXES[i]})
    assert not path.exists()


REFS = [ImageRef(image.key, image.key) for image in IMAGES]
DIGESTS = {image.key: image.digest for image in IMAGES}


def go_on(path, digests=DIGESTS, refs=REFS):
    """Runs on from there; returns which images were still to do."""
    done = []
    with StageWriter(path, PROPOSALS, PROVENANCE) as out:
        for ref in out.missing(refs, digests.get):
            i = REFS.index(ref)
            out.add(IMAGES[i], {"boxes": BOXES[i]})
            done.append(i)
        out.finish()
    return done


def test_a_stopped_run_goes_on_with_what_is_missing(tmp_path):
    stop_after(tmp_path / "p.h5", 3)
    assert go_on(tmp_path / "p.h5") == [3]
    assert same_datasets(tmp_path / "p.h5", write(tmp_path / "whole.h5"))


@pytest.mark.parametrize("lost", [1, 7, 40, 150])
def test_a_torn_journal_loses_only_its_last_image(tmp_path, lost):
    path = tmp_path / "p.h5"
    stop_after(path, 4)
    journal = tmp_path / "p.h5.partial"
    journal.write_bytes(journal.read_bytes()[:-lost])
    assert 3 in go_on(path)
    assert same_datasets(path, write(tmp_path / "whole.h5"))


def test_a_journal_cut_anywhere_ends_in_the_same_file(tmp_path):
    stop_after(tmp_path / "p.h5", 4)
    whole = (tmp_path / "p.h5.partial").read_bytes()
    expected = write(tmp_path / "whole.h5")
    for length in range(0, len(whole), 37):
        path = tmp_path / f"{length}.h5"
        path.with_name(path.name + ".partial").write_bytes(whole[:length])
        go_on(path)
        assert same_datasets(path, expected), length


def test_a_damaged_byte_is_noticed(tmp_path):
    path = tmp_path / "p.h5"
    stop_after(path, 4)
    journal = tmp_path / "p.h5.partial"
    content = bytearray(journal.read_bytes())
    content[-20] ^= 0xFF
    journal.write_bytes(content)
    assert go_on(path) == [3]
    assert same_datasets(path, write(tmp_path / "whole.h5"))


def test_an_image_that_changed_is_done_again(tmp_path):
    stop_after(tmp_path / "p.h5", 3)
    assert go_on(tmp_path / "p.h5", DIGESTS | {IMAGES[1].key: "other"}) == [1, 3]


def test_images_that_are_no_longer_asked_for_are_left_out(tmp_path):
    stop_after(tmp_path / "p.h5", 3)
    assert go_on(tmp_path / "p.h5", refs=REFS[2:]) == [3]
    with StageFile(tmp_path / "p.h5") as file:
        assert [image.key for image in file.images] == [IMAGES[2].key, IMAGES[3].key]


def test_what_an_earlier_run_of_other_images_left_is_not_mixed_in(tmp_path):
    stop_after(tmp_path / "p.h5", 2)
    with StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE) as out:
        assert out.is_done(IMAGES[1])
        np.testing.assert_array_equal(out.read(IMAGES[1].key)["boxes"], BOXES[1])
        out.add(IMAGES[3], {"boxes": BOXES[3]})
        out.finish()
    with StageFile(tmp_path / "p.h5") as file:
        assert file.images == [IMAGES[1], IMAGES[3]]


def test_unfinished_work_of_other_options_is_not_thrown_away_unless_forced(tmp_path):
    stop_after(tmp_path / "p.h5", 3, {"max_boxes": 7})
    with pytest.raises(FrcnnError, match="3 finished images of a run with other options.*--force to discard"):
        StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE)
    with StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE, force=True) as out:
        assert len(out.missing(REFS, DIGESTS.get)) == 4


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    journal = tmp_path / "p.h5.partial"
    journal.write_text("my notes")
    with pytest.raises(FrcnnError, match="exists and was not written by frcnn"):
        StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE, force=True)
    assert journal.read_text() == "my notes"


def test_unfinished_work_is_not_written_through_a_link_or_over_a_file_of_others(tmp_path):
    target = tmp_path / "mine"
    target.write_text("mine")
    (tmp_path / "p.h5.partial").symlink_to(target)
    with pytest.raises(FrcnnError, match="symbolic link is not followed"):
        write(tmp_path / "p.h5")
    features = {"features_id": "x", "dtype": "float16"}
    rows = tmp_path / "f.h5.partial-rows"
    for content in (b"mine", b"\x89HDF\r\n\x1a\n and so on"):
        rows.write_bytes(content)
        with pytest.raises(FrcnnError, match="partial-rows exists and was not written by frcnn"):
            StageWriter(tmp_path / "f.h5", FEATURES, features)
        assert rows.read_bytes() == content
    rows.unlink()
    rows.symlink_to(target)
    with pytest.raises(FrcnnError, match="symbolic link is not followed"):
        StageWriter(tmp_path / "f.h5", FEATURES, features)
    assert target.read_text() == "mine"


def test_an_optional_column_is_for_all_images_or_for_none(tmp_path):
    ones = np.ones(3, np.float32)
    with StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE) as out:
        out.add(IMAGES[0], {"boxes": BOXES[0], "scores": ones})
        out.add(IMAGES[1], {"boxes": BOXES[1]})  # no boxes, so no scores are missing
        out.finish()
    with StageFile(tmp_path / "p.h5") as file:
        np.testing.assert_array_equal(file[0]["scores"], ones)
        assert file[1]["scores"].shape == (0,)
    with StageWriter(tmp_path / "q.h5", PROPOSALS, PROVENANCE) as out:
        out.add(IMAGES[0], {"boxes": BOXES[0], "scores": ones})
        out.add(IMAGES[2], {"boxes": BOXES[2]})
        with pytest.raises(FileFormatError, match="has no scores, but others have"):
            out.finish()


def test_values_that_are_not_finite_are_refused_where_they_lie(tmp_path):
    boxes = np.full((1, 4), np.nan, np.float32)
    with StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE) as out:
        out.add(IMAGES[0], {"boxes": boxes})
        out.finish()
    with StageFile(tmp_path / "p.h5") as file, pytest.raises(FileFormatError, match=r"p\.h5 .*boxes of image .* NaN"):
        file[0]


def test_two_writers_of_one_file_are_kept_apart(tmp_path):
    first = StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE)
    with first, pytest.raises(FrcnnError, match="another frcnn is writing"):
        StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE)


def test_nothing_done_writes_nothing(tmp_path):
    with (
        StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE) as out,
        pytest.raises(FrcnnError, match="all images failed"),
    ):
        out.finish()
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FrcnnError, match="folder"):
        StageWriter(tmp_path / "file" / "p.h5", PROPOSALS, {})
    with pytest.raises(FrcnnError, match="is a folder"):
        StageWriter(tmp_path, PROPOSALS, {})


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"boxes": np.zeros((1, 4))},
        {"boxes": np.zeros((1, 5), np.float32)},
        {"boxes": np.zeros((2, 4), np.float32), "scores": np.zeros(1, np.float32)},
        {"boxes": np.zeros((1, 4), np.float32), "extra": np.zeros(1)},
    ],
)
def test_arrays_that_do_not_fit_the_format_are_refused(tmp_path, arrays):
    with (
        StageWriter(tmp_path / "p.h5", PROPOSALS, {}) as out,
        pytest.raises(ValueError, match=r"has no boxes|does not match|differ in length|no column"),
    ):
        out.add(IMAGES[0], arrays)


# What people hand to a reader that is not a whole file of ours.


def edited(path, edit):
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replace(name, data):
    def edit(file):
        del file[name]
        file[name] = data

    return edit


def attribute(name, value):
    return lambda file: file.attrs.create(name, np.bytes_(value))


def external(file):
    del file["boxes"]
    file["boxes"] = h5py.ExternalLink("/etc/other.h5", "/boxes")


def raw_elsewhere(file):
    del file["boxes"]
    file.create_dataset("boxes", (6, 4), "f4", external=[("/etc/hostname", 0, 96)])


def virtual(file):
    del file["boxes"]
    layout = h5py.VirtualLayout((6, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "boxes", (6, 4))
    file.create_virtual_dataset("boxes", layout)


def packed(file):
    del file["boxes"]
    file.create_dataset("boxes", data=np.zeros((6, 4), np.float32), compression="gzip", chunks=(6, 4))


def bomb(file):
    del file["offsets"]
    file.create_dataset("offsets", data=np.zeros(10**6, np.int64), compression="gzip")


def huge(file):
    del file["boxes"], file["offsets"]
    file.create_dataset("boxes", (10**12, 4), "f4", chunks=(1024, 4))
    file["offsets"] = np.array([0, 0, 0, 0, 10**12])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (attribute("format_version", "3.0"), "newer frcnn"),
        (attribute("format", "frcnn/dreams"), "newer frcnn"),
        (attribute("format", "other"), "not written by frcnn"),
        (attribute("format_version", "x"), "damaged"),
        (attribute("provenance", "{"), "damaged"),
        (attribute("provenance", "[]"), "provenance"),
        (attribute("provenance", '{"source": 1}'), "lacks max_boxes"),
        (replace("offsets", np.array([0, 3, 3, 4, 5])), "boxes is float32"),
        (replace("offsets", np.array([0, 3, 2, 4, 6])), "offsets"),
        (replace("offsets", np.array([0, 6])), "offsets"),
        (replace("offsets", np.array([[0, 6]])), "offsets"),
        (replace("boxes", np.zeros((6, 4))), "float64"),
        (replace("boxes", np.zeros((6, 5), np.float32)), "boxes"),
        (replace("images/height", np.zeros(2, np.int32)), "differ in length"),
        (replace("images/key", np.array([b"a", b"a", b"b", b"c"])), "share a key"),
        (replace("images/key", np.array([b"\xff", b"a", b"b", b"c"])), "damaged"),
        (external, "boxes is missing"),
        (raw_elsewhere, "not a dataset of this file"),
        (virtual, "not a dataset of this file"),
        (huge, "claims 16,000,000,000,000 bytes"),
        (packed, "boxes claims 96 bytes"),
        (bomb, "offsets claims 8,000,000 bytes"),
        (lambda file: file.__delitem__("images"), "images/key is missing"),
        (replace("images/height", np.arange(10, 14, dtype=np.int32) + 1), "description does not match its checksum"),
        (attribute("provenance", json.dumps(PROVENANCE | {"max_boxes": 6})), "description does not match its checksum"),
        (attribute("tool_version", "9"), "description does not match its checksum"),
        (replace("checksums/boxes", np.zeros(4, np.uint32)), "description does not match its checksum"),
        (lambda file: file.__delitem__("checksums"), "checksums are missing"),
        (lambda file: file.attrs.__delitem__("description_checksum"), "damaged"),
        (lambda file: file.attrs.__setitem__("provenance", "{}"), "provenance has a variable length"),
        (lambda file: file.attrs.__setitem__("format_version", "2.2"), "variable-length string"),
        (lambda file: file.attrs.create("provenance", np.array([b"{}", b"{}"])), "provenance is not a string"),
        (lambda file: file.attrs.create("provenance", 1), "provenance is not a string"),
        (lambda file: [file.attrs.create(f"a{i}", 1) for i in range(100)], "it has 105 attributes"),
    ],
)
def test_what_is_not_whole_or_not_ours_is_refused(tmp_path, edit, words):
    path = edited(write(tmp_path / "p.h5"), edit)
    with pytest.raises(FileFormatError, match=words) as caught:
        StageFile(path)
    assert "p.h5" in str(caught.value)


def test_other_stages_truncated_files_and_no_files(tmp_path):
    path = write(tmp_path / "p.h5")
    with pytest.raises(FileFormatError, match="is a proposals file, not a detections file"):
        StageFile(path, DETECTIONS)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FileFormatError, match="truncated"):
        StageFile(path)
    path.write_bytes(b"hello")
    with pytest.raises(FileFormatError, match="not an HDF5 file"):
        StageFile(path)
    with pytest.raises(FrcnnError, match="no such file"):
        StageFile(tmp_path / "none.h5")


def test_a_newer_minor_version_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("frcnn_cli.store.writer.FORMAT_VERSION", (2, 7))
    with StageFile(write(tmp_path / "p.h5")) as file:
        assert file.format_version == "2.7"
        assert len(file) == 4


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path, monkeypatch):
    import errno

    from frcnn_cli.store import writer

    stop_after(tmp_path / "p.h5", 3)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writer.StageWriter, "_write", full)
        with pytest.raises(FrcnnError, match="no space left.*run the same command again"):
            go_on(tmp_path / "p.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5.partial"]
    assert go_on(tmp_path / "p.h5") == []
    assert same_datasets(tmp_path / "p.h5", write(tmp_path / "whole.h5"))


def test_join_is_by_key_checked_by_content():
    renamed = [ImageRecord("a", 1, 1, "d1"), ImageRecord("b", 1, 1, "d0")]
    have = [ImageRecord("x", 1, 1, "d0"), ImageRecord("a", 1, 1, "d1")]
    assert join(renamed, have, "wanted", "have") == [1, 0]
    with pytest.raises(MismatchError, match="'a' of have differs in content"):
        join([ImageRecord("a", 1, 1, "d9")], have, "wanted", "have")
    absent = ImageRecord("p", 1, 1, "d8")
    with pytest.raises(MismatchError, match="have lacks 1 of the 2 images of wanted, e.g. 'p'"):
        join([absent, have[0]], have, "wanted", "have")
    with pytest.raises(MismatchError, match="have holds none of the 1 images of wanted, e.g. 'p'.*--split"):
        join([absent], have, "wanted", "have")


def test_formats_are_known_by_name():
    assert set(FORMATS) == {"proposals", "features", "scores", "detections", "vectors"}


# Damage that HDF5 does not notice, and files of version 1, which had no checksums and held text of variable length.


def outcome(path):
    """What a reader of the whole file gets: the content, or the error."""
    try:
        with StageFile(path) as file:
            return repr((file.images, file.provenance, file.tool_version, [a for _, a in file]))
    except FileFormatError as error:
        return error


def test_damage_to_the_boxes_of_one_image_is_named(tmp_path):
    def change(file):
        file["boxes"][3, 0] += 1

    with StageFile(edited(write(tmp_path / "p.h5"), change)) as file:
        assert file[0]["boxes"].shape == (3, 4)
        with pytest.raises(FileFormatError, match=r"p\.h5 is damaged \(boxes of image 'sub/ö2.jpg'"):
            file[2]


def test_a_changed_bit_is_noticed_or_changes_nothing(tmp_path):
    path = write(tmp_path / "p.h5")
    whole, expected, noticed = path.read_bytes(), outcome(path), 0
    generator = random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        found = outcome(path)
        noticed += isinstance(found, FileFormatError)
        assert found == expected or (isinstance(found, FileFormatError) and str(path) in str(found))
    assert noticed > 100  # the other bits lie in space that HDF5 does not use


def test_a_long_provenance_is_kept(tmp_path):
    long = PROVENANCE | {"note": "ö" * 100_000}
    with StageFile(write(tmp_path / "p.h5", provenance=long)) as file:
        assert file.provenance == long


def as_version_1(path: Path) -> Path:
    """Turns a file into what the versions before wrote."""
    with h5py.File(path, "r+", libver="v110") as file:
        del file["checksums"], file.attrs["description_checksum"]
        for name in ("format", "tool_version", "provenance"):
            text = file.attrs[name].decode()
            del file.attrs[name]
            file.attrs[name] = text
        del file.attrs["format_version"]
        file.attrs["format_version"] = "1.0"
    return path


def test_files_of_version_1_are_read(tmp_path):
    with StageFile(as_version_1(write(tmp_path / "p.h5"))) as file:
        assert (file.format_version, file.provenance, file.has_checksums) == ("1.0", PROVENANCE, False)
        np.testing.assert_array_equal(file[0]["boxes"], BOXES[0])


def test_a_file_of_version_1_that_hdf5_reads_for_ever_is_refused(tmp_path, monkeypatch):
    """An object of size 0 in the heap of texts keeps HDF5's library in a loop."""
    monkeypatch.setattr("frcnn_cli.system.child._cpu_seconds", lambda path: 2)
    path = as_version_1(write(tmp_path / "p.h5"))
    raw = bytearray(path.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap + 16 + 8 : heap + 16 + 16] = bytes(8)  # the size of the first object, after the header of 16 bytes
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match=r"p\.h5 is damaged"):
        StageFile(path)


def test_a_file_of_the_name_of_a_module_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    """`python -m` would prefer it."""
    path = as_version_1(write(tmp_path / "p.h5"))
    for name in ("h5py", "random", "queue"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w'); raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    with StageFile(path) as file:
        assert file.provenance == PROVENANCE
    assert not (tmp_path / "ran").exists()


def test_a_child_process_that_cannot_work_is_not_called_damage(tmp_path):
    path = write(tmp_path / "p.h5")
    with pytest.raises(RuntimeError, match="No module named"):
        parse_in_child("frcnn_cli.store.nothing", path)


def test_a_checksum_of_another_type_is_refused(tmp_path):
    for value in ("text", np.zeros(2, np.uint32), 1.5):
        path = edited(
            write(tmp_path / "p.h5", force=True), lambda file, v=value: file.attrs.create("description_checksum", v)
        )
        with pytest.raises(FileFormatError, match="checksum is not a number"):
            StageFile(path)


def test_a_journal_that_another_process_has_just_finished_is_opened_anew(tmp_path, monkeypatch):
    """It is deleted between opening and locking it."""
    from frcnn_cli.store import journal

    lock, deleted = journal.try_lock, []

    def late(descriptor):
        if not deleted:
            deleted.append((tmp_path / "p.h5.partial").unlink())
        return lock(descriptor)

    monkeypatch.setattr(journal, "try_lock", late)
    stop_after(tmp_path / "p.h5", 3)
    assert go_on(tmp_path / "p.h5") == [3]


def test_damage_to_unfinished_work_is_reported(tmp_path):
    from frcnn_cli.store.journal import summary

    stop_after(tmp_path / "p.h5", 4)
    path = tmp_path / "p.h5.partial"
    assert summary(path)[1:] == (4, False)
    raw = bytearray(path.read_bytes())
    raw[len(raw) * 2 // 3] ^= 1
    path.write_bytes(raw)
    _, finished, damaged = summary(path)
    assert finished < 4
    assert damaged
