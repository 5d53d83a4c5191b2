# SPDX-License-Identifier: Apache-2.0
"""A bake-off in the browser: asked for beside a new merge, followed, read without a mouse."""

import re

from wire import Wire

RESULT_SECONDS = 120


def test_from_models_to_a_table(start_daemon, visit, family, axe):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    visitor = visit(daemon.url)
    page = visitor.open("#/new")
    page.get_by_role("checkbox", name="tasks/latin").check()
    button = page.get_by_role("button", name="Compare every method on them")
    assert not button.is_visible()
    page.get_by_role("checkbox", name="tasks/mnist").check()
    button.click()
    page.wait_for_url(re.compile("#/bakeoffs/[0-9a-z]{26}$"))
    visitor.heading("latin, mnist on base")
    page.locator(".state", has_text="succeeded, ").first.wait_for(timeout=RESULT_SECONDS * 1000)
    bakeoff = page.url.rsplit("/", 1)[1]
    rows = [row for row in wire.get(f"/v1/bakeoffs/{bakeoff}").json()["rows"]
            if row["role"] != "survey"]
    cells = page.locator("tbody tr")
    assert cells.count() == len(rows)
    refused = cells.filter(has_text="regmean")
    assert "refused" in refused.inner_text() and "Gram" in refused.inner_text()
    assert "cannot be compared" in page.locator("main").inner_text()
    drawing = page.get_by_role("img", name="Size against relative error")
    drawing.focus()
    by_size = sorted((row for row in rows if row["ratio"] and row["ratio"] <= 2.3),
                     key=lambda row: (row["ratio"], row["relative_error"]))
    for key, row in (("Home", by_size[0]), ("ArrowRight", by_size[1]), ("End", by_size[-1])):
        page.keyboard.press(key)
        page.locator(".readout", has_text=f"{row['label']}: {row['ratio']:.2f}×").wait_for()
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert not found, [(one["id"], one["nodes"][0]["html"]) for one in found]
    page.get_by_role("link", name="All bake-offs").click()
    visitor.heading("Bake-offs")
    page.get_by_role("link", name="latin, mnist on base").click()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("No bake-offs yet.").wait_for()
