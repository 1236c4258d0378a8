"""Images in tar archives: which there are, their order and keys, their content, and archives that are not whole."""

import tarfile
from multiprocessing import get_context

import pytest

from frcnn_cli.core.decoding import digest_bytes, read_ref
from frcnn_cli.core.errors import DataError, ImageError
from frcnn_cli.core.find import find_images
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets
from tests.core.storage.pictures import archive, picture


@pytest.fixture
def shards(tmp_path):
    """000.tar and 001.tar with three pictures each, not in alphabetical order, and a text file beside each picture."""
    for shard in range(2):
        members = []
        for i in range(3):
            members += [(f"sub/x{5 - i}.png", picture(10 * shard + i)), (f"sub/x{5 - i}.json", b"{}")]
        archive(tmp_path / f"{shard:03d}.tar", members)
    return tmp_path


def keys(*arguments):
    return [ref.key for ref in find_images(map(str, arguments))]


ORDER = [f"{shard}/sub/x{i}.png" for shard in ("000", "001") for i in (5, 4, 3)]


@pytest.mark.parametrize("pattern", ["tar:{}/{{000..001}}.tar", "tar:{}/{{000,001}}.tar", "tar:{}/*.tar"])
def test_members_in_the_order_in_which_they_are_stored(shards, pattern):
    assert keys(pattern.format(shards)) == ORDER
    values = [int(read_ref(ref).pixels[0, 0, 0]) for ref in find_images([pattern.format(shards)])]
    assert values == [0, 1, 2, 10, 11, 12]


def test_a_file_that_ends_in_tar_needs_no_prefix(shards):
    assert keys(shards / "001.tar") == ORDER[3:]
    assert keys(shards / "001.tar", shards / "000.tar") == [*ORDER[3:], *ORDER[:3]]


def test_the_hash_is_that_of_the_same_file(shards):
    (first, *_) = find_images([f"tar:{shards}/000.tar"])
    assert read_ref(first).record.digest == digest_bytes(picture(0))


def test_nothing_is_unpacked(shards):
    before = sorted(shards.iterdir())
    for ref in find_images([f"tar:{shards}/000.tar"]):
        read_ref(ref)
    assert sorted(shards.iterdir()) == before


def test_many_threads_that_open_archives(tmp_path):
    """Files that other threads let out of the cache stay open until they are read."""
    from concurrent.futures import ThreadPoolExecutor

    for shard in range(70):  # more than stay open
        archive(tmp_path / f"{shard:03d}.tar", [("x.png", picture(shard))])
    refs = find_images([f"tar:{tmp_path}/*.tar"]) * 20
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda ref: ref.location.read_bytes(), refs))
    assert found == [picture(shard) for shard in range(70)] * 20


def _read(refs):
    return [int(read_ref(ref).pixels[0, 0, 0]) for ref in refs]


def test_a_reference_in_another_process(shards):
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read, (find_images([f"tar:{shards}/*.tar"]),)) == [0, 1, 2, 10, 11, 12]


def test_of_members_of_one_name_the_last_one_counts(tmp_path):
    path = archive(tmp_path / "a.tar", [("x.png", picture(1)), ("y.png", picture(3)), ("x.png", picture(2))])
    found = [(ref.key, int(read_ref(ref).pixels[0, 0, 0])) for ref in find_images([str(path)])]
    assert found == [("a/y.png", 3), ("a/x.png", 2)]


def test_names_that_leave_the_archive(tmp_path):
    path = archive(tmp_path / "a.tar", [("/abs/x.png", picture(1)), ("./y.png", picture(2))])
    assert keys(path) == ["a/abs/x.png", "a/y.png"]
    path = archive(tmp_path / "b.tar", [("sub/../../x.png", picture(1))])
    with pytest.raises(DataError, match="has a member named"):
        find_images([str(path)])


def header(name, size):
    """A header with a size in base-256, which may be negative."""
    info = tarfile.TarInfo(name)
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = size.to_bytes(12, "big", signed=True)
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw):06o}\0 ".encode()
    return bytes(raw)


@pytest.mark.parametrize("before", [0, 1])
def test_a_header_of_negative_size(tmp_path, before):
    path = archive(tmp_path / "a.tar", [("x.png", picture(1))] * before)
    whole = path.read_bytes()
    at = whole.index(bytes(1024)) if before else 0
    at = -(-at // 512) * 512
    path.write_bytes(whole[:at] + header("y.png", -512) + bytes(2048))
    with pytest.raises(DataError, match="is damaged or truncated at byte|cannot be read"):
        find_images([str(path)])


def test_damage_in_the_middle_is_not_the_end(tmp_path):
    path = archive(tmp_path / "a.tar", [(f"{i}.png", picture(i)) for i in range(4)])
    offset = find_images([str(path)])[2].location.offset - 512
    content = bytearray(path.read_bytes())
    content[offset + 150] ^= 1  # its checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged or truncated at byte {offset:,}"):
        find_images([str(path)])
    path.write_bytes(content[:offset])  # cut between two members
    with pytest.raises(DataError, match=f"damaged or truncated at byte {offset:,}"):
        find_images([str(path)])


def test_archives_of_one_name_in_two_folders(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        archive(tmp_path / name / "000.tar", [("x.png", picture(1))])
    found = keys(f"tar:{tmp_path}/{{a,b}}/000.tar")
    assert found == [f"{tmp_path}/a/000.tar/x.png", f"{tmp_path}/b/000.tar/x.png"]


def test_links_and_folders_in_an_archive_are_no_images(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("folder.png", tarfile.DIRTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    archive(tmp_path / "a.tar", [("good.png", picture(3))], "a")
    assert keys(tmp_path / "a.tar") == ["a/good.png"]


def test_an_archive_that_is_named_in_two_ways_is_read_once(shards, monkeypatch):
    monkeypatch.chdir(shards)
    assert keys("000.tar", "./000.tar", f"tar:{shards}/000.tar") == ORDER[:3]


def test_lists_and_patterns_of_archives(shards):
    (shards / "list.txt").write_text(f"tar:00*.tar\n001.tar\ntar:{shards}/000.tar\n")
    assert keys(f"@{shards}/list.txt") == ORDER
    assert keys(f"{shards}/*.tar") == ORDER
    assert keys(f"{shards}/{{000..001}}.tar") == ORDER


def test_a_folder_of_archives(shards):
    with pytest.raises(DataError, match=r"archives: 'tar:.*\*\.tar'"):
        find_images([str(shards)])
    with pytest.raises(DataError, match="is a folder"):
        find_images([f"tar:{shards}"])


def test_what_is_no_archive(tmp_path):
    (tmp_path / "text.tar").write_text("not a tar archive, but long enough to be read as one header" * 20)
    archive(tmp_path / "none.tar", [("a.txt", b"")])
    archive(tmp_path / "packed.tar", [("a.png", picture(1))], "w:gz")
    archive(tmp_path / "packed.tar.gz", [("a.png", picture(1))], "w:gz")
    for name, words in (
        ("text.tar", "cannot be read"), ("packed.tar", "cannot be read"), ("packed.tar.gz", "is compressed as a whole"),
        ("none.tar", "holds no images"),
        ("gone.tar", "does not exist"), ("{3..1}.tar", "is no range"), ("x*.tar", "no file matches"),
        ("{0..9999999}{0..9999999}.tar", "no range"), ("{0..9999}{0..9999}.tar", "stands for more than"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            find_images([f"tar:{tmp_path}/{name}"])


def test_a_header_that_claims_the_whole_archive(tmp_path):
    """A PAX header of 64 MB, which tarfile would read into memory."""
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 64 << 20
    with open(path, "wb") as file:
        file.write(info.tobuf())
        file.truncate(65 << 20)
    with pytest.raises(DataError, match="cannot be read"):
        find_images([str(path)])


def test_a_truncated_archive(shards):
    path = shards / "000.tar"
    refs = find_images([str(path)])
    with open(path, "r+b") as file:
        file.truncate(refs[2].location.offset + 10)
    assert int(read_ref(refs[0]).pixels[0, 0, 0]) == 0
    with pytest.raises(ImageError, match=r"000\.tar/sub/x3\.png is truncated"):
        read_ref(refs[2])


def test_proposals_from_archives_equal_those_from_files(shards, tmp_path):
    """Through the command, with a member that is no image."""
    archive(shards / "001.tar", [("bad.png", b"nothing")], "a")
    done = run_frcnn(
        "proposals", f"tar:{shards}/{{000..001}}.tar", "-o", tmp_path / "tar.h5", "--source", "sliding-window", "--json"
    )
    assert done.code == 1
    assert [one["image"] for one in done.json["failed"]] == ["001/bad.png"]
    files = tmp_path / "files"
    for ref in find_images([f"tar:{shards}/*.tar"]):
        (files / ref.key).parent.mkdir(parents=True, exist_ok=True)
        (files / ref.key).write_bytes(ref.location.read_bytes())
    (files / "001/bad.png").unlink()
    assert run_frcnn("proposals", files, "-o", tmp_path / "files.h5", "--source", "sliding-window").code == 0
    assert same_datasets(tmp_path / "tar.h5", tmp_path / "files.h5")


def test_a_run_that_goes_on_reads_a_changed_member_again(shards, tmp_path):
    line = ("proposals", f"tar:{shards}/000.tar", "-o", tmp_path / "p.h5", "--source", "sliding-window", "--json")
    bad = archive(shards / "000.tar", [("bad.png", b"nothing")], "a")
    assert run_frcnn(*line).code == 1
    archive(bad, [(f"sub/x{5 - i}.png", picture(i + (i == 1))) for i in range(3)] + [("bad.png", picture(9))])
    done = run_frcnn(*line)
    assert done.code == 0, done.err
    assert done.json["computed"] == 2


def test_other_commands_say_what_they_need(shards):
    assert_one_line_error(run_frcnn("data", "lint", f"tar:{shards}/000.tar"), "tar:", code=1)
