# SPDX-License-Identifier: Apache-2.0
"""Webhooks of registries: who may start what, once."""

import itertools
import json
import pathlib
import time

import pytest

import senders
from hub import COMMIT, Hub
from senders import ALIAS, AUTOMATION, FINISHED, PUSH, RELEASE, SECRET
from service import Daemon
from wire import Wire

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "docs/hooks"
SIGNED = {"mlflow": (senders.mlflow, ALIAS), "wandb": (senders.wandb, AUTOMATION),
          "github": (senders.github, RELEASE), "generic": (senders.generic, FINISHED)}
END_SECONDS = 60
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def daemon(didid, family, tmp_path_factory):
    """Not the one of other tests: their failures would count here."""
    state = tmp_path_factory.mktemp("hooks") / "state"
    state.mkdir()
    with Daemon(didid, state, family) as running:
        yield running


@pytest.fixture(scope="module")
def wire(daemon):
    return Wire(daemon.url)


def example(name):
    return json.loads((EXAMPLES / f"{name}.json").read_text())


def put(wire, name, document, secret=SECRET):
    body = json.dumps({**document, **({"secret": secret} if secret is not None else {})})
    return wire.request("PUT", f"/v1/hooks/{name}", body, {"Content-Type": "application/json"})


def saved(wire, name, document, **more):
    answer = put(wire, name, document, **more)
    assert answer.status in (200, 201), answer.body
    return answer.json()


def send(wire, name, message):
    body, headers = message
    return wire.request("POST", f"/v1/hooks/{name}", body, headers)


def delivery(wire, name, number=0):
    return wire.get(f"/v1/hooks/{name}/deliveries").json()["data"][number]


def ended(wire, name, number=0):
    """The delivery, once it is worked off."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        row = delivery(wire, name, number)
        if row["state"] not in ("pending", "waiting"):
            return row
        time.sleep(0.02)
    raise AssertionError(row)


@pytest.fixture
def hook(wire):
    """hook(document) -> the name of a hook of this test's own."""
    made = []

    def make(document, **more):
        name = f"hook-{next(NUMBERS)}"
        made.append(name)
        saved(wire, name, document, **more)
        return name

    yield make
    for name in made:
        wire.delete(f"/v1/hooks/{name}")


@pytest.mark.parametrize("kind", SIGNED)
def test_a_signed_delivery_starts_one_job(wire, hook, kind):
    sign, payload = SIGNED[kind]
    name = hook(example(kind))
    message = sign(payload)
    answer = send(wire, name, message)
    assert answer.status == 202, answer.body
    first = answer.json()["data"][0]
    row = ended(wire, name)
    assert (row["id"], row["state"], row["reason"]) == (first["id"], "done", None), row
    job = wire.job(row["job"])
    assert job["labels"]["hook"] == name and job["labels"]["delivery"] == row["id"]
    assert {task["model"] for task in job["specification"]["tasks"]} & {"tasks/latin"}
    again = send(wire, name, message)
    assert again.status == 200
    assert again.json()["data"] == [{**first, "state": "done", "job": row["job"],
                                     "repeated": True}]
    assert len(wire.get(f"/v1/jobs?label=hook={name}").json()["data"]) == 1
    assert len(wire.get(f"/v1/hooks/{name}/deliveries").json()["data"]) == 1
    assert wire.wait(row["job"], "succeeded")


@pytest.mark.parametrize(("header", "kept"), [
    ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",) * 2, ("00-ff-ff-01", None)])
def test_a_job_belongs_to_the_trace_of_its_delivery(wire, hook, header, kept):
    name = hook(example("generic"))
    body, headers = senders.generic(FINISHED)
    assert send(wire, name, (body, {**headers, "traceparent": header})).status == 202
    row = ended(wire, name)
    assert wire.job(row["job"])["traceparent"] == kept


def test_templates_are_filled_from_the_payload(wire, hook):
    name = hook(example("mlflow"))
    assert send(wire, name, senders.mlflow(ALIAS)).status == 202
    row = ended(wire, name)
    job = wire.job(row["job"])
    assert job["name"] == "ocr-latin version 3"
    tasks = [(task["name"], task["model"]) for task in job["specification"]["tasks"]]
    assert tasks == [("ocr-latin", "tasks/latin"), ("mnist", "tasks/mnist")]
    assert json.loads(row["excerpt"]) == ALIAS and row["rule"] == "champion"
    assert row["sender_id"] and row["origin"] == "webhook"
    wire.wait(row["job"], "succeeded")


@pytest.mark.parametrize("kind", ["mlflow", "huggingface", "wandb", "github", "generic"])
def test_a_delivery_of_a_stranger_is_refused(start_daemon, family, kind):
    wire = Wire(start_daemon(family).url)
    document = {**example(kind)}
    document.pop("poll", None)
    saved(wire, "mine", document)
    sign, payload = SIGNED.get(kind, (senders.huggingface, PUSH))
    body, headers = sign(payload)
    altered = body.replace(b'"', b' "', 1)
    others = sign(payload, secret="another secret of some characters")
    missing = {key: value for key, value in headers.items() if "sign" not in key.lower()}
    attempts = [others, (body, {key: value + "0" for key, value in headers.items()})]
    if kind != "huggingface":
        attempts += [(altered, headers), (body, missing)]
    for attempt in attempts:
        answer = send(wire, "mine", attempt)
        assert (answer.status, answer.problem()) == (401, "bad-signature"), answer.body
    assert send(wire, "none", (body, headers)).problem() == "unknown-hook"
    assert wire.get("/v1/hooks/mine/deliveries").json()["data"] == []
    assert wire.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("kind, sign", [("mlflow", senders.mlflow), ("generic", senders.generic)])
@pytest.mark.parametrize("away", [-301, 310])
def test_old_and_future_deliveries_are_refused(wire, hook, kind, sign, away):
    name = hook(example(kind))
    answer = send(wire, name, sign(ALIAS, timestamp=int(time.time()) + away))
    assert (answer.status, answer.problem()) == (401, "bad-signature")
    assert "300 seconds" in answer.json()["detail"]
    assert wire.get(f"/v1/hooks/{name}/deliveries").json()["data"] == []


def test_failures_of_an_address_are_limited_and_logged(start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    saved(wire, "mine", example("github"))
    bad = senders.github(RELEASE, secret="another secret of some characters")
    answers = [send(wire, "mine", bad) for _ in range(12)]
    assert [answer.status for answer in answers] == [401] * 10 + [429] * 2
    assert answers[-1].problem() == "too-many-failures"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert send(wire, "mine", senders.github(RELEASE)).status == 429
    saved(wire, "other", example("github"))
    assert send(wire, "other", senders.github(RELEASE)).status == 202
    daemon.wait_logged("delivery refused", 10)
    log = daemon.log_path.read_text()
    assert log.count("delivery refused") == 10 and "another secret" not in log
    assert SECRET not in log


def test_no_rule_no_job(wire, hook):
    name = hook(example("github"))
    for message in (senders.github({**RELEASE, "action": "deleted"}),
                    senders.github(RELEASE, event="push")):
        answer = send(wire, name, message)
        assert answer.status == 200, answer.body
        assert answer.json()["data"][0]["state"] == "ignored"
    assert send(wire, name, senders.github({**RELEASE, "action": "deleted"})).json()["data"][0][
        "repeated"] is True
    assert wire.get(f"/v1/jobs?label=hook={name}").json()["data"] == []


@pytest.mark.parametrize("version, words", [
    ({"version": None}, "has null at /data/version"),
    ({"version": "x" * 1025}, "a string of 1025 bytes at /data/version; at most 1024"),
    ({}, "has nothing at /data/version")])
def test_a_payload_that_lacks_something_is_told(wire, hook, version, words):
    payload = {**ALIAS, "data": {"name": "ocr-latin", "alias": "champion", **version}}
    name = hook(example("mlflow"))
    answer = send(wire, name, senders.mlflow(payload))
    assert answer.status == 200
    row = delivery(wire, name)
    assert row["state"] == "failed" and row["reason"].startswith("/submit/name: "), row
    assert words in row["reason"]


def test_what_a_template_becomes_is_checked_as_any_request(wire, hook):
    document = example("mlflow")
    document["maps"]["models"]["ocr-latin"] = "tasks/missing"
    name = hook(document)
    assert send(wire, name, senders.mlflow(ALIAS)).status == 202
    row = ended(wire, name)
    assert row["state"] == "failed" and "tasks/missing" in row["reason"], row
    paths = example("generic")
    name = hook(paths)
    bad = {"type": "training.finished", "data": {"task": "x", "model": "../../etc/passwd"}}
    assert send(wire, name, senders.generic(bad)).status == 202
    row = ended(wire, name)
    assert row["state"] == "failed" and "/tasks/1/model" in row["reason"], row


@pytest.mark.parametrize("body, problem", [
    (b"", "malformed-json"), (b"[1]", "malformed-json"), (b'{"a": 1', "malformed-json"),
    (b"\xff\xfe", "malformed-json"), (b'{"a":1,"a":2}', "malformed-json"),
    (b"[" * 40, "malformed-json"), (b'{"a":"\\u0000"}', "malformed-json")])
def test_payloads_that_are_no_objects_are_refused(wire, hook, body, problem):
    name = hook(example("github"))
    answer = send(wire, name, senders.github(body))
    assert (answer.status, answer.problem()) == (400, problem)
    assert wire.get(f"/v1/hooks/{name}/deliveries").json()["data"] == []


def test_refs_of_a_hub_are_events_of_their_own(wire, hook):
    document = example("huggingface")
    document.pop("poll")
    name = hook(document)
    refs = [{"ref": f"refs/heads/branch{i}", "oldSha": None, "newSha": f"{i}" * 40}
            for i in range(3)]
    answer = send(wire, name, senders.huggingface({**PUSH, "updatedRefs": refs}))
    assert [row["state"] for row in answer.json()["data"]] == ["ignored"] * 3
    replayed = send(wire, name, senders.huggingface({**PUSH, "updatedRefs": refs[1:]}))
    assert [row["repeated"] for row in replayed.json()["data"]] == [True, True]
    many = send(wire, name, senders.huggingface({**PUSH, "updatedRefs": refs * 6}))
    assert many.problem() == "invalid-request" and "16" in many.json()["detail"]


BAD = {
    "no rules": ({"rules": None}, "/rules"),
    "unknown field": ({"rule": []}, "/rule"),
    "unknown kind": ({"kind": "gitlab"}, "/kind"),
    "verify for another kind": ({"verify": {"signature_header": "X"}}, "/verify"),
    "pointer": ({"rules": [{"name": "a", "when": [{"at": "entity", "equals": 1}],
                            "rescan": True}]}, "/rules/0/when/0/at"),
    "two tests": ({"rules": [{"name": "a", "when": [{"at": "/e", "equals": 1, "prefix": "x"}],
                              "rescan": True}]}, "/rules/0/when/0"),
    "nothing to do": ({"rules": [{"name": "a", "when": []}]}, "/rules/0"),
    "template pointer": ({"rules": [{"name": "a", "when": [], "submit": {
        "base": "{{data}}", "tasks": [], "budget": 1}}]}, "/rules/0/submit/base"),
    "template end": ({"rules": [{"name": "a", "when": [], "submit": {
        "base": "{{/data", "tasks": [], "budget": 1}}]}, "/rules/0/submit/base"),
    "template filter": ({"rules": [{"name": "a", "when": [], "fetch": {
        "name": "{{/x | upper}}", "source": "hf:a/b"}}]}, "/rules/0/fetch/name"),
    "template map": ({"rules": [{"name": "a", "when": [], "fetch": {
        "name": "{{/x | map none}}", "source": "hf:a/b"}}]}, "/rules/0/fetch/name"),
    "specification field": ({"rules": [{"name": "a", "when": [], "submit": {
        "base": "base", "tasks": [{"name": "x", "model": "{{/m}}"}], "budget": 1,
        "colour": "red"}}]}, "/rules/0/submit/colour"),
    "specification range": ({"rules": [{"name": "a", "when": [], "submit": {
        "base": "base", "tasks": [{"name": "x", "model": "{{/m}}"}], "budget": -1}}]},
        "/rules/0/submit/budget"),
    "register without a server": ({"rules": [{"name": "a", "when": [], "submit": {
        "base": "base", "tasks": [{"name": "x", "model": "{{/m}}"},
                                  {"name": "y", "model": "{{/n}}"}], "budget": 1},
        "register": {"model": "x"}}]}, "/rules"),
    "register of a survey": ({"rules": [{"name": "a", "when": [], "submit": {
        "base": "base", "survey": True, "tasks": [{"name": "x", "model": "{{/m}}"},
                                                  {"name": "y", "model": "{{/n}}"}]},
        "register": {"model": "x"}}]}, "/rules/0"),
    "poll without a server": ({"poll": {"minutes": 5, "sources": []}}, "/poll"),
    "dedupe": ({"dedupe": ["/a"]}, "/dedupe"),
    "secret": ({"secret": "short"}, "/secret"),
}


@pytest.mark.parametrize("case", BAD)
def test_hooks_are_checked_when_they_are_saved(wire, case):
    change, pointer = BAD[case]
    document = {"kind": "mlflow", "rules": [], "secret": SECRET, **change}
    document = {key: value for key, value in document.items() if value is not None}
    answer = put(wire, "bad", document, secret=None)
    assert (answer.status, answer.problem()) == (422, "invalid-request"), answer.body
    assert answer.json()["pointer"] == pointer, answer.body
    assert wire.get("/v1/hooks/bad").problem() == "unknown-hook"


def test_secrets_are_shown_once(wire, hook, daemon):
    name = hook(example("github"), secret=True)
    again = saved(wire, name, example("github"), secret=True)
    secret = again["secret"]
    assert len(secret) == 64
    assert "secret" not in wire.get(f"/v1/hooks/{name}").json()
    assert secret not in wire.get("/v1/hooks").body.decode()
    kept = saved(wire, name, {**example("github"), "description": "changed"}, secret=None)
    assert "secret" not in kept and kept["definition"]["description"] == "changed"
    assert send(wire, name, senders.github(RELEASE, secret=secret)).status == 202
    wire.wait(ended(wire, name)["job"], "succeeded")
    assert secret not in daemon.log_path.read_text()
    assert put(wire, "fresh", example("github"), secret=None).problem() == "invalid-request"


def test_a_hook_that_is_not_enabled_takes_nothing(wire, hook):
    name = hook({**example("github"), "enabled": False})
    answer = send(wire, name, senders.github(RELEASE))
    assert (answer.status, answer.problem()) == (409, "conflict")


def try_payload(wire, name, payload, headers=None):
    return wire.post(f"/v1/hooks/{name}/dry-run",
                     {"payload": payload, **({"headers": headers} if headers else {})})


def test_a_dry_run_says_what_would_happen(wire, hook):
    name = hook(example("github"))
    report = try_payload(wire, name, RELEASE, {"x-github-event": "release"}).json()
    assert report["rule"] == "release" and report["error"] is None
    assert report["work"]["submit"]["labels"]["release"] == "v1.2"
    assert report["plan"]["tasks"] == 2 and report["plan"]["memory_peak_bytes"] > 0
    nothing = try_payload(wire, name, RELEASE).json()
    assert nothing == {"rule": None, "work": None, "plan": None, "error": None}
    name = hook(example("wandb"))
    report = try_payload(wire, name, {**AUTOMATION, "collection": "other"}).json()
    assert report["rule"] == "production" and report["plan"] is None
    assert report["error"]["pointer"] == "/submit/tasks/1/model"
    assert "other" in report["error"]["detail"]
    assert wire.get(f"/v1/hooks/{name}/deliveries").json()["data"] == []
    assert try_payload(wire, "none", RELEASE).problem() == "unknown-hook"
    for body in ({"payload": 3}, {}, {"payload": {}, "headers": []}, {"payload": {}, "x": 1},
                 {"payload": {}, "headers": {"a": 1}}, []):
        assert wire.post(f"/v1/hooks/{name}/dry-run", body).problem() == "invalid-request"


def test_the_newest_job_of_a_label_is_extended(wire, hook):
    base = wire.submit({"base": "base", "budget": 1.3, "labels": {"chain": "a"},
                        "tasks": [{"name": "hiragana", "model": "tasks/hiragana"}]})
    wire.wait(base["id"], "succeeded")
    document = example("wandb")
    document["rules"][0]["submit"] = {
        "extend": {"job": "@latest:chain=a", "compare": False}, "labels": {"chain": "a"},
        "tasks": [{"name": "{{/version | name}}", "model": "{{/collection | map models}}"}]}
    name = hook(document)
    for version, collection in (("v4", "latin-finetune"), ("v5", "mnist-finetune")):
        payload = {**AUTOMATION, "version": version, "collection": collection}
        assert send(wire, name, senders.wandb(payload, encoding="base64")).status == 202
        row = ended(wire, name)
        assert row["state"] == "done", row
        job = wire.wait(row["job"], "succeeded")
    names = [task["name"] for task in job["specification"]["tasks"]]
    assert names == ["hiragana", "v4", "v5"]
    document["rules"][0]["submit"]["extend"]["job"] = "@latest:chain=none"
    saved(wire, name, document)
    send(wire, name, senders.wandb({**AUTOMATION, "version": "v6"}))
    row = ended(wire, name)
    assert row["state"] == "failed" and "chain=none" in row["reason"]


@pytest.fixture
def hub_daemon(start_daemon, family, tmp_path):
    """A daemon that fetches from a hub with org/tuned."""
    server = Hub()
    server.repositories["org/tuned"] = {
        "model.safetensors": (family / "tasks/mnist/model.safetensors").read_bytes()}
    folder = tmp_path / "models"
    folder.mkdir()
    daemon = start_daemon(family, "--models", str(folder), "--fetch-dir", str(folder),
                          "--hub-endpoint", server.url, "--fetch-hosts", "localhost",
                          "--fetch-private", "1")
    yield Wire(daemon.url), server, daemon
    server.stop()


def test_a_push_is_fetched_then_merged(hub_daemon):
    wire, hub, _ = hub_daemon
    saved(wire, "hub", example("huggingface"))
    assert send(wire, "hub", senders.huggingface(PUSH)).status == 202
    row = ended(wire, "hub")
    assert row["state"] == "done", row
    assert wire.get(f"/v1/fetches/{row['fetch']}").json()["state"] == "succeeded"
    job = wire.wait(row["job"], "succeeded")
    assert job["specification"]["tasks"][0]["model"] == f"org/tuned@{COMMIT}"


def test_a_fetch_that_fails_fails_the_delivery(hub_daemon):
    wire, _, _ = hub_daemon
    saved(wire, "hub", example("huggingface"))
    payload = {**PUSH, "repo": {**PUSH["repo"], "name": "org/none"}}
    assert send(wire, "hub", senders.huggingface(payload)).status == 202
    row = ended(wire, "hub")
    assert row["state"] == "failed" and "not there" in row["reason"], row
    assert wire.get("/v1/jobs").json()["data"] == []


def polled(wire, name, seen, error=False):
    wire.post(f"/v1/hooks/{name}/poll")
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        poll = wire.get(f"/v1/hooks/{name}").json()["polls"][0]
        if poll["seen"] == seen and (poll["error"] is not None) == error:
            return poll
        time.sleep(0.05)
    raise AssertionError(poll)


def test_a_push_that_was_missed_is_found_by_the_poll(hub_daemon, monkeypatch):
    wire, hub, _ = hub_daemon
    monkeypatch.setattr("hub.COMMIT", "d" * 40)
    saved(wire, "hub", example("huggingface"))
    polled(wire, "hub", "d" * 40)
    assert wire.get("/v1/hooks/hub/deliveries").json()["data"] == [], "the first look is no news"
    hub.status["/revision/main"] = 500
    polled(wire, "hub", "d" * 40, error=True)
    hub.status.clear()
    monkeypatch.setattr("hub.COMMIT", COMMIT)
    polled(wire, "hub", COMMIT)
    row = ended(wire, "hub")
    assert (row["state"], row["origin"]) == ("done", "poll"), row
    late = send(wire, "hub", senders.huggingface(PUSH)).json()["data"][0]
    assert (late["repeated"], late["id"]) == (True, row["id"]), "the webhook comes after all"
    assert len(wire.get("/v1/jobs").json()["data"]) == 1


def test_deliveries_survive_a_kill(start_daemon, family, tmp_path):
    """What was answered is worked off once, however the process ended."""
    daemon = start_daemon(family, state=tmp_path / "state")
    wire = Wire(daemon.url)
    saved(wire, "mine", {**example("wandb"), "dedupe": ["/number"]})
    sent = [senders.wandb({**AUTOMATION, "number": number}) for number in range(8)]
    for message in sent:
        assert send(wire, "mine", message).status == 202
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    wire = Wire(daemon.url)
    rows = [ended(wire, "mine", number) for number in range(8)]
    jobs = [row["job"] for row in rows]
    assert {row["state"] for row in rows} == {"done"} and len(set(jobs)) == 8
    assert all(send(wire, "mine", message).json()["data"][0]["repeated"] for message in sent)
    assert len(wire.get("/v1/jobs").json()["data"]) == 8


def test_pages_of_deliveries(wire, hook):
    name = hook({**example("wandb"), "dedupe": ["/number"]})
    for number in range(5):
        send(wire, name, senders.wandb({"number": number}))
    first = wire.get(f"/v1/hooks/{name}/deliveries?limit=3").json()
    rest = wire.get(f"/v1/hooks/{name}/deliveries?limit=3&after={first['next']}").json()
    assert (len(first["data"]), first["has_more"]) == (3, True)
    assert (len(rest["data"]), rest["has_more"]) == (2, False)
    ids = [row["id"] for row in first["data"] + rest["data"]]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == 5
    assert wire.get(f"/v1/hooks/{name}/deliveries?after=x").problem() == "invalid-parameter"
    assert wire.get("/v1/hooks/none/deliveries").problem() == "unknown-hook"
    assert wire.get("/v1/hooks?after=%20").problem() == "invalid-parameter"
