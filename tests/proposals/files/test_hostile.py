"""Files made to harm: no code runs, no memory is exhausted, and the user reads one clear line."""

import os
import pickle
import resource
import struct
import zipfile
import zlib
from contextlib import suppress

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.proposals.box_files.reading import read_box_file
from frcnn_cli.proposals.box_files.unpickle import ALLOWED
from tests.conftest import assert_one_line_error, run_frcnn

LENGTH = 1 << 33  # more than the tests may take


class Calls:
    """A pickle that calls `function(*arguments)` where it is loaded."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def opcodes(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module, attribute):
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def shared(depth):
    """A list of ten of a list of ten ..., in a few bytes."""
    value = [0.0, 0.0, 1.0, 1.0]
    for _ in range(depth):
        value = [value] * 10
    return value


def deep_tuple(depth):
    """Opcodes of a tuple that holds one tuple twice, and that one another ...: hashing it takes 2**depth steps."""
    return b"K\x01K\x02\x86" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(depth))


PICKLES = {
    "a command": pickle.dumps(Calls(os.system, "touch frcnn-was-here")),
    "a file": pickle.dumps({"a": Calls(open, "frcnn-was-here", "w")}),
    "eval": opcodes(name("builtins", "eval"), b"(", b"\x8c\x011", b"tR"),
    "a module's module": opcodes(b"\x8c\x05numpy\x8c\x0cos.path.join\x93"),
    "numpy's own loader": opcodes(name("numpy", "load"), b"(\x8c\x01xtR"),
    "numpy's memmap": opcodes(name("numpy", "memmap"), b"(\x8c\x01xtR"),
    "state of a function": opcodes(name("_codecs", "encode"), b"}\x8c\x01aK\x01sb"),
    "defaults of a function": opcodes(name("_codecs", "encode"), b"N}\x8c\x0c__defaults__)s\x86b"),
    "state of a class": opcodes(name("collections", "OrderedDict"), b"}\x8c\x01aK\x01sb"),
    "a huge memo slot": opcodes(b"K\x01r" + struct.pack("<I", 0x7FFFFFFF)),
    "a huge bytearray": opcodes(b"\x96" + struct.pack("<Q", LENGTH)),
    "huge bytes": opcodes(b"\x8e" + struct.pack("<Q", LENGTH)),
    "a huge frame": opcodes(b"\x95" + struct.pack("<Q", LENGTH)),
    "a huge array by shape": opcodes(
        b"}\x8c\x01a", name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"),
        b"J\xff\xff\xff\x7f\x85\x8c\x01b\x87Rs",
    ),
    "an extension": opcodes(b"\x82\x01"),
    "a persistent id": opcodes(b"Pid\n"),
    "deep nesting": opcodes(b"]" * 50_000 + b"a" * 49_999),
    "the same list a million times": pickle.dumps({"a": shared(7)}),
    "lists forty deep": pickle.dumps({"a": [shared(40)]}),
    "scores forty deep": pickle.dumps({"boxes": [[[0, 0, 1, 1]]], "scores": [shared(40)], "ids": [1]}),
    "a key that takes for ever to hash": opcodes(b"}", deep_tuple(60), b"K\x01s"),
    "a set of such keys": opcodes(b"\x8f(", deep_tuple(60), b"\x90"),
    "an ordered dict of such keys": opcodes(
        name("collections", "OrderedDict"), b"](", deep_tuple(60), b"K\x01\x86e\x85R"
    ),
    "an array of no elements and any length": pickle.dumps({"boxes": np.zeros((10**11, 0)), "ids": [1]}),
    "a number of many digits": pickle.dumps({10**5000: "no boxes"}),
    "words for scores": pickle.dumps({"boxes": [[[0, 0, 1, 1]]], "scores": [["a"]], "ids": [1]}),
    "numbers of an odd type": pickle.dumps({"a": np.zeros((1, 4))}).replace(b"f8", b"f1"),
    "a name that is none": pickle.dumps({"": np.zeros((1, 4))}),
    "a dict that is its own key's value": opcodes(b"}q\x00\x8c\x01ah\x00s"),
    "nothing": b"",
    "words": b"hello, I am no pickle",
    "half of one": pickle.dumps({"a": np.zeros((9, 4))})[:-60],
}  # fmt: skip


@pytest.fixture(autouse=True)
def bounded(tmp_path, monkeypatch):
    """In an empty folder, with 3 GB of room: an allocation that a file talks us into fails the test."""
    monkeypatch.chdir(tmp_path)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert not (tmp_path / "frcnn-was-here").exists()


def read_all(path):
    file = read_box_file(path)
    return [file.read(i) for i in range(file.count)]


def assert_refused(path):
    with pytest.raises(FrcnnError) as error:
        read_all(path)
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)
    assert "MemoryError" not in str(error.value)


@pytest.mark.parametrize("what", PICKLES)
def test_pickles(tmp_path, what):
    path = tmp_path / "b.pkl"
    path.write_bytes(PICKLES[what])
    before = {
        key: (function.__dict__.copy(), getattr(function, "__defaults__", None)) for key, function in ALLOWED.items()
    }
    assert_refused(path)
    for key, function in ALLOWED.items():
        assert (function.__dict__, getattr(function, "__defaults__", None)) == before[key]


def matrix(kind, dims, data):
    """A MATLAB array by hand: class, dimensions as claimed, and what follows."""
    flags = struct.pack("<IIII", 6, 8, kind, 0)
    shape = struct.pack("<II", 5, 4 * len(dims)) + struct.pack(f"<{len(dims)}i", *dims)
    shape += bytes(-len(shape) % 8)
    body = flags + shape + struct.pack("<HH4s", 1, 4, b"boxe") + data
    return struct.pack("<II", 14, len(body)) + body


def packed(content):
    stream = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(stream)) + stream


def nested_structs(depth):
    content = b""
    for _ in range(depth):
        if len(content) > 1 << 20:
            break
        content = matrix(2, (1, 1), struct.pack("<HHI", 5, 4, 8) + struct.pack("<II8s", 1, 8, b"x") + content)
    return content


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
MATS = {
    "a bomb": HEAD + packed(bytes(300 << 20)),
    "a huge cell array": HEAD + matrix(1, (2**31 - 1, 1), b""),
    "a huge cell array, packed": HEAD + packed(matrix(1, (2**31 - 1, 1), b"")),
    "a huge numeric array": HEAD + matrix(6, (2**31 - 1, 4), struct.pack("<II", 9, 8) + bytes(8)),
    "a huge struct array": HEAD + matrix(2, (2**31 - 1, 1), struct.pack("<HHI", 5, 4, 8) + struct.pack("<II", 1, 0)),
    "cells in cells in cells": HEAD + matrix(1, (1, 1), matrix(1, (1, 1), matrix(1, (1, 1), b""))),
    "dimensions below nothing": HEAD + matrix(6, (-40000, -40000), struct.pack("<II", 9, 8) + bytes(8)),
    "a huge cell array in a struct": HEAD
    + matrix(2, (1, 1), struct.pack("<HHI", 5, 4, 8) + struct.pack("<II8s", 1, 8, b"x") + matrix(1, (2**30, 1), b"")),
    "a function": HEAD + matrix(16, (1, 1), matrix(16, (1, 1), b"")),
    "an object in a cell": HEAD + matrix(1, (1, 1), matrix(3, (1, 1), b"")),
    "structs without end": HEAD + nested_structs(30_000),
    "odd dimensions": HEAD + matrix(6, tuple([2] * 80), b""),
    "words": b"not a mat file at all, only words that go on and on" * 5,
    "nothing": b"",
    "a header alone": HEAD,
    "half of one": HEAD + matrix(6, (9, 4), struct.pack("<II", 9, 288) + bytes(288))[:100],
}


@pytest.mark.parametrize("what", MATS)
def test_mat_files(tmp_path, what):
    path = tmp_path / "b.mat"
    path.write_bytes(MATS[what])
    assert_refused(path)


def v73(path, how):
    with h5py.File(path, "w", userblock_size=512) as file:
        how(file)
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def _cells_of(file, inner):
    references = np.empty((1, 1), h5py.ref_dtype)
    references[0, 0] = inner.ref
    file.create_dataset("boxes", data=references).attrs["MATLAB_class"] = np.bytes_(b"cell")


V73 = {
    "a bomb": lambda f: f.create_dataset("boxes", (4, 1 << 28), "u1", chunks=(4, 1 << 20), compression="gzip"),
    "a link elsewhere": lambda f: f.__setitem__("boxes", h5py.ExternalLink("/etc/passwd", "/x")),
    "data that lie elsewhere": lambda f: f.create_dataset("boxes", (4, 4), "u1", external=[("/etc/passwd", 0, 16)]),
    "cells of cells": lambda f: (_cells_of(f, f.create_dataset("a", data=np.empty((1, 1), h5py.ref_dtype)))),
    "cells of a group": lambda f: _cells_of(f, f.create_group("g")),
    "a long text": lambda f: f.create_dataset("images", data=np.zeros((1, 1 << 20), "u2"), compression="gzip")
    .attrs.__setitem__("MATLAB_class", np.bytes_(b"char")),
    "references without end": lambda f: f.create_dataset(
        "boxes", data=np.full((1, 20_000), f.create_dataset("a", (1,), "f8").ref, h5py.ref_dtype), compression="gzip"
    ),
    "text of any length": lambda f: f.create_dataset("boxes", data=["a", "b"], dtype=h5py.string_dtype()),
    "a group": lambda f: f.create_group("boxes"),
    "nothing": lambda f: None,
}  # fmt: skip


@pytest.mark.parametrize("what", V73)
def test_mat_files_of_version_7_3(tmp_path, what):
    path = tmp_path / "b.mat"
    v73(path, V73[what])
    assert_refused(path)


def zipped(*members):
    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members:
                archive.writestr(member, content)

    return write


def npy(header, data=b""):
    header = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


ZEROS = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (15000000, 4)}", bytes(60_000_000))
NPZS = {
    "many members": zipped(*[(f"{i}.npy", ZEROS) for i in range(12)]),
    "an unbalanced header": zipped(("a.npy", npy("{'descr': (((("))),
    "a header of signs": zipped(("a.npy", npy("-" * 9000 + "1"))),
    "a pickle": lambda path: np.savez(path, a=np.array([Calls(os.system, "touch frcnn-was-here")], dtype=object)),
    "a member without a name": zipped((".npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4)}"))),
}


@pytest.mark.parametrize("what", NPZS)
def test_npz_files(tmp_path, what):
    path = tmp_path / "b.npz"
    NPZS[what](path)
    assert_refused(path)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path, data):
    """One to three bytes of a good file changed, or its end cut off: boxes, or one clear line; never anything else."""
    kind = data.draw(st.sampled_from(["mat", "packed.mat", "pkl", "npz", "json", "csv"]))
    path = tmp_path / f"b.{kind}"
    boxes = np.arange(8.0).reshape(2, 4)
    match path.suffix:
        case ".mat":
            scipy.io.savemat(path, {"boxes": boxes}, do_compression=kind != "mat")
        case ".pkl":
            path.write_bytes(pickle.dumps({"a": boxes}, data.draw(st.sampled_from([0, 2, 4, 5]))))
        case ".npz":
            np.savez_compressed(path, a=boxes)
        case ".json":
            path.write_text('{"a": [[0, 1, 2, 3], [4, 5, 6, 7]]}')
        case ".csv":
            path.write_text("image,x1,y1,x2,y2\na,0,1,2,3\n")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        rows = read_all(path)
    except FrcnnError as error:
        assert path.name in str(error)  # noqa: PT017
    else:
        assert all(row.ndim == 2 and row.shape[1] in (4, 5) for row in rows)


@pytest.mark.parametrize("what", ["real", "complex", "cells and text"])
def test_every_byte_of_a_mat_file(tmp_path, what):
    """A type of numbers that does not exist makes SciPy read memory that is not its own, and the process dies."""
    boxes = np.arange(8.0).reshape(2, 4)
    cells = np.array([boxes, boxes[:1].astype(np.int16)], dtype=object)
    content = {"real": {"b": boxes}, "complex": {"b": boxes * 1j}, "cells and text": {"b": cells, "s": "abc"}}[what]
    path = tmp_path / "b.mat"
    scipy.io.savemat(path, content)
    good = path.read_bytes()
    for at in range(124, len(good)):
        for value in (0, 1, 8, 10, 14, 19, 63, 255):
            path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
            with suppress(FrcnnError):
                read_all(path)


def test_on_the_command_line_it_is_one_line(tmp_path, photo):
    path = tmp_path / "b.pkl"
    path.write_bytes(PICKLES["a command"])
    ran = run_frcnn("import", path, "--data", photo, "-o", tmp_path / "p.h5")
    assert_one_line_error(ran, "b.pkl", "posix.system", "frcnn refuses to load")
    assert not (tmp_path / "p.h5").exists()
