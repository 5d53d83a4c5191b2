# SPDX-License-Identifier: Apache-2.0
"""Common mistakes in forms: each is answered by what is wrong, where, and what to do."""

import re
import subprocess

import pytest

from test_new_merge import take_all, wait_until_planned
from visitor import Visitor
from wire import HOLD, Wire, specification


def another_size(page, text, unit="models"):
    page.get_by_text("Another size").click()
    page.get_by_label("Size", exact=True).fill(text)
    page.get_by_label("Unit of the size").select_option(unit)


def fill(label):
    return lambda page, text: page.get_by_label(label, exact=True).fill(text)


def unfold(title, label):
    def act(page, text):
        page.get_by_text(title, exact=True).click()
        page.get_by_label(label, exact=True).fill(text)
    return act


def uncheck_all(page, _):
    page.get_by_role("button", name="Take none").click()


def name_twice(page, text):
    page.get_by_label("Task name of tasks/latin").fill(text)
    page.get_by_label("Task name of tasks/mnist").fill(text)


def no_base(page, _):
    page.get_by_label("Base", exact=True).select_option("")


# what -> (how it is made, with which text, where it is told, what is told)
MISTAKES = {
    "no base": (no_base, "", "Base", "Pick the base"),
    "no task": (uncheck_all, "", None, "Take at least one fine-tune"),
    "budget as a percentage": (another_size, "140%", "Size", "140%"),
    "budget that is no number": (another_size, "big", "Size", "big"),
    "budget of zero": (another_size, "0", "Size", "0"),
    "negative budget": (another_size, "-1", "Size", "-1"),
    "budget too small": (another_size, "0.001", "Size", "Choose a larger size"),
    "budget too large": (another_size, "5000", "Size", "1000"),
    "no size": (another_size, "", "Size", "how large the result may be"),
    "bytes that are none": (lambda page, text: another_size(page, text, "bytes"), "12 apples",
                            "Size", "must be a number"),
    "error above one": (lambda page, text: another_size(page, text, "max_error"), "5", "Size", "1"),
    "task twice": (name_twice, "same", "Task name of tasks/mnist", "there twice"),
    "task with a blank": (fill("Task name of tasks/latin"), "two words", "Task name of tasks/latin",
                          "two words"),
    "task of a path": (fill("Task name of tasks/latin"), "../up", "Task name of tasks/latin",
                       "not start with a dot"),
    "weight of zero": (fill("Weight of tasks/latin"), "0", "Weight of tasks/latin", "weight"),
    "weight that is no number": (fill("Weight of tasks/latin"), "heavy", "Weight of tasks/latin",
                                 "weight"),
    "pattern that fits nothing": (unfold("Advanced", "Merge only"), "nothing.*", "Merge only",
                                  "left to merge"),
    "option out of its range": (unfold("Advanced", "refine.tolerance"), "7", "refine.tolerance",
                                "1"),
    "seed that is no number": (unfold("Advanced", "Seed"), "lucky", "Seed", "seed"),
    "label without a value": (unfold("Name and labels", "Labels"), "just words", "Labels",
                              "Write key=value"),
    "label with a blank": (unfold("Name and labels", "Labels"), "a b=c", "Labels", "a b"),
    "priority out of its range": (unfold("Name and labels", "Priority"), "200", "Priority", "100"),
    "name too long": (unfold("Name and labels", "Name"), "n" * 200, "Name", "128"),
}


@pytest.fixture(scope="module")
def tab(browser, daemon):
    """One tab for all mistakes: to load the page takes longer than to make one."""
    visitor = Visitor(browser, daemon.url)
    visitor.allowed.append("status of 422")
    yield visitor
    visitor.close()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_at_its_field(tab, mistake):
    make, text, label, told = MISTAKES[mistake]
    visitor = tab
    visitor.open("#/jobs")
    visitor.heading("Jobs")
    visitor.page.evaluate("sessionStorage.clear()")  # what was begun
    page = take_all(visitor)
    make(page, text)
    page.get_by_role("button", name="Start the merge").click()
    fault = page.locator(".fault").first
    fault.wait_for()
    assert told.lower() in fault.inner_text().lower()
    if label is not None:
        field = page.get_by_label(label, exact=True)
        assert field.get_attribute("aria-invalid") == "true"
        assert field.get_attribute("aria-errormessage") == fault.get_attribute("id")
        visitor.wait_for("() => document.activeElement.getAttribute('aria-invalid') === 'true'")
    assert "#/new" in page.url
    visitor.check()


def test_a_mended_field_is_no_longer_marked(visit, daemon):
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = take_all(visitor)
    another_size(page, "140%")
    page.locator(".fault").wait_for()
    page.get_by_label("Size", exact=True).fill("1.4")
    page.locator(".fault").wait_for(state="detached")
    wait_until_planned(page)
    assert page.get_by_label("Size", exact=True).get_attribute("aria-invalid") is None


def test_a_model_that_went_away(start_daemon, visit, family, tmp_path):
    models = tmp_path / "models"
    subprocess.run(["cp", "-r", family, models], check=True)
    daemon = start_daemon(models)
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = take_all(visitor)
    (models / "tasks/latin/model.safetensors").unlink()
    (models / "tasks/latin").rmdir()
    Wire(daemon.url).post("/v1/models/rescan")
    page.get_by_role("button", name="Start the merge").click()
    fault = page.locator(".fault")
    fault.wait_for()
    assert "tasks/latin" in fault.inner_text()
    assert "Pick a model from the list" in fault.inner_text()
    asked = []
    page.route("**/v1/models?base=*", lambda route: asked.insert(0, route))
    page.reload()
    page.get_by_role("heading", name="Fine-tunes").wait_for()
    while not asked:
        page.wait_for_timeout(20)
    assert page.locator(".model-pick").count() == 0, "nothing is known of them yet"
    asked[0].continue_()
    page.locator(".model-pick", has_text="there is no such model any more").wait_for()


def test_the_server_is_down(start_daemon, visit, family):
    daemon = start_daemon(family)
    visitor = visit(daemon.url)
    visitor.allowed += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]
    page = take_all(visitor)
    daemon.stop()
    page.get_by_role("button", name="Start the merge").click()
    page.get_by_text("Press the button again when it does").wait_for()
    page.get_by_text("This page tries again by itself").wait_for()


def test_the_queue_is_full(start_daemon, visit, family):
    daemon = start_daemon(family, "--queued-jobs-max", "1")
    wire = Wire(daemon.url)
    slow = specification(**HOLD)
    job = wire.submit(slow)
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 503")
    page = take_all(visitor)
    page.get_by_role("button", name="Start the merge").click()
    page.locator(".notices").get_by_text("cancel one").wait_for()
    wire.post(f"/v1/jobs/{job['id']}/cancel")


def test_a_job_that_keeps_nothing(start_daemon, visit, family):
    daemon = start_daemon(family, "--keep-spectra-bytes", "0")
    wire = Wire(daemon.url)
    job = wire.submit(specification())
    wire.wait(job["id"], "succeeded")
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = visitor.open(f"#/new?from={job['id']}")
    page.get_by_text("is not kept any more").wait_for()
    page.get_by_role("link", name="Merge the same models anew").click()
    wait_until_planned(page)
    assert page.get_by_role("checkbox", name="tasks/hiragana").is_checked()


def test_an_extension_that_leaves_nothing(visit, daemon, finished):
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = visitor.open(f"#/new?extend={finished}")
    page.get_by_role("button", name="Start the extension").click()
    page.locator(".fault", has_text="Add a fine-tune").wait_for()
    for name in ("hiragana", "latin"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    page.get_by_role("button", name="Start the extension").click()
    page.get_by_role("alert").filter(has_text=re.compile("task")).first.wait_for()


def test_an_unknown_job(visit, daemon):
    visitor = visit(daemon.url)
    visitor.allowed += ["status of 404", "status of 400"]
    page = visitor.open("#/new?from=00000000000000000000000000")
    page.get_by_text("It may have been deleted").wait_for()


def test_the_disk_is_full(start_daemon, visit, family):
    daemon = start_daemon(family, "--disk-free-min", "100000T")
    visitor = visit(daemon.url)
    page = take_all(visitor)
    page.get_by_role("button", name="Start the merge").click()
    page.wait_for_url(re.compile("#/jobs/[0-9a-z]{26}$"))
    page.get_by_text("It waits for the disk").wait_for()
    page = visitor.open("#/server")
    page.get_by_text("What an administrator should look at").wait_for()
