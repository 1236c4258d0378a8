"""Images behind URLs: a local server of the S3 protocol, and a web server that misbehaves."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import DataError, ImageError
from frcnn_cli.core.find import find_images, is_elsewhere
from frcnn_cli.core.storage import url as urls
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets
from tests.core.storage.pictures import archive, picture


@pytest.fixture(scope="module")
def bucket():
    """s3://photos with three pictures, a text file and an archive."""
    pytest.importorskip("s3fs", reason="needs frcnn-cli[remote]")
    server_of = pytest.importorskip("moto.server", reason="needs moto[server]")
    import logging

    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        server = server_of.ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_DEFAULT_REGION", "us-east-1"),
        ):  # fmt: skip
            patch.setenv(name, value)
        urls._file_system.cache_clear()
        client = boto3.client("s3")
        client.create_bucket(Bucket="photos")

        def put(key, content):
            client.put_object(Bucket="photos", Key=key, Body=content)

        for i in range(3):
            put(f"day/sub/{i}.png", picture(i))
        put("day/notes.txt", b"text")
        put("day/odd name.png", picture(7))
        yield put
        server.stop()
        urls._file_system.cache_clear()


@pytest.mark.extra
def test_a_folder_of_a_bucket(bucket):
    found = find_images(["s3://photos/day"])
    assert [ref.key for ref in found] == ["odd name.png", "sub/0.png", "sub/1.png", "sub/2.png"]
    assert [int(read_ref(ref).pixels[0, 0, 0]) for ref in found] == [7, 0, 1, 2]
    assert [ref.key for ref in find_images(["s3://photos/day/"])] == [ref.key for ref in found]


@pytest.mark.extra
def test_one_image_and_a_pattern_of_a_bucket(bucket):
    (one,) = find_images(["s3://photos/day/sub/2.png"])
    assert (one.key, str(one.location)) == ("2.png", "s3://photos/day/sub/2.png")
    assert [ref.key for ref in find_images(["s3://photos/day/sub/*.png"])] == ["0.png", "1.png", "2.png"]


@pytest.mark.extra
def test_archives_of_a_bucket(bucket, tmp_path):
    content = archive(tmp_path / "a.tar", [(f"{i}.png", picture(i + 20)) for i in (2, 0, 1)]).read_bytes()
    for name in ("000", "001"):
        bucket(f"shards/{name}.tar", content)
    for pattern in ("tar:s3://photos/shards/{000..001}.tar", "tar:s3://photos/shards/*.tar"):
        found = find_images([pattern])
        assert [ref.key for ref in found] == [f"{shard}/{i}.png" for shard in ("000", "001") for i in (2, 0, 1)]
        assert [int(read_ref(ref).pixels[0, 0, 0]) for ref in found] == [22, 20, 21] * 2


@pytest.mark.extra
def test_proposals_of_a_bucket_equal_those_of_files(bucket, tmp_path):
    """Worker processes read the images. After one image has changed, the same command is run once more."""
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(picture(i))
        bucket(f"run/{i}.png", picture(i))
    bucket("run/bad.png", b"no picture")
    line = ("proposals", "s3://photos/run", "--source", "sliding-window", "--workers", 1, "-o", tmp_path / "s3.h5")
    first = run_frcnn(*line, "--json")
    assert first.code == 1
    assert "s3://photos/run/bad.png is not an image" in first.json["failed"][0]["error"]
    assert (
        run_frcnn(
            "proposals",
            *(tmp_path / f"{i}.png" for i in range(3)),
            "--source",
            "sliding-window",
            "-o",
            tmp_path / "files.h5",
        ).code
        == 0
    )
    assert same_datasets(tmp_path / "s3.h5", tmp_path / "files.h5")
    bucket("run/bad.png", picture(3))
    bucket("run/0.png", picture(200))
    again = run_frcnn(*line, "--json")
    assert again.code == 0, again.err
    assert again.json["computed"] == 2


@pytest.mark.extra
def test_a_bucket_that_cannot_be_read(bucket):
    with pytest.raises(ImageError, match=r"s3://photos/gone\.png does not exist"):
        read_ref(find_images(["s3://photos/gone.png"])[0])
    with pytest.raises(DataError, match="holds no images"):
        find_images(["s3://photos/nothing/"])
    with pytest.raises(DataError, match=r"s3://no-such-bucket/x/ (cannot be read|does not exist|holds no images)"):
        find_images(["s3://no-such-bucket/x/"])


class _Site(BaseHTTPRequestHandler):
    asked = []

    def do_GET(self):
        if self.path.startswith("/endless"):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                return
        if self.path == "/to-a-file.png":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.png")
            self.end_headers()
            return
        if self.path.startswith("/deep/"):
            self.asked.append(self.path)
        status, body = {
            "/a.png": (200, picture(5)), "/a.png?signature=1": (200, picture(6)), "/page": (200, b"<html></html>"),
            "/forbidden.png": (403, b"no"), "/broken.png": (500, b"oh"),
            "/list/": (200, b'<a href="x%20y.png">x</a> <a href="notes.txt">t</a> <a href="../up.png">u</a>'),
            "/list": (200, b'<a href="/list/x%20y.png">x</a>'), "/list/x%20y.png": (200, picture(8)),
            "/deep/": (200, b'<a href="a.png">a</a> <a href="more/">more</a>'),
        }.get(self.path, (404, b"gone"))  # fmt: skip
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    pytest.importorskip("fsspec", reason="needs frcnn-cli[remote]")
    pytest.importorskip("aiohttp", reason="needs frcnn-cli[remote]")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    urls._file_system.cache_clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.extra
def test_images_of_a_web_server(site):
    (one,) = find_images([f"{site}/a.png"])
    assert (one.key, int(read_ref(one).pixels[0, 0, 0])) == ("a.png", 5)
    (signed,) = find_images([f"{site}/a.png?signature=1"])
    assert (signed.key, int(read_ref(signed).pixels[0, 0, 0])) == ("a.png", 6)


@pytest.mark.extra
def test_a_list_of_urls(site, tmp_path):
    (tmp_path / "list.txt").write_text(f"{site}/a.png\nlocal.png\n")
    (tmp_path / "local.png").write_bytes(picture(1))
    found = find_images([f"@{tmp_path}/list.txt"])
    assert [ref.key for ref in found] == [f"{site}/a.png", "local.png"]
    assert [int(read_ref(ref).pixels[0, 0, 0]) for ref in found] == [5, 1]


@pytest.mark.extra
def test_a_page_of_links(site):
    (one,) = find_images([f"{site}/list/"])
    assert (one.key, int(read_ref(one).pixels[0, 0, 0])) == ("x y.png", 8)


@pytest.mark.extra
def test_folders_to_which_a_page_links_are_not_searched(site):
    assert [ref.key for ref in find_images([f"{site}/deep/"])] == ["a.png"]
    assert set(_Site.asked) == {"/deep/"}


@pytest.mark.extra
@pytest.mark.parametrize(
    ("path", "words"),
    [("gone.png", "does not exist"), ("forbidden.png", "cannot be read.*403"), ("broken.png", "cannot be read.*500"),
     ("page", "is not an image"), ("to-a-file.png", "cannot be read.*redirected")],
)  # fmt: skip
def test_a_web_server_that_has_no_image(site, path, words):
    (ref,) = find_images([f"{site}/{path}"])
    with pytest.raises(ImageError, match=words):
        read_ref(ref)


@pytest.mark.extra
def test_a_web_server_that_never_stops(site, monkeypatch):
    monkeypatch.setattr(urls, "MAX_BYTES", 1 << 20)
    (ref,) = find_images([f"{site}/endless.png"])
    with pytest.raises(ImageError, match="has more than"):
        read_ref(ref)


@pytest.mark.extra
def test_nothing_answers(monkeypatch):
    pytest.importorskip("aiohttp", reason="needs frcnn-cli[remote]")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    urls._file_system.cache_clear()
    (ref,) = find_images(["http://127.0.0.1:9/a.png"])
    with pytest.raises(ImageError, match=r"http://127\.0\.0\.1:9/a\.png cannot be read"):
        read_ref(ref)


def test_protocols_that_read_files_or_run_commands_are_refused(tmp_path):
    (tmp_path / "list.txt").write_text("file:///etc/hostname\n")
    (ref,) = find_images([f"@{tmp_path}/list.txt"])
    with pytest.raises(ImageError, match=r"images cannot be read through file://"):
        read_ref(ref)
    for name in ("sftp://host/a.png", "reference://x/a.png", "simplecache::s3://x/a.png"):
        ran = run_frcnn("proposals", name, "-o", tmp_path / "p.h5", "--source", "sliding-window")
        assert_one_line_error(ran, "")
        assert "cannot be read through" in ran.err or "does not exist" in ran.err


def test_a_package_that_is_missing(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *arguments, **more):
        if name == "fsspec":
            raise ImportError("No module named 'fsspec'")
        return real(name, *arguments, **more)

    urls._file_system.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Exception, match=r"pip install 'frcnn-cli\[remote\]'"):
        urls.file_system("s3://photos/a.png")


def test_what_counts_as_elsewhere(tmp_path):
    assert is_elsewhere("s3://b/a.png")
    assert is_elsewhere("tar:x.tar")
    assert not is_elsewhere(str(tmp_path))
    assert not is_elsewhere("C:/a.png")
