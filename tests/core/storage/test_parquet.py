"""Images in Parquet tables, and stage files as tables and back."""

import numpy as np
import pytest

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import DataError, FileFormatError, ImageError, UsageError
from frcnn_cli.core.find import find_images
from frcnn_cli.store.parquet import export_parquet, read_parquet
from frcnn_cli.store.stage import open_stage
from tests.conftest import run_frcnn
from tests.core.storage.pictures import picture

pytestmark = pytest.mark.extra
arrow = pytest.importorskip("pyarrow", reason="needs frcnn-cli[parquet]")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs frcnn-cli[parquet]")


def table(path, columns, rows_per_group=2):
    parquet.write_table(arrow.table(columns), path, row_group_size=rows_per_group)
    return path


def read_all(*arguments):
    return [(ref.key, int(read_ref(ref).pixels[0, 0, 0])) for ref in find_images(map(str, arguments))]


PICTURES = [picture(i) for i in range(5)]


def test_a_column_of_bytes(tmp_path):
    path = table(tmp_path / "t.parquet", {"jpg": PICTURES, "key": [f"k{4 - i}" for i in range(5)]})
    expected = [(f"k{4 - i}", i) for i in range(5)]
    assert read_all(path) == expected
    assert read_all(f"parquet:{path}") == expected
    assert read_all(f"parquet:{path}#jpg") == expected


def test_rows_without_a_key_are_numbered(tmp_path):
    path = table(tmp_path / "t.parquet", {"bytes": PICTURES, "id": [1, 1, 2, 3, 4]})  # an id that is not unique
    assert read_all(path) == [(f"t/{i:08d}", i) for i in range(5)]


def test_records_of_bytes_and_path(tmp_path):
    """As Hugging Face's image data sets store them."""
    rows = [{"bytes": content, "path": f"a/{i}.png"} for i, content in enumerate(PICTURES)]
    assert read_all(table(tmp_path / "t.parquet", {"image": rows})) == [(f"a/{i}.png", i) for i in range(5)]


def test_a_column_of_paths(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(PICTURES[i])
    path = table(tmp_path / "t.parquet", {"path": ["0.png", str(tmp_path / "1.png")]})
    assert read_all(path) == [(str(tmp_path / "1.png"), 1), ("0.png", 0)]  # sorted by key, as files are
    named = table(tmp_path / "u.parquet", {"path": ["0.png", "1.png"], "id": [11, 12]})
    assert read_all(named) == [("11", 0), ("12", 1)]


def test_several_tables(tmp_path):
    for name in "ab":
        table(tmp_path / f"{name}.parquet", {"image": PICTURES[:2], "key": [f"{name}0", f"{name}1"]})
    for pattern in (f"parquet:{tmp_path}/*.parquet", f"{tmp_path}/*.parquet", f"{tmp_path}/{{a,b}}.parquet#image"):
        assert [key for key, _ in read_all(pattern)] == ["a0", "a1", "b0", "b1"]
    (tmp_path / "c").mkdir()
    table(tmp_path / "c/a.parquet", {"image": PICTURES[:1], "key": ["a0"]})
    both = read_all(tmp_path / "a.parquet", tmp_path / "c/a.parquet")
    assert [key for key, _ in both] == [f"{tmp_path}/a.parquet/a0", "a1", f"{tmp_path}/c/a.parquet/a0"]


def test_an_empty_cell_and_one_that_is_no_image(tmp_path):
    refs = find_images([str(table(tmp_path / "t.parquet", {"image": [PICTURES[0], None, b"text"]}))])
    with pytest.raises(ImageError, match="column image, row 1 of row group 0 is empty"):
        read_ref(refs[1])
    with pytest.raises(ImageError, match="is not an image"):
        read_ref(refs[2])


def test_a_small_table_that_repeats_a_large_value(tmp_path):
    """2,000 rows of the same 900 kB, which are held once."""
    from frcnn_cli.core.storage.parquet import _Groups

    path = table(tmp_path / "t.parquet", {"image": [bytes(900_000)] * 2000}, 2000)
    assert path.stat().st_size < 1 << 20
    assert _Groups().column(str(path), "image", "image", 0).nbytes < 4 << 20


def test_tables_without_images(tmp_path):
    (tmp_path / "text.parquet").write_text("text")
    table(tmp_path / "number.parquet", {"image": [1, 2]})
    table(tmp_path / "other.parquet", {"label": [1, 2]})
    table(tmp_path / "none.parquet", {"image": arrow.array([], arrow.binary())})
    table(tmp_path / "null.parquet", {"path": ["a.png", None]})
    for name, words in (
        ("text.parquet", "cannot be read"), ("gone.parquet", "does not exist"),
        ("number.parquet", "column image is int64"), ("other.parquet", "no column named"),
        ("number.parquet#jpg", "has no column jpg"), ("none.parquet", "has no rows"), ("null.parquet", "row 1"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            find_images([f"parquet:{tmp_path}/{name}"])


@pytest.fixture(scope="module")
def stages(voc, tmp_path_factory):
    """Proposals, detections and vectors of the small data set, with an untrained network."""
    folder = tmp_path_factory.mktemp("stages")
    spec = f"voc:{voc}"
    assert (
        run_frcnn("proposals", spec, "-o", folder / "props.h5", "--source", "sliding-window", "--split", "test").code
        == 0
    )
    line = ("embed", spec, "--split", "test", "--boxes", folder / "props.h5", "--backbone", "squeezenet1_0")
    assert run_frcnn(*line, "--weights", "none", "--layer", "mean", "-o", folder / "vectors.h5").code == 0
    return folder


@pytest.mark.parametrize("name", ["props", "vectors"])
def test_a_stage_file_read_back(stages, tmp_path, name):
    path = tmp_path / "t.parquet"
    assert run_frcnn("export", stages / f"{name}.h5", "--format", "parquet", "-o", path).code == 0
    fmt, provenance, images = read_parquet(path)
    found = list(images)
    with open_stage(stages / f"{name}.h5") as file:
        assert fmt is file.format
        assert provenance == file.provenance
        assert [record for record, _ in found] == list(file.images)
        for (_, arrays), (_, wanted) in zip(found, file, strict=True):
            assert arrays.keys() == wanted.keys()
            for column, array in arrays.items():
                assert array.dtype == wanted[column].dtype
                assert np.array_equal(array, wanted[column])


def exported(path, folder):
    with open_stage(path) as file:
        export_parquet(file, folder / "exported.parquet")
    return folder / "exported.parquet"


def test_detections_with_an_image_without_any(tmp_path):
    from frcnn_cli.core.image import ImageRecord
    from frcnn_cli.store.schema import DETECTIONS
    from frcnn_cli.store.writer import StageWriter

    source, path = tmp_path / "d.h5", tmp_path / "d.parquet"
    with StageWriter(source, DETECTIONS, {"classes": ["cat", "dog"]}) as out:
        for i, labels in enumerate(([1, 0], [])):
            n = len(labels)
            out.add(
                ImageRecord(f"{i}.png", 20, 30, "0" * 32),
                {"boxes": np.arange(4 * n, dtype=np.float32).reshape(n, 4), "labels": np.array(labels, np.int32),
                 "scores": np.linspace(0.5, 1, n, dtype=np.float32)},
            )  # fmt: skip
        out.finish()
    with open_stage(source) as file:
        assert export_parquet(file, path) == 2
        found = [arrays for _, arrays in read_parquet(path)[2]]
        for arrays, (_, wanted) in zip(found, file, strict=True):
            assert all(np.array_equal(arrays[name], wanted[name]) for name in wanted)
    rows = parquet.read_table(path).to_pylist()
    assert [row["names"] for row in rows] == [["dog", "cat"], []]


def test_proposals_are_imported_from_a_table(stages, voc, tmp_path):
    path = tmp_path / "t.parquet"
    assert run_frcnn("export", stages / "props.h5", "--format", "parquet", "-o", path).code == 0
    line = ("import", path, "--data", f"voc:{voc}", "--split", "test", "-o", tmp_path / "p.h5")
    done = run_frcnn(*line)
    assert done.code == 0, done.err
    with open_stage(stages / "props.h5") as ours, open_stage(tmp_path / "p.h5") as read:
        assert ours.images == read.images
        assert all(np.array_equal(ours[i]["boxes"], read[i]["boxes"]) for i in range(len(ours)))


def test_a_file_without_images(tmp_path):
    from frcnn_cli.store.schema import PROPOSALS
    from frcnn_cli.store.writer import StageWriter

    made_with = {"source": {}, "max_boxes": 1, "min_size": 1, "shard": "1/2"}
    with StageWriter(tmp_path / "p.h5", PROPOSALS, made_with) as out:
        out.finish()
    with open_stage(tmp_path / "p.h5") as file:
        assert export_parquet(file, tmp_path / "p.parquet") == 0
    assert list(read_parquet(tmp_path / "p.parquet")[2]) == []


def test_what_is_refused(stages, tmp_path):
    table(tmp_path / "other.parquet", {"a": [1]})
    with pytest.raises(FileFormatError, match="is not a table that frcnn export wrote"):
        read_parquet(tmp_path / "other.parquet")
    lacking = parquet.read_table(exported(stages / "props.h5", tmp_path)).drop(["digest"])
    parquet.write_table(lacking, tmp_path / "lacking.parquet")
    with pytest.raises(FileFormatError, match="has no column digest"):
        read_parquet(tmp_path / "lacking.parquet")
    with open_stage(stages / "props.h5") as file, pytest.raises(UsageError, match=r"end in \.parquet"):
        export_parquet(file, tmp_path / "p.csv")
