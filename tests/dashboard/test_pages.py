# SPDX-License-Identifier: Apache-2.0
"""The files of the dashboard as they go over the wire: headers, sizes, who gets them."""

import gzip
import pathlib
import re
import urllib.parse

import pytest

from wire import Wire

WEB = pathlib.Path(__file__).resolve().parents[2] / "daemon/dashboard/web"
BYTES_MAX = 150_000
POLICY = {"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
          "img-src 'self' data:", "base-uri 'none'", "form-action 'none'",
          "frame-ancestors 'none'"}


def page_and_files(wire, encoding="identity"):
    """index.html and what it names: path -> Answer."""
    page = wire.get("/ui/", Accept_Encoding=encoding)
    text = gzip.decompress(page.body) if encoding == "gzip" else page.body
    names = re.findall(r'(?:src|href)="([^"]+)"', text.decode())
    return {"/ui/": page} | {f"/ui/{name}": wire.get(f"/ui/{name}", Accept_Encoding=encoding)
                             for name in names}


def test_all_files_are_there_and_small(wire):
    plain = page_and_files(wire)
    packed = page_and_files(wire, "gzip")
    assert {answer.status for answer in [*plain.values(), *packed.values()]} == {200}
    assert len(plain) == 5, "browsers wait for each"
    for path, answer in packed.items():
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain[path].headers
        assert gzip.decompress(answer.body) == plain[path].body
    assert sum(len(answer.body) for answer in packed.values()) <= BYTES_MAX


def test_what_is_served_is_what_lies_in_the_folder(wire):
    served = {path.rsplit("/", 1)[-1]: answer.body.decode()
              for path, answer in page_and_files(wire).items()}
    modules = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*.js")
               if "vendor" not in path.parts}
    sheets = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*.css")}
    assert set(re.findall(r"^// (\S+\.js)$", served["main.js"], re.MULTILINE)) == modules
    assert set(re.findall(r"^/\* (\S+\.css) \*/$", served["dashboard.css"], re.MULTILINE)) == sheets
    for name in ("icon.svg", "vendor/uPlot.min.js"):
        assert served[name.rsplit("/", 1)[-1]] == (WEB / name).read_text(encoding="utf-8")


def test_every_file_is_guarded(wire):
    kinds = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
             ".svg": "image/svg+xml", "": "text/html; charset=utf-8"}
    for path, answer in page_and_files(wire).items():
        headers = answer.headers
        assert headers["Content-Type"] == kinds[pathlib.PurePath(path).suffix], path
        assert set(headers["Content-Security-Policy"].split("; ")) == POLICY, path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Vary"] == "Accept-Encoding"
        assert re.fullmatch(r'"[0-9a-f]{16}"', headers["ETag"]), path
        kept = "immutable" in headers["Cache-Control"]
        assert kept == (path != "/ui/"), path
        assert kept or headers["Cache-Control"] == "no-cache"


def test_etags_tell_encodings_apart_and_save_bodies(wire):
    etags = set()
    for encoding in ("identity", "gzip", "br", "gzip;q=0", "gzip;q=0.5, br", "x, GZIP ;q=1"):
        answer = wire.get("/ui/", Accept_Encoding=encoding)
        packed = encoding in ("gzip", "gzip;q=0.5, br", "x, GZIP ;q=1")
        assert ("Content-Encoding" in answer.headers) == packed, encoding
        etag = answer.headers["ETag"]
        assert etag.endswith('-gzip"') == packed
        etags.add(etag)
        again = wire.get("/ui/", Accept_Encoding=encoding, If_None_Match=f'"x", {etag}')
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == etag and "Cache-Control" in again.headers
    assert len(etags) == 2


def test_nothing_is_inline_and_nothing_reads_markup():
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|javascript:", page)
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|"
                           r"new Function|setAttribute\(\"style|localStorage|document\.cookie")
    for path in WEB.rglob("*.js"):
        if "vendor" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not forbidden.search(text), path
            foreign = set(re.findall(r"https?://[^\"'` )]+", text))
            assert foreign <= {"http://www.w3.org/2000/svg"}, path


def test_browsers_are_sent_on_and_others_are_not(wire):
    for path in ("/", "/ui"):
        sent = wire.get(path, Accept="text/html,application/xhtml+xml")
        assert sent.status == 302
        assert urllib.parse.urljoin(f"http://x{path}", sent.headers["Location"]) == "http://x/ui/"
        assert wire.get(path).problem() == "not-found"


def test_unknown_files_and_methods(wire):
    for path in ("/ui/nothing.js", "/ui/app", "/ui/index.html/x", "/ui/0123456789abcdef/main.js"):
        assert wire.get(path).problem() == "not-found", path
    assert wire.post("/ui/").problem() == "method-not-allowed"
    assert wire.get("/ui/?a=1").problem() == "invalid-parameter"
    assert wire.get("/ui/main.js/").problem() == "malformed-request"


def test_pages_are_public_and_data_is_not(start_daemon, family, token):
    daemon = start_daemon(family)
    token("admin")
    wire = Wire(daemon.url)
    assert wire.get("/ui/").status == 200
    assert wire.get("/ui/main.js").status == 200
    assert wire.get("/ui/", Authorization="Bearer didi_wrong").status in (200, 401)
    assert wire.get("/v1/jobs").problem() == "unauthenticated"


@pytest.fixture
def own_pages(start_daemon, family, tmp_path):
    """A daemon that serves tmp_path/web, beside which lies a secret."""
    web = tmp_path / "web"
    (web / "app").mkdir(parents=True)
    (web / "index.html").write_text("<title>own</title>")
    (web / "app/one.js").write_text("export {};")
    (tmp_path / "secret.js").write_text("secret")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/secret.js").write_text("secret")
    (web / "out.js").symlink_to(tmp_path / "secret.js")
    (web / "away").symlink_to(tmp_path / "hidden")
    return start_daemon(family, "--dashboard-dir", str(web))


def test_a_directory_takes_the_place_of_what_is_compiled_in(own_pages, tmp_path):
    wire = Wire(own_pages.url)
    page = wire.get("/ui/")
    assert (page.status, page.body) == (200, b"<title>own</title>")
    assert page.headers["Cache-Control"] == "no-store"
    assert set(page.headers["Content-Security-Policy"].split("; ")) == POLICY
    assert wire.get("/ui/app/one.js").headers["Content-Type"] == "text/javascript; charset=utf-8"
    (tmp_path / "web/index.html").write_text("<title>new</title>")
    assert wire.get("/ui/").body == b"<title>new</title>"


def test_the_directory_is_not_left(own_pages):
    wire = Wire(own_pages.url)
    for path in ("/ui/out.js", "/ui/away/secret.js", "/ui/app", "/ui/main.js"):
        assert wire.get(path).problem() == "not-found", path
    for path in ("/ui/../secret.js", "/ui/%2e%2e/secret.js", "/ui/..%2fsecret.js"):
        assert wire.get(path).problem() == "malformed-request", path


def test_a_directory_that_is_not_there_stops_the_start(start_daemon, family, tmp_path):
    with pytest.raises(RuntimeError, match="nowhere"):
        start_daemon(family, "--dashboard-dir", str(tmp_path / "nowhere"))
