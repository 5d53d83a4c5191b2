# SPDX-License-Identifier: Apache-2.0
"""A report as somebody opens it later, without the server."""

import shutil
import subprocess

import pytest

from visitor import Visitor
from wire import Wire, specification

HARM = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u202e"
DRAWINGS = {"frontier": "svg.frontier", "errors": "table.bars", "similarity": "canvas",
            "ranks": "canvas", "lost": "table.bars", "curves": ".uplot canvas"}


class Reader(Visitor):
    """Opens files; any request but for the file itself is a fault."""

    def _request(self, request):
        if request.url != self.url:
            self.faults.append(f"request: {request.url}")

    def read(self):
        self.page.goto(self.url)
        self.page.wait_for_selector("h1")
        return self.page


@pytest.fixture(scope="module")
def saved(didid, family, tmp_path_factory):
    """Files of a job of two tasks and of a survey; their daemon is stopped."""
    from service import Daemon  # pylint: disable=import-outside-toplevel
    place = tmp_path_factory.mktemp("reports")
    (place / "state").mkdir()
    asked = specification(name="surveyed", survey=True)
    del asked["budget"]
    with Daemon(didid, place / "state", family) as daemon:
        wire = Wire(daemon.url)
        jobs = {"job": wire.submit(specification(name=HARM)), "survey": wire.submit(asked)}
        for name, job in jobs.items():
            wire.wait(job["id"], "succeeded")
            body = wire.get(f"/v1/jobs/{job['id']}/report.html").body
            (place / f"{name}.html").write_bytes(body)
    return place


@pytest.fixture
def read(browser, saved):
    """read(name, **options of a browser context) -> a Reader, checked at the end."""
    readers = []

    def begin(name, **options):
        readers.append(Reader(browser, (saved / f"{name}.html").as_uri(), **options))
        return readers[-1]

    yield begin
    for reader in readers:
        reader.close()
    for reader in readers:
        reader.check()


def test_all_drawings_appear(read):
    page = read("job").read()
    for name, drawn in DRAWINGS.items():
        page.locator(f"[data-drawing={name}]").scroll_into_view_if_needed()
        page.locator(f"[data-drawing={name}] {drawn}").first.wait_for()
    assert page.locator("[data-drawing=curves] .uplot").count() == 3
    assert page.locator("section[hidden]").count() == 0
    assert page.locator("h1").inner_text().startswith("<img src=x")
    page.locator("[data-drawing=curves] figure").last.scroll_into_view_if_needed()
    page.locator("[data-drawing=ranks] canvas").press("ArrowRight")
    page.get_by_text("rank").first.wait_for()


def widths(page):
    return page.evaluate("""() => [...document.querySelectorAll('.heat canvas')]
        .map(canvas => canvas.width)""")


def test_heat_maps_take_memory_while_they_are_seen(read):
    reader = read("job", viewport={"width": 800, "height": 200})
    page = reader.read()
    page.locator("[data-drawing=frontier] svg").wait_for()
    assert widths(page) == [0, 0]
    page.locator("[data-drawing=ranks]").scroll_into_view_if_needed()
    page.locator("[data-drawing=ranks] [data-drawn]").wait_for()
    page.evaluate("scrollTo(0, 0)")
    reader.wait_for("() => [...document.querySelectorAll('.heat canvas')].every("
                    "canvas => canvas.width === 0)")


def test_which_error_is_measured_and_which_expected(read):
    page = read("job", java_script_enabled=False).read()
    page.get_by_text("Relative error, measured").wait_for()
    sizes = page.locator("section").filter(
        has=page.get_by_role("heading", name="Error against size"))
    sizes.get_by_text("Expected: foreseen before").wait_for()
    assert sizes.get_by_role("row", name="this job").inner_text().endswith("measured")
    assert sizes.get_by_role("row").nth(1).inner_text().endswith("expected")
    page = read("survey", java_script_enabled=False).read()
    page.get_by_text("Expected: foreseen before").wait_for()
    assert page.get_by_text("Measured: of what is stored").count() == 0


def test_a_survey_has_its_curve(read):
    page = read("survey").read()
    page.locator("[data-drawing=frontier] svg.frontier").wait_for()
    assert page.locator("[data-drawing=ranks]").count() == 0


def test_it_is_light_whatever_the_screen_is(read):
    colours = []
    for scheme in ("light", "dark"):
        page = read("job", color_scheme=scheme).read()
        page.locator("[data-drawing=ranks]").scroll_into_view_if_needed()
        page.locator("[data-drawing=ranks] [data-drawn]").wait_for()
        colours.append(page.evaluate("""[getComputedStyle(document.body).backgroundColor,
            document.querySelector('[data-drawing=ranks] canvas').toDataURL()]"""))
    assert colours[0] == colours[1] and colours[0][0] == "rgb(255, 255, 255)"


def test_the_essentials_need_no_scripts(read):
    page = read("job", java_script_enabled=False).read()
    assert page.get_by_role("heading", level=2, name="Input models").is_visible()
    assert page.get_by_role("cell", name="tasks/hiragana").first.is_visible()
    assert page.get_by_text("Layers that lost most").is_hidden()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["job", "survey"])
def test_axe_finds_nothing(read, axe, name, width):
    page = read(name, viewport={"width": width, "height": 800}).read()
    page.locator("[data-drawing=frontier] svg.frontier").wait_for()
    for folded in page.locator("details").all():
        folded.locator("summary").click()
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(row["id"], [node["html"] for node in row["nodes"]])
            for row in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", ["job", "survey"])
def test_it_is_printed(read, name, tmp_path):
    page = read(name).read()
    page.locator("[data-drawing=frontier] svg.frontier").wait_for()
    paper = tmp_path / "report.pdf"
    page.evaluate("""addEventListener("beforeprint", () => {
      window.atPrint = [...document.querySelectorAll(".heat, figure:not([hidden]) > .plot")]
        .map((drawing) => drawing.matches("[data-drawn], .plot:has(canvas)"));
    })""")
    page.pdf(path=paper, format="A4")
    drawn = page.evaluate("atPrint")
    assert all(drawn) and len(drawn) >= (5 if name == "job" else 1)
    assert paper.read_bytes().startswith(b"%PDF-")
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed: what was printed cannot be read")
    text = subprocess.run(["pdftotext", "-layout", paper, "-"], capture_output=True, text=True,
                          timeout=60, check=True).stdout
    for words in ("Error against size", "relative error", "Input models", "tasks/hiragana",
                  "Specification", "Made by"):
        assert words in text, words
    assert "As a table" not in text, "folded tables stay out"


def test_it_is_saved_from_the_page_of_a_job(visit, daemon, finished, wire):
    page = visit(daemon.url).open(f"#/jobs/{finished}")
    page.get_by_role("heading", level=1, name="finished").wait_for()
    with page.expect_download() as begun:
        page.get_by_role("button", name="Save the report").click()
    assert begun.value.suggested_filename == f"report-{finished}.html"
    with open(begun.value.path(), "rb") as file:
        assert file.read() == wire.get(f"/v1/jobs/{finished}/report.html").body
