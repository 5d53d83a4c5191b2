# SPDX-License-Identifier: Apache-2.0
"""For everybody: axe-core in both colour schemes, narrow and wide, by keyboard alone."""

import urllib.parse

import pytest

RUN_AXE = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations.map(({id, help, nodes}) =>
    `${id}: ${help}: ${nodes.map(({html}) => html.slice(0, 200)).join(" | ")}`);
}"""
PLACES = ["#/jobs", "#/jobs?state=failed", "#/jobs/{finished}", "#/jobs/{held}", "#/nothing"]
# every view
AWAITING = [*PLACES[:3], "#/jobs?after=x", "#/new", "#/new?from={finished}",
            "#/new?extend={finished}", "#/new?like={finished}", "#/compare",
            "#/compare?job={finished}&job={finished}", "#/bakeoffs", "#/bakeoffs/{finished}",
            "#/models", "#/webhooks", "#/webhooks/{finished}", "#/hooks", "#/hooks/{finished}",
            "#/tokens", "#/server"]


def violations(page, axe):
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe)
    return page.evaluate(RUN_AXE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, daemon, axe, finished, held, scheme):
    visitor = visit(daemon.url, color_scheme=scheme)
    for place in PLACES:
        page = visitor.open(place.format(finished=finished, held=held))
        if "{finished}" in place:
            page.get_by_role("heading", level=2, name="Files").wait_for()
            for summary in page.locator("summary:visible").all():
                summary.click()
        found = violations(page, axe)
        assert not found, f"{place} ({scheme}):\n" + "\n".join(found)


def answer_only(visitor, *paths):
    """Leaves every other request without an answer, so that nothing of it can come meanwhile."""
    answered = {"/v1/whoami", *paths}
    visitor.page.route("**/v1/**", lambda route: route.continue_()
                       if urllib.parse.urlsplit(route.request.url).path in answered else None)


@pytest.mark.parametrize("place", AWAITING)
def test_axe_finds_nothing_before_the_first_answer(visit, daemon, axe, finished, place):
    visitor = visit(daemon.url)
    answer_only(visitor)
    found = violations(visitor.open(place.format(finished=finished)), axe)
    assert not found, "\n".join(found)


def test_a_job_has_no_buttons_before_it_is_known(visit, daemon, axe, finished):
    visitor = visit(daemon.url)
    answer_only(visitor)
    page = visitor.open(f"#/jobs/{finished}")
    buttons = page.locator("main header :is(a.button, button)")
    assert buttons.count() > 0
    assert buttons.locator("visible=true").count() == 0
    page.unroute("**/v1/**")
    answer_only(visitor, f"/v1/jobs/{finished}")
    page.reload()
    visitor.heading("finished")  # its figures and files are yet to come
    page.get_by_role("link", name="Change and merge again").wait_for()
    found = violations(page, axe)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_no_width_needs_scrolling_sideways(visit, daemon, finished, held, width):
    visitor = visit(daemon.url, viewport={"width": width, "height": 900})
    for place in PLACES:
        page = visitor.open(place.format(finished=finished, held=held))
        if "{finished}" in place:
            page.get_by_role("heading", level=2, name="Files").wait_for()
        visitor.wait_for("() => document.documentElement.scrollWidth <= innerWidth")


def test_by_keyboard_alone(visit, daemon, wire, finished):
    visitor = visit(daemon.url)
    page = visitor.open("#/jobs")
    page.get_by_role("link", name="finished").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "finished":
            break
    page.keyboard.press("Enter")
    visitor.heading("finished")
    heat = page.locator(".card").filter(has=page.get_by_role("heading", name="Ranks"))
    heat.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    told = heat.locator(".readout").inner_text()
    ranks = wire.get(f"/v1/jobs/{finished}/ranks").json()
    assert ranks["layers"][0]["tensor"] in told and ranks["tasks"][0] in told
    page.locator(".plot").first.wait_for()
    page.locator(".plot").first.focus()
    page.locator(".plot canvas").first.wait_for()
    page.keyboard.press("End")
    assert page.locator(".curve .readout").first.inner_text().startswith("layers ")
    page.locator("svg.frontier").focus()
    page.keyboard.press("ArrowRight")
    assert "expected" in page.locator(".frontier-figure .readout").inner_text()


def test_states_are_told_to_those_who_listen(visit, daemon, wire, held):
    visitor = visit(daemon.url)
    page = visitor.open("#/jobs")
    page.get_by_role("row").filter(has_text="held").get_by_text("running").wait_for()
    wire.post(f"/v1/jobs/{held}/cancel")
    visitor.wait_for("() => document.querySelector('[aria-live=polite].unseen').textContent"
                     " === 'held: cancelled'")
