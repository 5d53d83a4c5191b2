# SPDX-License-Identifier: Apache-2.0
"""A new merge in the browser: from the first visit to a result, other sizes, extensions; forms that
survive reloads and are sent once."""

import json
import os
import re
import shlex
import subprocess

import numpy as np
import pytest

import artifacts
import evaluate
import grams
from wire import Wire, specification

RESULT_SECONDS = 180  # for a merge of the demo family, on a loaded machine
TASKS = ["hiragana", "latin", "mnist", "orient"]


class Clicks:
    """Counts what a mouse does."""

    def __init__(self):
        self.count = 0

    def at(self, place, **how):
        self.count += 1
        place.click(**how)


def take_all(visitor, place="#/new"):
    """The form with all models of the demo family taken, its plan there."""
    page = visitor.open(place)
    page.get_by_role("button", name=re.compile("^Take all")).click()
    wait_until_planned(page)
    return page


def wait_until_planned(page):
    page.locator(".plan dt", has_text="Memory").wait_for()


def wait_until_over(page, state="succeeded"):
    page.locator(".state", has_text=state).first.wait_for(timeout=RESULT_SECONDS * 1000)


def job_of(page):
    """The id of the job whose page is open."""
    page.wait_for_url(re.compile("#/jobs/[0-9a-z]{26}$"))
    return page.url.rsplit("/", 1)[1]


def value_of(page, label):
    return page.get_by_label(label, exact=True).input_value()


def test_from_the_first_visit_to_a_result_in_five_clicks(start_daemon, visit, family):
    daemon = start_daemon(family)
    visitor = visit(daemon.url)
    clicks = Clicks()
    page = visitor.open()
    clicks.at(page.get_by_role("link", name="Make the first one"))
    visitor.heading("New merge")
    clicks.at(page.get_by_role("button", name="Take all 4 that fit"))
    clicks.at(page.get_by_role("button", name="Measure the curve first"))
    curve = page.get_by_role("slider", name="Size of the result")
    curve.wait_for(timeout=RESULT_SECONDS * 1000)
    box = curve.bounding_box()
    clicks.at(curve, position={"x": box["width"] * 0.75, "y": box["height"] * 0.5})
    size = float(value_of(page, "Size"))
    assert "error" in page.locator(".size-readout").inner_text()
    clicks.at(page.get_by_role("button", name="Start the merge"))
    made = job_of(page)
    wait_until_over(page)
    page.get_by_role("heading", level=2, name="Files").wait_for()
    assert clicks.count <= 5
    asked = Wire(daemon.url).job(made)["specification"]
    assert asked["budget"] == size and asked["from_job"] is not None
    assert [task["name"] for task in asked["tasks"]] == TASKS


def test_without_the_curve_three_clicks_do(visit, daemon, wire):
    visitor = visit(daemon.url)
    clicks = Clicks()
    page = visitor.open("#/jobs")
    clicks.at(page.get_by_role("link", name="New merge").first)
    clicks.at(page.get_by_role("button", name="Take all 4 that fit"))
    wait_until_planned(page)
    clicks.at(page.get_by_role("button", name="Start the merge"))
    made = job_of(page)
    wait_until_over(page)
    asked = wire.job(made)["specification"]
    assert asked["base"] == "base" and asked["budget"] == 1.4
    assert [task["model"] for task in asked["tasks"]] == [f"tasks/{name}" for name in TASKS]
    assert clicks.count <= 5


def test_the_form_survives_a_reload_and_ends_with_the_job(visit, daemon, wire):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.get_by_label("Task name of tasks/latin").fill("roman")
    page.get_by_label("Weight of tasks/latin").fill("2")
    page.get_by_text("Another size").click()
    page.get_by_label("Size", exact=True).fill("400 kB")
    page.get_by_text("Name and labels").click()
    page.get_by_label("Name", exact=True).fill("kept over a reload")
    page.get_by_label("Labels").fill("made-by=browser")
    page.reload()
    page.get_by_label("Task name of tasks/latin").wait_for()
    assert value_of(page, "Task name of tasks/latin") == "roman"
    assert value_of(page, "Size") == "400 kB"
    wait_until_planned(page)
    page.get_by_label("Size", exact=True).press("Enter")
    asked = wire.job(job_of(page))["specification"]
    assert asked["name"] == "kept over a reload" and asked["labels"] == {"made-by": "browser"}
    assert asked["budget"] == {"bytes": 400000}
    assert asked["tasks"][1] == {"name": "roman", "model": "tasks/latin", "weight": 2}
    page = visitor.open("#/new")
    page.get_by_role("button", name="Take all 4 that fit").wait_for()
    assert page.get_by_text("0 tasks taken").is_visible()


def count_named(wire, name):
    return sum(job["name"] == name for job in wire.get("/v1/jobs?limit=200").json()["data"])


def name_it(page, name):
    page.get_by_text("Name and labels").click()
    page.get_by_label("Name", exact=True).fill(name)


def test_two_presses_are_one_job(visit, daemon, wire):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    name_it(page, "pressed twice")
    page.evaluate("""() => {
      const form = document.querySelector("form.job-form");
      form.requestSubmit();
      form.requestSubmit();
    }""")
    job_of(page)
    assert count_named(wire, "pressed twice") == 1


def test_an_answer_that_is_lost_makes_no_second_job(visit, daemon, wire):
    visitor = visit(daemon.url)
    visitor.allowed.append("ERR_FAILED")
    page = take_all(visitor)
    name_it(page, "lost answer")
    wait_until_planned(page)

    def lose(route):
        if route.request.method == "POST" and "dry_run" not in route.request.url:
            route.fetch()
            route.abort()
        else:
            route.fallback()

    page.route("**/v1/jobs*", lose)
    page.get_by_role("button", name="Start the merge").click()
    page.get_by_text("however often this is sent, it is one job").wait_for()
    page.unroute("**/v1/jobs*")
    assert count_named(wire, "lost answer") == 1
    page.reload()
    wait_until_planned(page)
    page.get_by_role("button", name="Start the merge").click()
    job_of(page)
    assert count_named(wire, "lost answer") == 1


def test_the_curve_of_a_job_gives_another_size(visit, daemon, wire, finished):
    visitor = visit(daemon.url)
    page = visitor.open(f"#/new?from={finished}&budget=1.7")
    curve = page.get_by_role("slider", name="Size of the result")
    curve.wait_for()
    assert value_of(page, "Size") == "1.7"
    curve.focus()
    for key in ("Home", "End"):  # the ends are on the curve, however they are rounded
        page.keyboard.press(key)
        assert curve.get_attribute("aria-valuetext") != "beyond the curve"
    page.keyboard.press("s")
    assert page.get_by_label("S, 1.24 models").is_checked()
    before = float(curve.get_attribute("aria-valuenow"))
    page.keyboard.press("ArrowRight")
    after = float(curve.get_attribute("aria-valuenow"))
    assert after > before and float(value_of(page, "Size")) == pytest.approx(after, rel=1e-3)
    assert page.evaluate("document.activeElement.getAttribute('role')") == "slider"
    assert "error" in curve.get_attribute("aria-valuetext")
    wait_until_planned(page)
    page.get_by_role("button", name="Start the merge").click()
    asked = wire.job(job_of(page))["specification"]
    assert asked["from_job"] == finished
    assert asked["budget"] == pytest.approx(after, rel=1e-3)
    page = visitor.open(f"#/new?from={finished}&budget=2")
    page.get_by_label("L, 2 models").wait_for()
    assert page.get_by_label("L, 2 models").is_checked()


def test_what_was_measured_stays_and_goes_stale(visit, daemon, wire):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.get_by_role("button", name="Measure the curve first").click()
    curve = page.get_by_role("slider", name="Size of the result")
    curve.wait_for(timeout=RESULT_SECONDS * 1000)
    page.reload()
    curve.wait_for()
    page.get_by_label("Weight of tasks/latin").fill("2")
    page.get_by_text("What was measured is of other models or options.").wait_for()
    assert curve.count() == 0
    page.get_by_label("Weight of tasks/latin").fill("")
    curve.wait_for()
    wait_until_planned(page)
    page.get_by_role("button", name="Start the merge").click()
    source = wire.job(job_of(page))["specification"]["from_job"]
    assert wire.job(source)["survey"]


def tab_to(page, name, role="button"):
    """Presses Tab until what has this role and name is reached."""
    wanted = page.get_by_role(role, name=name).first
    wanted.wait_for()
    for _ in range(80):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


def test_a_merge_by_keyboard_alone(visit, daemon, wire):
    visitor = visit(daemon.url)
    page = visitor.open("#/jobs")
    tab_to(page, "New merge", "link")
    page.keyboard.press("Enter")
    visitor.heading("New merge")
    tab_to(page, re.compile("^Take all"))
    page.keyboard.press("Enter")
    wait_until_planned(page)
    tab_to(page, "M, 1.4 models", "radio")
    page.keyboard.press("ArrowLeft")
    wait_until_planned(page)
    tab_to(page, "Start the merge")
    page.keyboard.press("Enter")
    assert wire.job(job_of(page))["specification"]["budget"] == 1.24


def test_the_command_says_the_same(visit, daemon, wire, didictl):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.get_by_label("Weight of tasks/mnist").fill("3")
    name_it(page, "it's \"quoted\"")
    page.get_by_label("Labels").fill("a=b c")
    page.get_by_text("Advanced").click()
    page.get_by_label("Leave as the base has them").fill("*.bias\n*class_embedding")
    page.get_by_label("ranks.weighting").select_option("balanced")
    page.get_by_label("refine.steps").fill("2")
    page.get_by_label("Stored as").select_option("bf16")
    page.get_by_text("As a command and as JSON").click()
    wait_until_planned(page)
    request = json.loads(page.get_by_label("The request, as JSON", exact=True).inner_text())
    command = page.get_by_label("The command", exact=True).inner_text()
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "didictl"
    told = subprocess.run([didictl, *words[1:], "--dry-run", "-o", "json"], capture_output=True,
                          text=True, env={**os.environ, "DIDI_HOST": ""}, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    wanted = wire.post("/v1/jobs?dry_run=true", request).json()["specification"]
    assert json.loads(told.stdout)["specification"] == wanted
    assert wanted["refine"]["steps"] == 2 and wanted["tasks"][2]["weight"] == 3


def test_a_method_brings_its_own_options(visit, daemon, wire):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.get_by_text("Advanced").click()
    page.get_by_label("Method").select_option("task_arithmetic")
    page.get_by_role("heading", level=2, name="Size").wait_for(state="hidden")
    page.get_by_label("scale").fill("0.4")
    wait_until_planned(page)
    page.get_by_role("button", name="Start the merge").click()
    asked = wire.job(job_of(page))["specification"]
    assert asked["method"] == "task_arithmetic" and asked["method_options"] == {"scale": 0.4}


def test_a_method_that_needs_gram_matrices_asks_for_them(start_daemon, visit, family, tmp_path):
    taken = ("latin", "mnist")
    suite = evaluate.Suite(family)
    for task in taken:
        artifacts.write_file(tmp_path / "more" / "grams" / task / "model.safetensors",
                             grams.of_task(suite, task, 2))
    daemon = start_daemon(family, "--models", str(tmp_path / "more"))
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = visitor.open("#/new")
    for task in taken:
        page.get_by_role("checkbox", name=f"tasks/{task}").check()
    wait_until_planned(page)
    asked_for = page.get_by_label("Gram matrices of tasks/latin")
    assert asked_for.is_hidden()
    page.get_by_text("Advanced").click()
    page.get_by_label("Method").select_option("cat")
    page.locator(".fault", has_text="needs the Gram matrices").wait_for()
    assert asked_for.get_attribute("aria-invalid") == "true"
    for task in taken:
        page.get_by_label(f"Gram matrices of tasks/{task}").fill(f"grams/{task}")
    wait_until_planned(page)
    page.get_by_text("As a command and as JSON").click()
    command = page.get_by_label("The command", exact=True).inner_text()
    assert "--set tasks.0.gram=grams/latin" in command
    page.get_by_role("button", name="Start the merge").click()
    made = Wire(daemon.url).wait(job_of(page), "succeeded")
    asked = made["specification"]["tasks"]
    assert [task["gram"] for task in asked] == ["grams/latin", "grams/mnist"]
    page.get_by_role("heading", level=2, name="Files").wait_for()  # its result, without ranks
    page.get_by_role("heading", level=2, name="Error of each task").wait_for()
    page = visitor.open(f"#/new?like={made['id']}")
    asked_for.wait_for()
    assert asked_for.input_value() == "grams/latin"
    page.get_by_text("Advanced").click()
    page.get_by_label("Method").select_option("average")  # takes none: they are not sent
    asked_for.wait_for(state="hidden")
    wait_until_planned(page)
    page.get_by_text("As a command and as JSON").click()
    request = json.loads(page.get_by_label("The request, as JSON", exact=True).inner_text())
    assert request["method"] == "average" and "gram" not in request["tasks"][0]


def test_an_extension_takes_and_gives_tasks(visit, daemon, wire, finished):
    visitor = visit(daemon.url)
    page = visitor.open(f"#/new?extend={finished}")
    page.get_by_role("checkbox", name="latin", exact=True).uncheck()
    page.get_by_role("checkbox", name="tasks/mnist").check()
    page.get_by_role("checkbox", name=re.compile("Also make a full merge")).uncheck()
    page.get_by_text("As a command and as JSON").click()
    wait_until_planned(page)
    command = page.get_by_label("The command", exact=True).inner_text()
    assert "--add mnist=tasks/mnist" in command and "--remove latin" in command
    page.get_by_role("button", name="Start the extension").click()
    made = wire.wait(job_of(page), "succeeded")
    assert [task["name"] for task in made["specification"]["tasks"]] == ["hiragana", "mnist"]
    assert made["specification"]["extend"]["job"] == finished


def test_forms_share_nothing(visit, daemon, finished):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.evaluate("place => { location.hash = place; }", f"#/new?extend={finished}")
    visitor.heading("Extend a merge")
    page.get_by_text("0 tasks taken").wait_for()


def test_models_that_do_not_fit_say_why(start_daemon, visit, tmp_path):
    models = tmp_path / "models"
    layers = {"a.weight": np.ones((64, 48), np.float32), "b.weight": np.ones((40, 64), np.float32)}
    artifacts.write_file(models / "net-base/model.safetensors", layers)
    artifacts.write_file(models / "net-good/model.safetensors",
                         {name: 2 * values for name, values in layers.items()})
    artifacts.write_file(models / "wide/model.safetensors",
                         {"a.weight": np.ones((9, 9), np.float32)})
    (models / "bad").mkdir()
    (models / "bad/model.safetensors").write_bytes(b"\xff" * 64)
    visitor = visit(start_daemon(models).url)
    page = visitor.open("#/new")
    page.get_by_role("button", name="Take the one that fits").click()
    assert page.get_by_label("Task name of net-good").get_attribute("placeholder") == "good"
    unfit = page.get_by_text("2 models do not fit")
    unfit.click()
    wide = page.locator(".model-pick", has_text="wide")
    wide.get_by_text("no floating-point tensor of the base").wait_for()
    page.locator(".model-pick", has_text="bad").get_by_text("broken").wait_for()


def test_many_models_stay_quick_to_choose(start_daemon, visit, tmp_path):
    models = tmp_path / "models"
    for name in ["base", *(f"tune-{n:03}" for n in range(300))]:
        artifacts.write_file(models / name / "model.safetensors",
                             {"a.weight": np.ones((24, 24), np.float32)})
    visitor = visit(start_daemon(models).url)
    page = visitor.open("#/new")
    page.get_by_role("button", name="Take all 300 that fit").wait_for()
    page.get_by_label("Filter models").fill("tune-299")
    page.get_by_label("Filter models").press("Enter")
    page.get_by_role("checkbox", name="tune-299").check()
    page.get_by_label("Filter models").fill("")
    page.get_by_role("checkbox", name="tune-000").wait_for()
    assert page.get_by_text("1 task taken").is_visible()


def test_hostile_names_are_texts(visit, daemon, wire):
    name = "<img src=x onerror=alert(1)>" + "n" * 90
    job = wire.submit(specification(name=name))
    wire.wait(job["id"], "succeeded")
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 404")  # a job of a hostile id
    page = visitor.open(f"#/new?from={job['id']}")
    page.get_by_role("link", name=name).wait_for()
    page = visitor.open(f"#/compare?job={job['id']}&job={job['id']}")
    page.get_by_text(name).first.wait_for()
    page = visitor.open("#/new?from=%3Cimg%20src=x%3E")
    page.get_by_role("alert").wait_for()
    assert page.locator("img").count() == 0


def test_a_task_that_becomes_the_base_is_no_task_any_more(visit, daemon):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    base = page.get_by_label("Base", exact=True)
    first = base.input_value()
    base.select_option("tasks/latin")
    page.get_by_text("3 tasks taken").wait_for()
    base.select_option(first)
    page.get_by_text("3 tasks taken").wait_for()


def size_note(page, size):
    return page.locator(".size").filter(has=page.get_by_role("radio", name=size)).locator(".small")


def test_sizes_say_their_bytes_before_there_is_a_curve(visit, daemon, wire):
    page = take_all(visit(daemon.url))
    size_note(page, "S, 1.24 models").filter(has_text="about").wait_for()
    asked = specification(tasks=[{"name": name, "model": f"tasks/{name}"} for name in TASKS])
    model = 2 * wire.post("/v1/jobs?dry_run=true", asked).json()["parameters"]

    def told(bits):
        texts = []
        for size, models in (("S", 1.24), ("M", 1.4), ("L", 2)):
            text = size_note(page, re.compile(f"^{size},")).inner_text()
            number, unit = re.fullmatch(r"about ([0-9.]+) (kB|MB)", text).groups()
            texts.append(float(number) * {"kB": 1e3, "MB": 1e6}[unit] / (model * models))
        assert texts == pytest.approx([bits / 16] * 3, rel=0.01)

    told(16)
    page.get_by_text("Advanced").click()
    for dtype, bits in (("f32", 32), ("int8", 8), ("", 16)):
        page.get_by_label("Stored as").select_option(dtype)
        size_note(page, re.compile("^S,")).filter(has_text="about").wait_for()
        told(bits)
    page.get_by_role("button", name="Take none").click()
    size_note(page, re.compile("^S,")).wait_for(state="hidden")
    page.get_by_role("button", name=re.compile("^Take all")).click()
    size_note(page, re.compile("^S,")).filter(has_text="about").wait_for()
    told(16)


def test_a_name_is_proposed_and_what_is_typed_stays(visit, daemon, wire):
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.get_by_text("4 tasks on base").wait_for()
    page.get_by_role("checkbox", name="tasks/mnist").uncheck()
    page.get_by_text("Name and labels").click()
    assert value_of(page, "Name") == "hiragana, latin, orient on base"
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("checkbox", name="tasks/latin").uncheck()
    assert value_of(page, "Name") == "mine"
    page.get_by_label("Name", exact=True).fill("")  # none at all is a choice too
    page.get_by_role("checkbox", name="tasks/latin").check()
    page.reload()
    wait_until_planned(page)
    page.get_by_text("Name and labels").click()
    assert value_of(page, "Name") == ""
    page.get_by_role("button", name="Start the merge").click()
    assert wire.job(job_of(page))["name"] == ""
    page = take_all(visitor)
    page.get_by_role("button", name="Start the merge").click()
    assert wire.job(job_of(page))["name"] == "4 tasks on base"
