# SPDX-License-Identifier: Apache-2.0
"""Models, webhooks, hooks, tokens and the server's state in the browser."""

import json
import re
import subprocess

import pytest

from hub import Hub
from receiver import Receiver
from test_access import violations
from wire import Wire

READ = {"#/jobs": "Jobs", "#/compare": "Compare jobs", "#/models": "Models", "#/server": "Server"}
MORE = {"#/new": "submit", "#/webhooks": "admin", "#/hooks": "admin", "#/tokens": "admin"}
SUBMIT = {"kind": "generic", "verify": {"signature_header": "X-Signature"},
          "rules": [{"name": "merge", "when": [{"at": "/type", "equals": "done"}],
                     "submit": {"base": "base", "budget": 1.3,
                                "tasks": [{"name": "latin", "model": "tasks/latin"}]}}]}


def shown_secret(page):
    """The text of the dialog that shows a secret, which is closed then."""
    dialog = page.get_by_role("dialog")
    text = dialog.locator("pre").inner_text()
    dialog.get_by_role("button", name=re.compile("Close|Done")).click()
    dialog.wait_for(state="detached")
    return text


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


@pytest.fixture
def hub():
    running = Hub()
    yield running
    running.stop()


def test_a_webhook_from_the_first_to_the_last_click(start_daemon, visit, family, receiver):
    daemon = start_daemon(family, "--webhook-private", "1")
    wire = Wire(daemon.url)
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = visitor.open("#/webhooks")
    page.get_by_text("Add a webhook").click()
    page.get_by_label("Address").fill("not an address")
    page.get_by_role("button", name="Add").click()
    page.locator(".fault").first.wait_for()
    assert page.get_by_label("Address").get_attribute("aria-invalid") == "true"
    page.get_by_label("Address").fill(receiver.url + "/told")
    page.get_by_label("Description").fill("<b>ours</b>")
    page.get_by_role("checkbox", name="job.succeeded").check()
    page.get_by_role("button", name="Add").click()
    secret = shown_secret(page)
    assert secret.startswith("whsec_")
    visitor.heading(receiver.url + "/told")
    receiver.answers.append((500, {}, b"<script>no</script>"))
    page.get_by_role("button", name="Send a test").click()
    row = page.get_by_role("row").filter(has_text="webhook.test")
    row.get_by_text("500").wait_for()
    assert receiver.wait(1)[0].signed_by(secret)
    row.get_by_role("button", name=re.compile("^Send again")).click()
    row.get_by_text("succeeded").wait_for()
    row.get_by_role("button", name=re.compile("^Details")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("thanks").wait_for()
    page.keyboard.press("Escape")
    page.get_by_label("When the old secret ends").select_option("0")
    page.get_by_role("button", name="New secret").click()
    fresh = shown_secret(page)
    assert fresh != secret
    page.get_by_role("button", name="Send a test").click()
    assert receiver.wait(3)[-1].signed_by(fresh)
    page.get_by_role("button", name="Disable").click()
    page.get_by_role("button", name="Enable").wait_for()
    page.get_by_text("Change", exact=True).click()
    page.get_by_label("Description").fill("changed")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("disabled changed").wait_for()
    webhook = wire.get("/v1/webhooks").json()["data"][0]
    assert (webhook["description"], webhook["enabled"]) == ("changed", False)
    assert webhook["events"] == ["job.succeeded"]
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("No webhooks yet.").wait_for()
    assert wire.get("/v1/webhooks").json()["data"] == []


def test_a_hook_is_made_tried_and_removed(visit, daemon, wire):
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 422")
    page = visitor.open("#/hooks")
    page.get_by_text("Add a hook").click()
    page.get_by_label("Name", exact=True).fill("registry")
    definition = page.get_by_label("Definition")
    definition.fill('{"kind": "generic",\n "rules": [}')
    page.get_by_role("button", name="Add").click()
    page.locator(".fault", has_text="Line 2").wait_for()
    wrong = {**SUBMIT, "rules": [{**SUBMIT["rules"][0], "when": [{"at": "type", "equals": "x"}]}]}
    definition.fill(json.dumps(wrong, indent=1))
    page.get_by_role("button", name="Add").click()
    page.locator(".fault", has_text="/rules/0/when/0").wait_for()
    selected = page.evaluate("""() => {
      const {value, selectionStart, selectionEnd} = document.activeElement;
      return value.slice(selectionStart, selectionEnd);
    }""")
    assert "type" in selected
    definition.fill(json.dumps(SUBMIT))
    page.get_by_role("button", name="Add").click()
    assert len(shown_secret(page)) >= 16
    visitor.heading("registry")
    page.get_by_label("Payload").fill('{"type": "other"}')
    page.get_by_role("button", name="Try", exact=True).click()
    page.get_by_text("No rule matches.").wait_for()
    page.get_by_label("Payload").fill('{"type": "done"}')
    page.get_by_role("button", name="Try", exact=True).click()
    page.get_by_text("Rule merge matches.").wait_for()
    page.get_by_text("It gives a merge of at most").wait_for()
    assert wire.get("/v1/hooks/registry/deliveries").json()["data"] == []
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("No hooks yet.").wait_for()


@pytest.mark.parametrize("kind", ["generic", "mlflow", "huggingface", "wandb", "github"])
def test_each_example_of_a_hook_is_taken_and_its_payload_matches(start_daemon, visit, family, kind):
    daemon = start_daemon(family)
    visitor = visit(daemon.url)
    page = visitor.open("#/hooks")
    page.get_by_text("Add a hook").click()
    page.get_by_label("Example to begin with").select_option(kind)
    page.get_by_label("Name", exact=True).fill(f"example-{kind}")
    page.get_by_role("button", name="Add").click()
    shown_secret(page)
    visitor.heading(f"example-{kind}")
    page.get_by_role("button", name="Try", exact=True).click()
    page.locator(".notice.good").wait_for()


def test_tokens_from_the_first_on(start_daemon, visit, family):
    daemon = start_daemon(family)
    visitor = visit(daemon.url)
    visitor.allowed += ["status of 401", "status of 422"]
    page = visitor.open("#/tokens")
    page.get_by_text("Create a token").click()
    page.get_by_text("the server asks everybody for one").wait_for()
    page.get_by_label("Name", exact=True).fill("two words")
    page.get_by_role("button", name="Create").click()
    page.locator(".fault").first.wait_for()
    page.get_by_label("Name", exact=True).fill("me")
    page.get_by_label("Scope").select_option("admin")
    page.get_by_role("button", name="Create").click()
    dialog = page.get_by_role("dialog")
    secret = dialog.locator("pre").inner_text()
    assert re.fullmatch("didi_[0-9A-Za-z]{49}", secret)
    dialog.get_by_text("This tab goes on with it.").wait_for()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("row").filter(has_text="me (yours)").wait_for()
    page.get_by_role("button", name="Sign out").wait_for()


def test_a_first_token_of_little_scope_is_shown_before_the_server_asks_for_it(start_daemon, visit,
                                                                             family):
    visitor = visit(start_daemon(family).url)
    visitor.allowed += ["status of (401|403)"]
    page = visitor.open("#/tokens")
    page.get_by_text("Create a token").click()
    page.get_by_label("Name", exact=True).fill("reader")
    page.get_by_label("Scope").select_option("read")
    page.get_by_role("button", name="Create").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("It is shown this once.").wait_for()
    secret = dialog.locator("pre").inner_text()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("heading", name="Sign in again").wait_for()
    page.get_by_label("Token", exact=True).fill("didi_\u0142")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("This is no token").wait_for()
    page.get_by_label("Token", exact=True).fill(secret)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def test_a_token_that_ends_leaves_the_form_as_it_is(start_daemon, visit, family, token):
    daemon = start_daemon(family)
    first = token("admin", "first")
    visitor = visit(daemon.url, token=first)
    visitor.allowed.append("status of 401")
    page = visitor.open("#/new")
    page.get_by_role("button", name="Take all 4 that fit").click()
    page.get_by_label("Task name of tasks/latin").fill("roman")
    page.locator(".plan dt", has_text="Memory").wait_for()
    second = token("admin", "second")
    wire = Wire(daemon.url)
    mine = wire.get("/v1/whoami", Authorization=f"Bearer {first}").json()["id"]
    wire.request("DELETE", f"/v1/tokens/{mine}", None, {"Authorization": f"Bearer {second}"})
    page.get_by_role("button", name="Start the merge").click()
    page.get_by_role("heading", name="Sign in again").wait_for()
    page.get_by_label("Token", exact=True).fill("didi_wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("dialog").get_by_role("alert").wait_for()
    page.get_by_label("Token", exact=True).fill(second)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("#/jobs/[0-9a-z]{26}$"))
    job = wire.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}",
                   Authorization=f"Bearer {second}").json()
    assert job["specification"]["tasks"][1]["name"] == "roman"


def test_signing_out_forgets_the_token(start_daemon, visit, family, token):
    daemon = start_daemon(family)
    made = token("read")
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 401")
    page = visitor.open("#/models")
    visitor.heading("Sign in")
    page.get_by_label("Token", exact=True).fill(made)
    page.keyboard.press("Enter")
    visitor.heading("Models")
    page.evaluate("sessionStorage.setItem('didid-draft-webhook', '{}')")
    page.get_by_role("button", name="Sign out").click()
    visitor.heading("Sign in")
    assert page.evaluate("sessionStorage.length") == 0  # neither the token nor what was typed
    page.reload()
    visitor.heading("Sign in")


def test_a_token_that_may_only_read(start_daemon, visit, family, token):
    daemon = start_daemon(family)
    visitor = visit(daemon.url, token=token("read"))
    for place, heading in READ.items():
        page = visitor.open(place)
        visitor.heading(heading)
    page.get_by_role("navigation", name="Main").wait_for()
    assert page.get_by_role("link", name="Tokens").count() == 0
    for place, scope in MORE.items():
        page = visitor.open(place)
        visitor.heading("Your token does not allow this")
        page.get_by_text(f"It needs the scope {scope}.").wait_for()
    page = visitor.open("#/models")
    page.get_by_text("5 models").wait_for()
    assert page.get_by_role("button", name="Rescan").count() == 0
    assert page.get_by_text("Fetch a model").count() == 0


def test_models_tensors_and_what_is_broken(start_daemon, visit, family, tmp_path):
    models = tmp_path / "models"
    subprocess.run(["cp", "-r", family, models], check=True)
    (models / "bad").mkdir()
    (models / "bad/model.safetensors").write_bytes(b"\xff" * 64)
    daemon = start_daemon(models)
    visitor = visit(daemon.url)
    visitor.allowed.append("status of 409")
    page = visitor.open("#/models")
    page.get_by_text("6 models, 1 broken").wait_for()
    page.locator("li", has_text="bad").locator(".fault", has_text="header").wait_for()
    page.get_by_text("tasks/latin", exact=True).click()
    page.get_by_role("rowheader", name="vision_model.embeddings.class_embedding").wait_for()
    page.get_by_role("button", name="Remove tasks/latin").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_role("alert").wait_for()  # it lies in a directory of the operator's
    subprocess.run(["cp", "-r", models / "base", models / "second"], check=True)
    page.get_by_role("button", name="Rescan the model directories").click()
    page.get_by_text("7 models, 1 broken").wait_for()


def test_a_fetch_is_watched_and_cancelled(start_daemon, visit, family, hub, tmp_path):
    weights = (family / "tasks/latin/model.safetensors").read_bytes()
    hub.repositories["org/tuned"] = {"model.safetensors": weights, "config.json": b"{}"}
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    daemon = start_daemon(family, "--fetch-dir", str(fetched), "--hub-endpoint", hub.url,
                          "--fetch-hosts", "localhost,127.0.0.1", "--fetch-private", "1")
    visitor = visit(daemon.url)
    visitor.allowed += ["status of 422", "status of 409"]
    page = visitor.open("#/models")
    page.get_by_text("Fetch a model").click()
    page.get_by_label("Source").fill("ftp://nowhere")
    page.get_by_role("button", name="Fetch", exact=True).click()
    page.locator(".field .fault").first.wait_for()
    hub.gate.clear()
    page.get_by_label("Source").fill("hf:org/tuned")
    page.get_by_role("button", name="Fetch", exact=True).click()
    row = page.get_by_role("row").filter(has_text="hf:org/tuned")
    row.first.get_by_role("button", name="Cancel").click()
    row.first.get_by_text("cancelled").wait_for()
    hub.gate.set()
    page.get_by_label("Source").fill("hf:org/tuned")
    page.get_by_role("button", name="Fetch", exact=True).click()
    row.get_by_text("succeeded").wait_for()
    page.get_by_text("6 models").wait_for()


def test_an_open_upload_is_shown(start_daemon, visit, family, tmp_path):
    place = tmp_path / "uploads"
    place.mkdir()
    daemon = start_daemon(family, "--models", str(place), "--upload-dir", str(place))
    wire = Wire(daemon.url)
    data = (family / "tasks/latin/model.safetensors").read_bytes()
    begun = wire.post("/v1/models/uploads", {"name": "pushed", "files": [
        {"name": "model.safetensors", "bytes": len(data), "sha256": "0" * 64}]})
    assert begun.status == 201, begun.body
    visitor = visit(daemon.url)
    page = visitor.open("#/models")
    row = page.get_by_role("row").filter(has_text="pushed")
    row.get_by_text("in 1 file").wait_for()
    row.get_by_role("button", name="Delete the upload of pushed").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")
    assert wire.get("/v1/models/uploads").json()["data"] == []


def test_the_server_tells_how_it_does(visit, daemon, finished):
    visitor = visit(daemon.url)
    page = visitor.open("#/server")
    page.get_by_text("Memory for merges").wait_for()
    page.get_by_role("button", name="Look for trouble").click()
    page.get_by_role("rowheader", name="database").wait_for()
    page.get_by_role("button", name=re.compile("^Compare all files")).click()
    page.get_by_text(re.compile("jobs? looked at")).wait_for()


def test_two_jobs_side_by_side(visit, daemon, wire, finished):
    other = wire.submit({"base": "base", "budget": 1.0, "name": "smaller", "from_job": finished})
    wire.wait(other["id"], "succeeded")
    visitor = visit(daemon.url)
    page = visitor.open("#/compare")
    for job in (finished, other["id"]):
        page.get_by_role("listitem").filter(has_text=f"…{job[-6:]}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("heading", name="Side by side").wait_for()
    results = [wire.job(job)["result"]["error"]["per_task"] for job in (finished, other["id"])]
    for task in ("hiragana", "latin"):
        row = page.get_by_role("row", name=re.compile(f"^{task} "))
        text = row.inner_text()
        for result in results:
            assert f"{result[task]:.3g}" in text
    page.get_by_role("heading", name="Where ranks differ most").wait_for()
    page.locator("canvas").first.wait_for()
    page.reload()
    page.get_by_role("heading", name="Side by side").wait_for()


@pytest.fixture
def places(wire, finished):
    """All views of this file, with something in each."""
    hook = wire.request("PUT", "/v1/hooks/shown", json.dumps({**SUBMIT, "secret": "x" * 32}),
                        {"Content-Type": "application/json"})
    assert hook.status in (200, 201), hook.body
    webhook = wire.post("/v1/webhooks", {"url": "https://example.org/" + "long" * 50,
                                         "description": "<i>" + "n" * 200}).json()["id"]
    wire.post(f"/v1/webhooks/{webhook}/test")
    yield [*READ, *MORE, f"#/webhooks/{webhook}", "#/hooks/shown", f"#/new?from={finished}",
           f"#/new?extend={finished}", f"#/compare?job={finished},{finished}"]
    wire.delete(f"/v1/webhooks/{webhook}")
    wire.delete("/v1/hooks/shown")


def open_all(page):
    """Opens what is folded, one model of all, and waits until nothing is loading."""
    page.wait_for_function("() => !document.querySelector('.waiting')")
    page.evaluate("""() => {
        const models = document.querySelectorAll('main details.model');
        for (const part of document.querySelectorAll('main details'))
            part.open = !part.matches('.model') || part === models[0];
    }""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_these_views(visit, daemon, axe, places, scheme):
    visitor = visit(daemon.url, color_scheme=scheme)
    for place in places:
        page = visitor.open(place)
        if place == "#/new":
            page.get_by_role("button", name="Take all 4 that fit").click()
            page.locator(".plan dt", has_text="Memory").wait_for()
        open_all(page)
        found = violations(page, axe)
        assert not found, f"{place} ({scheme}):\n" + "\n".join(found)


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_no_width_needs_scrolling_sideways_here(visit, daemon, places, width):
    visitor = visit(daemon.url, viewport={"width": width, "height": 900})
    for place in places:
        page = visitor.open(place)
        open_all(page)
        visitor.wait_for("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_label_without_a_value_is_told_in_both_forms_of_webhooks(start_daemon, visit, family):
    daemon = start_daemon(family, "--webhook-private", "1")
    Wire(daemon.url).post("/v1/webhooks", {"url": "https://127.0.0.1:9/told"})
    page = visit(daemon.url).open("#/webhooks")
    page.get_by_text("Add a webhook").click()
    for verb, again in (("Add", "127.0.0.1:9/told"), ("Save", None)):
        page.get_by_label("Only jobs with these labels").fill("no value")
        page.get_by_role("button", name=verb, exact=True).click()
        page.locator(".fault", has_text="Write key=value").wait_for()
        if again is not None:
            page.get_by_role("link", name=again).click()
            page.get_by_text("Change", exact=True).click()
