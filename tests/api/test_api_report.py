# SPDX-License-Identifier: Apache-2.0
"""Reports: one file, the same figures as the interface gives, whatever names people choose."""

import base64
import hashlib
import html.parser
import json
import re
import subprocess

import pytest

from wire import specification

VOID = {"meta", "link", "br", "img", "input", "hr"}
ESCAPED = re.compile("[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e"
                     "\u2060-\u206f]")
# Each would do harm where a text is taken for markup, for a script or for directions.
NAMES = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "<!--<script>",
         "a\u2028b\u2029c", "\u202egnp.exe\u2066", "&lt;b&gt;&amp;", "\"' onload='alert(1)",
         "]]>\\u003c\\", "n" * 128]


class Page(html.parser.HTMLParser):
    """Elements, texts and scripts of a report; each tag must be closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.rows = [], [], [], []
        self.scripts, self.styles, self.policy = {}, [], None
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        tag, attrs = self.open[-1] if self.open else ("", {})
        if tag == "script":
            self.scripts[attrs.get("type", "")] = self.scripts.get(attrs.get("type", ""), "") + data
        elif tag == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)
            if any(name in ("th", "td") for name, _ in self.open):
                self.rows[-1][-1] += data

    @property
    def data(self):
        return json.loads(self.scripts["application/json"])

    def row(self, name):
        return next(row for row in self.rows if row and row[0] == name)


def report_of(wire, job_id):
    answer = wire.get(f"/v1/jobs/{job_id}/report.html")
    assert answer.status == 200, answer.body
    return answer, Page(answer.body.decode())


def source(text):
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_its_data_are_those_of_the_interface(wire, finished):
    path = f"/v1/jobs/{finished}"
    _, page = report_of(wire, finished)
    data = page.data
    assert data["job"] == wire.get(path).json()
    for what in ("frontier", "similarity", "ranks"):
        assert data[what] == wire.get(f"{path}/{what}").json(), what
    events = wire.get(f"{path}/events?limit=1000").json()["data"]
    assert data["points"] == [event for event in events if event["kind"] == "point"]
    assert data["points"]


def test_the_essentials_are_there_without_scripts(wire, finished):
    path = f"/v1/jobs/{finished}"
    _, page = report_of(wire, finished)
    job = wire.get(path).json()
    manifest = wire.get(path + "/artifacts/manifest.json").json()
    text = " ".join(page.texts)
    for task in ("hiragana", "latin"):
        own = next(file for file in manifest["files"]
                   if file["name"] == f"experts/{task}.safetensors")
        assert page.row(task) == [task, f"tasks/{task}", "1",
                                  f"{manifest['error']['per_task'][task]:.3g}",
                                  f"{own['bytes']:,}"]
        digest = manifest["inputs"]["tasks"][task]["files"][0]["sha256"]
        assert [task, f"tasks/{task}", "model.safetensors"] in [row[:3] for row in page.rows]
        assert digest in text
    assert manifest["inputs"]["base"]["files"][0]["sha256"] in text
    assert all(file["sha256"] in text for file in manifest["files"])
    assert f"{manifest['budget']['bytes']:,} bytes" in text
    assert f"{manifest['error']['relative']:.3g}" in page.texts
    assert manifest["versions"]["didi"] in page.texts
    shown = next(text for text in page.texts if text.startswith("{"))
    assert json.loads(shown) == job["specification"]
    layer = manifest["ranks"]["layers"][0]
    row = page.row(layer["tensor"])
    assert row[1:3] == [str(layer["rank_limit"]), str(layer["shared"])]
    assert row[3:] == ["whole" if whole else str(rank)
                       for rank, whole in zip(layer["experts"], layer["dense"])]


def test_it_is_one_file_that_asks_for_nothing(wire, finished):
    answer, page = report_of(wire, finished)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Disposition"] == \
        f'attachment; filename="report-{finished}.html"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name, attributes in page.tags:
        assert not {"src", "href", "srcset", "action", "style"} & set(attributes), name
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
    assert not re.search(r"url\(|@import", "".join(page.styles))
    expected = ["default-src 'none'", f"script-src {source(page.scripts[''])}",
                f"style-src {source(page.styles[0])}", "base-uri 'none'", "form-action 'none'"]
    assert page.policy.split("; ") == expected and len(page.styles) == 1
    assert answer.headers["Content-Security-Policy"].split("; ") == \
        [*expected, "frame-ancestors 'none'"]
    digest = base64.b64encode(hashlib.sha256(answer.body).digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_conditions_and_head(wire, finished):
    path = f"/v1/jobs/{finished}/report.html"
    answer = wire.get(path)
    etag = answer.headers["ETag"]
    assert re.fullmatch('"sha256-[0-9a-f]{64}"', etag)
    again = wire.get(path, If_None_Match=etag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert wire.get(path, If_None_Match='"other"').body == answer.body
    head = wire.request("HEAD", path)
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)
    assert int(head.headers["Content-Length"]) == len(answer.body)


def test_before_the_end_there_is_none(wire, held):
    answer = wire.get(f"/v1/jobs/{held}/report.html")
    assert (answer.status, answer.problem()) == (409, "no-result")
    missing = wire.get("/v1/jobs/01m8dj64mh93mv3fssm3wgv8nj/report.html")
    assert (missing.status, missing.problem()) == (404, "unknown-job")
    assert wire.post(f"/v1/jobs/{held}/report.html", {}).problem() == "method-not-allowed"


def test_a_survey_has_one_too(wire):
    asked = specification(name="survey of a report", survey=True)
    del asked["budget"]
    job = wire.submit(asked)
    wire.wait(job["id"], "succeeded")
    _, page = report_of(wire, job["id"])
    assert page.data["ranks"] is None and page.data["frontier"]["chosen"] is None
    assert page.row("hiragana") == ["hiragana", "tasks/hiragana", "1"]
    frontier = page.data["frontier"]
    assert [page.row(mark["name"])[1] for mark in frontier["marks"]] == \
        [f"{mark['bytes']:,}" for mark in frontier["marks"]]


def test_other_methods_have_one(wire):
    asked = specification(name="mean", method="average")
    del asked["budget"]
    job = wire.submit(asked)
    wire.wait(job["id"], "succeeded")
    _, page = report_of(wire, job["id"])
    assert page.data["job"] == wire.get(f"/v1/jobs/{job['id']}").json()
    assert page.row("latin")[1] == "tasks/latin"


@pytest.mark.parametrize("name", NAMES)
def test_names_do_no_harm(wire, name):
    label = "".join(character for character in name if character.isascii())
    job = wire.submit(specification(name=name, labels={"who": label}))
    wire.wait(job["id"], "succeeded")
    answer, page = report_of(wire, job["id"])
    data = page.data
    assert data["job"]["name"] == name and data["job"]["labels"] == {"who": label}
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "dl",
        "dt", "dd", "div", "section", "table", "caption", "thead", "tbody", "tr", "th", "td",
        "details", "summary", "pre", "footer", "script"}
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert not ESCAPED.search(answer.body.decode())
    told = ESCAPED.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", name)
    assert page.texts.count(told) >= 1


def test_didictl_saves_it(wire, finished, daemon, didictl, tmp_path):
    def call(*words):
        return subprocess.run([didictl, "--host", daemon.url, "report", *words], cwd=tmp_path,
                              capture_output=True, text=True, timeout=60, check=False)

    body = wire.get(f"/v1/jobs/{finished}/report.html").body
    done = call(finished)
    assert (done.returncode, done.stdout) == (0, f"report-{finished}.html\n"), done.stderr
    assert (tmp_path / f"report-{finished}.html").read_bytes() == body
    assert call(finished, "-O", "other.html").returncode == 0
    again = call(finished, "-O", "other.html")
    assert again.returncode == 1 and "is there already" in again.stderr
    assert call("01m8dj64mh93mv3fssm3wgv8nj").returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == \
        ["other.html", f"report-{finished}.html"]
