#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of the dashboard in docs/images: pictures.py BUILD

A daemon merges the demo family, Chromium looks at it."""

import pathlib
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
IMAGES = TESTS.parent / "docs/images"
sys.path[:0] = [str(TESTS), str(TESTS / "api")]

import chromium  # noqa: E402 (paths come first)
from service import Daemon  # noqa: E402
from wire import HOLD, Wire  # noqa: E402

TASKS = ["hiragana", "latin", "mnist", "orient"]
SIZE = {"width": 1200, "height": 800}


def submit(wire, name, budget, **fields):
    tasks = [{"name": task, "model": f"tasks/{task}"} for task in TASKS]
    return wire.submit({"name": name, "base": "base", "budget": budget, "tasks": tasks,
                        **fields})["id"]


def settle(page):
    page.wait_for_load_state("load")
    page.wait_for_function("document.querySelector('.waiting') === null")
    page.wait_for_timeout(1500)


def take(browser, url, place, name, scheme="light", **options):
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{url}/ui/{place}")
    page.wait_for_selector("h1")
    settle(page)
    if "act" in options:
        options["act"](page)
        settle(page)
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()
    print(IMAGES / f"{name}.png")


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium.playwright(build) as driver:
        state = pathlib.Path(scratch) / "state"
        state.mkdir()
        with Daemon(build / "daemon/didid", state, TESTS / "family/glyphmini") as daemon:
            wire = Wire(daemon.url)
            done = submit(wire, "four scripts, size S", "S")
            wire.wait(submit(wire, "four scripts, half a model", 0.5), "succeeded")
            wire.wait(done, "succeeded")
            held = submit(wire, "four scripts, ranks by gradient", 1.3, **HOLD)
            wire.wait(held, "running")
            browser = chromium.launch(driver)
            take(browser, daemon.url, "#/jobs", "dashboard-jobs")
            take(browser, daemon.url, f"#/jobs/{done}", "dashboard-job")
            take(browser, daemon.url, f"#/jobs/{done}", "dashboard-job-dark", scheme="dark")
            take(browser, daemon.url, f"#/new?from={done}", "dashboard-new")
            browser.close()
            wire.post(f"/v1/jobs/{held}/cancel")


if __name__ == "__main__":
    main()
