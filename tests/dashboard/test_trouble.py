# SPDX-License-Identifier: Apache-2.0
"""A server that is away, slow, or wants another token; streams that do not get through."""

import json
import urllib.parse

from wire import HOLD, Wire, specification


def port_of(daemon):
    return urllib.parse.urlsplit(daemon.url).port


def test_the_server_goes_and_comes_back(visit, start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    job = wire.submit(specification(name="survivor", **HOLD))
    wire.wait(job["id"], "running")
    visitor = visit(daemon.url)
    visitor.allowed += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET",
                        "ERR_EMPTY_RESPONSE", "status of 503"]
    page = visitor.open(f"#/jobs/{job['id']}")
    page.locator(".stages [aria-current=step]").wait_for()
    port = port_of(daemon)
    daemon.stop()
    page.get_by_text("The server does not answer.").wait_for()
    visitor.heading("survivor")  # what was there stays
    daemon.start(port)
    page.get_by_text("The server does not answer.").wait_for(state="hidden")
    wire.post(f"/v1/jobs/{job['id']}/cancel")
    page.locator(".state").filter(has_text="cancelled").wait_for()


def test_a_page_that_opens_before_the_server(visit, start_daemon, family):
    daemon = start_daemon(family)
    visitor = visit(daemon.url)
    visitor.allowed += ["ERR_CONNECTION_REFUSED", "ERR_FAILED"]
    visitor.page.route("**/v1/**", lambda route: route.abort())
    page = visitor.open("", wait=".banner:not([hidden])")
    page.get_by_text("It may be starting, or stopped.").wait_for()
    page.unroute("**/v1/**")
    page.get_by_role("button", name="Try now").click()
    visitor.heading("Jobs")


def test_streams_that_are_cut_give_way_to_polls(visit, daemon, held):
    visitor = visit(daemon.url)
    visitor.allowed.append("ERR_FAILED")
    tried = []

    def cut(route):
        tried.append(route.request.url)
        route.abort()

    visitor.page.route("**/events?stream=1", cut)
    with visitor.page.expect_request(lambda request: "wait=20" in request.url):
        visitor.open(f"#/jobs/{held}")
    assert len(tried) >= 3
    visitor.page.get_by_text("stage").first.wait_for()


def test_a_slow_network(visit, daemon, finished):
    visitor = visit(daemon.url)
    session = visitor.context.new_cdp_session(visitor.page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions",
                 {"offline": False, "latency": 300, "downloadThroughput": 50_000,
                  "uploadThroughput": 20_000})
    page = visitor.open(f"#/jobs/{finished}")
    page.get_by_role("heading", level=2, name="Files").wait_for()


def test_sign_in_and_a_token_that_ends(visit, start_daemon, family, token):
    daemon = start_daemon(family)
    first, second = token("submit", "first"), token("admin", "second")
    visitor = visit(daemon.url)
    visitor.allowed += ["status of 401"]
    page = visitor.open("#/jobs?state=failed")
    visitor.heading("Sign in")
    page.get_by_label("Token").fill("didi_nonsense")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("Token").fill(first)
    page.get_by_role("button", name="Sign in").click()
    visitor.heading("Jobs")
    assert page.url.endswith("#/jobs?state=failed")
    wire = Wire(daemon.url)
    login = {"Authorization": f"Bearer {second}"}
    listed = wire.request("GET", "/v1/tokens", headers=login).json()["data"]
    first_id = next(row["id"] for row in listed if row["name"] == "first")
    assert wire.request("DELETE", f"/v1/tokens/{first_id}", headers=login).status == 204
    page.get_by_label("Token").fill(second)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Token").wait_for(state="detached")
    visitor.heading("Jobs")
    page.get_by_text("second").first.wait_for()
    assert page.evaluate("sessionStorage.length") == 1
    assert page.evaluate("localStorage.length") == 0


def test_the_token_is_sent_in_the_header_alone(visit, start_daemon, family, token):
    daemon = start_daemon(family)
    secret = token("admin")
    visitor = visit(daemon.url, token=secret)
    seen = []
    visitor.page.on("request", lambda request: seen.append(request))
    visitor.open("#/jobs")
    visitor.page.get_by_text("No jobs yet.").wait_for()
    asked = [request for request in seen if "/v1/" in request.url]
    sent = {request.headers["authorization"] for request in asked}
    assert sent == {f"Bearer {secret}"}
    assert not any(secret in request.url for request in seen)
    assert all("authorization" not in request.headers for request in seen if "/ui/" in request.url)


def test_a_token_to_look_shows_no_buttons_to_change(visit, start_daemon, family, token):
    daemon = start_daemon(family)
    admin, reader = token("admin"), token("read")
    wire = Wire(daemon.url)
    made = wire.request("POST", "/v1/jobs", json.dumps(specification(name="seen")),
                        {"Authorization": f"Bearer {admin}", "Content-Type": "application/json"})
    assert made.status == 201
    visitor = visit(daemon.url, token=reader)
    page = visitor.open("#/jobs")
    page.get_by_role("link", name="seen").wait_for()
    assert page.locator("main").get_by_role("link", name="New merge").count() == 0
    page.get_by_role("link", name="seen").click()
    page.locator(".state").filter(has_text="succeeded").wait_for()
    assert page.get_by_role("button", name="Delete").count() == 0


def test_one_refusal_does_not_empty_the_list_for_good(visit, daemon, finished):
    visitor = visit(daemon.url)
    visitor.allowed.append("status of (503|429)")
    page = visitor.open("#/jobs?state=succeeded")
    job = page.get_by_role("link", name="finished").first
    job.wait_for()

    def refuse_once(status):
        refusal = json.dumps({"type": "about:blank", "title": f"Refused by {status}"})
        page.route("**/v1/jobs?**", lambda route: route.fulfill(
            status=status, content_type="application/problem+json", body=refusal), times=1)

    for status in (503, 429):
        refuse_once(status)  # the same answer as before brings the rows back
        page.get_by_text(f"Refused by {status}").wait_for()
        page.get_by_text(f"Refused by {status}").wait_for(state="detached")
        job.wait_for()
