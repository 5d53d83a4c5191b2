# SPDX-License-Identifier: Apache-2.0
"""The list of jobs and a job's page, as somebody sees them."""

import json
import pathlib
import re

import pytest

from wire import Wire, specification

WEB = pathlib.Path(__file__).resolve().parents[2] / "daemon/dashboard/web"
NAMES = ["<img src=x onerror=alert(1)><script>alert(2)</script>",
         "right\u202eto left\u200bno width", "&lt;b&gt; \"quoted\" '); DROP", "w" * 128, "名前 🧪 ñ"]


def test_an_empty_list_says_what_to_do(visit, start_daemon, family):
    page = visit(start_daemon(family).url).open()
    page.get_by_text("No jobs yet.").wait_for()
    button = page.locator("main").get_by_role("link", name="New merge")
    assert button.get_attribute("href") == "#/new"
    assert page.title() == "Jobs · didid"


def test_a_job_is_watched_from_the_list_to_its_result(visit, start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    visitor = visit(daemon.url)
    page = visitor.open()
    page.get_by_text("No jobs yet.").wait_for()
    job = wire.submit(specification(name="watched"))
    page.get_by_role("link", name="watched").wait_for()
    row = page.get_by_role("row").filter(has_text="watched")
    row.get_by_text("succeeded").wait_for()
    row.get_by_role("link", name="watched").click()
    page.get_by_role("heading", level=1, name="watched").wait_for()
    for title in ("Error against size", "Error of each task", "Ranks", "Similarity of tasks",
                  "Layers that lost most", "Files", "Take it away", "While it ran", "Log"):
        page.get_by_role("heading", level=2, name=title, exact=True).wait_for()
    for artifact in wire.get(f"/v1/jobs/{job['id']}/artifacts").json()["data"]:
        line = page.get_by_role("row").filter(has_text=artifact["name"])
        assert artifact["sha256"] in line.inner_text()
    commands = page.locator("pre.command").all_inner_texts()
    assert any(f"didictl --host {daemon.url} pull {job['id']} out" in text for text in commands)
    page.locator(".curves").scroll_into_view_if_needed()
    visitor.wait_for("() => document.querySelectorAll('.curve canvas').length === 3")


def test_a_running_job_moves(visit, daemon, held):
    visitor = visit(daemon.url)
    page = visitor.open(f"#/jobs/{held}")
    page.locator(".stages [aria-current=step]").wait_for()
    page.get_by_text(re.compile(r"\d+ %, \d+:\d\d so far")).wait_for()
    before = page.locator("progress").evaluate("bar => bar.value")
    visitor.wait_for("before => document.querySelector('progress').value > before", before)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    page.locator(".state").filter(has_text="cancelled").wait_for()
    page.get_by_role("button", name="Retry").wait_for()


def test_deep_link_reload_and_back_keep_the_place(visit, daemon, finished):
    visitor = visit(daemon.url, viewport={"width": 900, "height": 500})
    page = visitor.open("#/jobs?state=succeeded")
    page.get_by_role("link", name="finished").first.click()
    visitor.heading("finished")
    page.get_by_role("heading", level=2, name="Files").wait_for()
    page.evaluate("window.scrollTo(0, 700)")
    page.evaluate("location.hash = '#/jobs'")  # a click would scroll to the link first
    visitor.heading("Jobs")
    visitor.wait_for("() => window.scrollY === 0")
    page.go_back()
    visitor.heading("finished")
    visitor.wait_for("() => Math.abs(window.scrollY - 700) < 5")
    page.reload()
    visitor.heading("finished")
    page.go_back()
    page.wait_for_url(re.compile(r"#/jobs\?state=succeeded$"))
    assert page.locator(".chips [aria-current]").inner_text().startswith("succeeded")


def test_unknown_places(visit, daemon):
    visitor = visit(daemon.url)
    visitor.allowed.append("404")
    visitor.open("#/nothing/here")
    visitor.heading("There is no such page")
    page = visitor.open("#/jobs/" + "0" * 26)
    page.get_by_role("alert").wait_for()
    visitor.open("#/jobs/%zz")
    visitor.heading("There is no such page")


def test_names_harm_nothing(visit, daemon, wire):
    visitor = visit(daemon.url, viewport={"width": 360, "height": 740})
    ids = [wire.submit(specification(name=name))["id"] for name in NAMES]
    page = visitor.open("#/jobs")
    for name in NAMES:
        shown = name.replace("\u202e", "\\u{202e}").replace("\u200b", "\\u{200b}")
        page.get_by_role("link", name=shown, exact=True).first.wait_for()
    for id_ in ids:
        visitor.open(f"#/jobs/{id_}")
        visitor.wait_for("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("main img, main script").count() == 0
    for id_ in ids:
        wire.wait(id_, "succeeded")


@pytest.mark.parametrize("seen", ["while it runs", "when it is over"])
def test_a_failed_job_says_why_and_what_to_do(visit, start_daemon, family, seen):
    daemon = start_daemon(family, environment={"DIDI_FAULT": "publish:1:ENOSPC"})
    wire = Wire(daemon.url)
    job = wire.submit(specification(name="unlucky"))
    failed = wire.wait(job["id"], "failed", "succeeded")
    assert failed["state"] == "failed"
    visitor = visit(daemon.url)
    page = visitor.open(f"#/jobs/{job['id']}")
    page.get_by_text(failed["error"]["detail"]).wait_for()
    log = page.get_by_role("region", name="Log")
    log.get_by_text("failed").wait_for()
    asks = f"**/v1/jobs/{job['id']}"
    held = []
    if seen == "when it is over":
        page.route(asks, lambda route: held.append(route))
    with page.expect_response("**/retry"):
        page.get_by_role("button", name="Retry").click()
    if seen == "when it is over":
        wire.wait(job["id"], "succeeded")
        visitor.wait_for("() => true")  # the request is noted
        assert held
        page.unroute(asks)  # they go on
    page.locator(".state").filter(has_text="succeeded").wait_for()
    log.get_by_text("attempt 2, succeeded").wait_for()  # the log goes on with the second attempt


def test_a_thousand_jobs_are_paged(visit, start_daemon, family):
    daemon = start_daemon(family, "--disk-free-min", "1000T")
    wire = Wire(daemon.url)
    for number in range(1000):
        wire.submit(specification(name=f"job {number:03}"))
    visitor = visit(daemon.url)
    page = visitor.open("#/jobs")
    page.get_by_role("link", name="job 999").wait_for()
    page.get_by_role("link", name="all 1000").wait_for()
    page.get_by_text("waits for disk").first.wait_for()
    assert page.get_by_role("row").count() == 51
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="job 949").wait_for()
    page.reload()
    page.get_by_role("link", name="job 949").wait_for()
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="job 899").wait_for()
    page.get_by_role("button", name="Back").click()
    page.get_by_role("link", name="job 949").wait_for()
    page.get_by_role("link", name="Newest").click()
    page.get_by_role("link", name="job 999").wait_for()


def test_updates_keep_focus_and_choice(visit, daemon, wire, held):
    visitor = visit(daemon.url)
    page = visitor.open("#/jobs")
    box = page.get_by_role("checkbox", name="Choose held").first
    box.check()
    box.focus()
    other = wire.submit(specification(name="newer"))
    wire.wait(other["id"], "succeeded")
    row = page.get_by_role("row").filter(has_text="newer").first
    row.get_by_text("succeeded").wait_for()
    assert box.is_checked()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Choose held"
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare 2 jobs").wait_for()


def top_of(page, heading):
    found = page.get_by_role("heading", level=2, name=heading, exact=True)
    found.wait_for()
    return found.bounding_box()["y"]


def test_how_to_take_it_away_stands_below_the_figures(visit, daemon, finished):
    page = visit(daemon.url).open(f"#/jobs/{finished}")
    page.get_by_role("heading", level=2, name="Files").wait_for()
    figures = page.locator(".figures").bounding_box()
    ways = top_of(page, "Take it away")
    assert figures["y"] + figures["height"] <= ways < top_of(page, "Error against size")
    assert ways < 800, "seen without scrolling"
    page.get_by_text(f"pull {finished} out --format full").first.wait_for()
    page.get_by_text("Other ways").click()
    page.get_by_text("--format peft").first.wait_for()
    page.get_by_text(f"pull {finished} out --format router").wait_for()


def test_words_are_explained_by_keyboard_and_by_touch(visit, daemon, finished, held):
    visitor = visit(daemon.url, has_touch=True)
    page = visitor.open(f"#/jobs/{finished}")
    button = page.get_by_role("button", name='What "Shared explains" means')
    meaning = page.get_by_text("in the part that all tasks share, without")
    button.focus()
    assert meaning.is_hidden() and button.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    meaning.wait_for()
    assert button.get_attribute("aria-expanded") == "true"
    button.tap()
    meaning.wait_for(state="hidden")
    page.locator("p.about", has_text="pursue: finds what tasks share").wait_for()
    page.locator(".curve").last.get_by_text("How many times a single model is stored").wait_for()
    page = visitor.open(f"#/jobs/{held}")
    page.get_by_text("What the stages do").tap()
    for words in ("takes the task vectors apart", "fits what is stored"):
        page.locator("details").get_by_text(words).wait_for()


def test_which_error_is_measured_and_which_expected(visit, daemon, finished):
    page = visit(daemon.url).open(f"#/jobs/{finished}")
    page.locator(".figures", has_text="measured, of what the fine-tunes changed").wait_for()
    card = page.locator(".card").filter(has=page.get_by_role("heading", name="Error against size"))
    card.get_by_text("Expected: foreseen before").wait_for()
    card.get_by_text("Measured: of what is stored.").wait_for()


def test_drawings_are_made_when_they_are_seen(visit, daemon, finished):
    visitor = visit(daemon.url, viewport={"width": 1280, "height": 300})
    events = []  # held back until the page has the rest: curves are near before
    visitor.page.route("**/events?*", lambda route: route.continue_() if events is None
                       else events.append(route))
    page = visitor.open(f"#/jobs/{finished}")
    page.get_by_role("heading", level=2, name="Files").wait_for()
    heat = page.locator(".card").filter(has=page.get_by_role("heading", name="Ranks"))
    canvas = heat.locator("canvas")
    room = canvas.bounding_box()
    held, events = events, None
    for route in held:
        route.continue_()
    page.locator(".curves figure").first.wait_for()
    assert canvas.evaluate("canvas => canvas.width") == 0 and room["width"] > 100
    assert page.locator(".plot canvas").count() == 0
    heat.scroll_into_view_if_needed()
    heat.locator("[data-drawn]").wait_for()
    assert canvas.evaluate("canvas => canvas.width") > 0
    assert canvas.bounding_box()["width"] == room["width"]
    page.locator(".curves").scroll_into_view_if_needed()
    page.locator(".plot canvas").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    visitor.wait_for("() => [...document.querySelectorAll('.heat canvas')].every("
                     "canvas => canvas.width === 0)")


def test_a_failed_job_is_changed_and_tried_again(start_daemon, visit, family):
    daemon = start_daemon(family, environment={"DIDI_FAULT": "publish:1:ENOSPC"})
    wire = Wire(daemon.url)
    asked = specification(name="unlucky", budget={"bytes": 300000}, labels={"a": "b"}, seed=7,
                          output={"dtype": "int8"}, refine={"steps": 3})
    asked["tasks"][1]["weight"] = 2
    job = wire.submit(asked)
    wire.wait(job["id"], "failed")
    visitor = visit(daemon.url)
    page = visitor.open(f"#/jobs/{job['id']}")
    page.get_by_role("link", name="Change and try again").click()
    visitor.heading("New merge")
    page.locator(".plan dt", has_text="Memory").wait_for()
    page.get_by_text("As a command and as JSON").click()
    request = json.loads(page.get_by_label("The request, as JSON", exact=True).inner_text())
    plan = wire.post("/v1/jobs?dry_run=true", request).json()["specification"]
    assert plan == wire.job(job["id"])["specification"]
    page.get_by_label("Size", exact=True).fill("400 kB")
    page.get_by_role("button", name="Start the merge").click()
    page.wait_for_url(re.compile(r"#/jobs/(?!%s)[0-9a-z]{26}$" % job["id"]))
    made = wire.job(page.url.rsplit("/", 1)[1])["specification"]
    assert made["budget"] == {"bytes": 400000} and made["tasks"] == plan["tasks"]


def test_a_merge_from_a_survey_is_changed_and_starts_from_it_again(visit, daemon, wire):
    asked = specification(survey=True)
    del asked["budget"]
    survey = wire.submit(asked)["id"]
    wire.wait(survey, "succeeded")
    job = wire.submit({"from_job": survey, "budget": "S"})["id"]
    wire.wait(job, "succeeded")
    page = visit(daemon.url).open(f"#/jobs/{job}")
    page.get_by_role("link", name="Change and merge again").click()
    page.get_by_role("slider", name="Size of the result").wait_for()
    page.get_by_label("L, 2 models").check()
    page.locator(".plan dt", has_text="Memory").wait_for()
    page.get_by_role("button", name="Start the merge").click()
    page.wait_for_url(re.compile(r"#/jobs/(?!%s)[0-9a-z]{26}$" % job))
    assert wire.job(page.url.rsplit("/", 1)[1])["specification"]["from_job"] == survey


DRAW_ZEROS = """async () => {
  const load = (name) => import(new URL(`drawings/${name}.js`, document.baseURI));
  const [{ curve }, { frontier }] = [await load("curve"), await load("frontier")];
  const lines = curve({ label: "falls to 0", stepName: "steps" });
  const place = document.querySelector("main");
  const points = [{ x: 1, error: 0.5 }, { x: 2, error: 0.001 }, { x: 3, error: 0 }];
  place.replaceChildren(lines.node, frontier({ label: "to 0", points, chosen: null, marks: [],
    xName: "size", formatX: String, tell: (x, error) => `error ${error}` }));
  lines.update([{ name: "loss", xs: [1, 2, 3, 4], ys: [100, 1, 0.5, 0] }]);
}"""


def test_errors_of_zero_are_drawn_by_logarithms(visit, start_daemon, family):
    visitor = visit(start_daemon(family, "--dashboard-dir", str(WEB)).url)
    page = visitor.open("#/nothing")
    page.evaluate(DRAW_ZEROS)
    page.locator(".curve canvas").wait_for()
    page.get_by_text("By logarithms, which 0 has none of").wait_for()
    page.locator(".plot").focus()
    page.keyboard.press("End")
    page.get_by_text("steps 4: loss 0").wait_for()
    drawing = page.locator("svg.frontier")
    drawing.get_by_text("by logarithms but for 0").wait_for()
    heights = [float(place.split(" ")[1]) for place in
               drawing.locator("path.line").get_attribute("d").replace("M", "L").split("L")[1:]]
    edge = float(drawing.locator("text.tick", has_text=re.compile("^0$")).get_attribute("y")) - 4
    assert heights[1] < heights[2] - 5 and heights[2] == edge
