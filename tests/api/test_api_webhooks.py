# SPDX-License-Identifier: Apache-2.0
"""Webhooks: what is sent, signed, tried again and logged, against a receiver on loopback."""

import json
import os
import shutil
import sqlite3
import subprocess
import time

import pytest

import environments
from receiver import Receiver
from wire import HOLD, Wire, specification

VERIFY = """
import json, sys
from standardwebhooks import Webhook
for case in json.load(sys.stdin):
    Webhook(case["secret"]).verify(case["body"], case["headers"])
    try:
        Webhook(case["other"]).verify(case["body"], case["headers"])
    except Exception:
        continue
    sys.exit("a wrong secret was taken")
print("verified")
"""
OTHER_SECRET = "whsec_" + "QUJD" * 8


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


@pytest.fixture
def hooked(start_daemon, family):
    """(requests, daemon) of a daemon that may send to loopback."""
    daemon = start_daemon(family, "--webhook-private", "1")
    return Wire(daemon.url), daemon


def add(wire, url, **fields):
    answer = wire.post("/v1/webhooks", {"url": url, **fields})
    assert answer.status == 201, answer.body
    document = answer.json()
    assert answer.headers["Location"] == f"/v1/webhooks/{document['id']}"
    return document


def change(wire, hook, **fields):
    answer = wire.post(f"/v1/webhooks/{hook['id']}", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def deliveries(wire, hook, query=""):
    answer = wire.get(f"/v1/webhooks/{hook['id']}/deliveries{query}")
    assert answer.status == 200, answer.body
    return answer.json()["data"]


def settled(wire, hook, count, seconds=30):
    """The deliveries, once so many have been answered."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rows = deliveries(wire, hook)
        if len([row for row in rows if row["attempts"] > 0]) >= count:
            return rows
        time.sleep(0.02)
    raise AssertionError(rows)


def tried(wire, hook):
    """A test delivery, once it has ended."""
    answer = wire.post(f"/v1/webhooks/{hook['id']}/test")
    assert answer.status == 202, answer.body
    shown = wire.get(answer.headers["Location"] + "?wait=30")
    assert shown.status == 200, shown.body
    assert shown.json()["state"] != "queued", shown.body
    return shown.json()


def run_job(wire, **fields):
    job = wire.submit(specification(**fields))
    wire.wait(job["id"], "succeeded")
    return job["id"]


def test_a_job_is_told_in_order_and_signed(hooked, receiver):
    wire, _ = hooked
    hook = add(wire, receiver.url + "/a?x=1", description="ours")
    assert hook["secret"].startswith("whsec_") and len(hook["secret"]) == 6 + 44
    job = run_job(wire, labels={"team": "a"})
    told = receiver.wait(3)
    assert [one.type for one in told] == ["job.queued", "job.started", "job.succeeded"]
    assert [one.job()["state"] for one in told] == ["queued", "running", "succeeded"]
    for one in told:
        assert one.path == "/a?x=1" and one.signed_by(hook["secret"])
        assert one.headers["Content-Type"] == "application/json"
        assert one.headers["User-Agent"].startswith("didid/")
        assert abs(int(one.headers["webhook-timestamp"]) - time.time()) < 60
        assert one.job()["id"] == job and one.job()["labels"] == {"team": "a"}
        assert set(one.document) == {"type", "timestamp", "data"}
    assert len({one.id for one in told}) == 3
    rows = settled(wire, hook, 3)
    assert [row["id"] for row in rows] == [one.id for one in reversed(told)]
    assert {(row["state"], row["http_status"], row["attempts"]) for row in rows} == {
        ("succeeded", 200, 1)}
    shown = wire.get(f"/v1/webhooks/{hook['id']}/deliveries/{told[0].id}").json()
    assert shown["request"] == told[0].document and shown["answer"] == "thanks"


def test_the_reference_library_takes_the_signatures(hooked, receiver, didid):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    given = add(wire, receiver.url + "/given", secret="whsec_" + "MDEy" * 16)
    assert tried(wire, hook)["state"] == tried(wire, given)["state"] == "succeeded"
    rotated = wire.post(f"/v1/webhooks/{given['id']}/rotate", {}).json()
    assert tried(wire, given)["state"] == "succeeded"
    cases = [{"secret": secret["secret"], "other": OTHER_SECRET, "body": one.body.decode(),
              "headers": {name: one.headers[name] for name in
                          ("webhook-id", "webhook-timestamp", "webhook-signature")}}
             for one, secret in zip(receiver.messages + [receiver.messages[-1]],
                                    (hook, given, rotated, given))]
    python = environments.programs(didid, "standardwebhooks", "standardwebhooks>=1,<2") / "python"
    done = subprocess.run([python, "-c", VERIFY], input=json.dumps(cases), text=True,
                          capture_output=True, check=False)
    assert done.stdout == "verified\n", done.stderr


def test_a_rotated_secret_signs_beside_the_old_one(hooked, receiver):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    rotated = wire.post(f"/v1/webhooks/{hook['id']}/rotate", {}).json()
    assert rotated["secret"] != hook["secret"] and rotated["old_secret_until"] is not None
    tried(wire, hook)
    both = receiver.messages[-1]
    assert both.signed_by(hook["secret"]) and both.signed_by(rotated["secret"])
    again = wire.post(f"/v1/webhooks/{hook['id']}/rotate",
                      {"overlap_seconds": 0, "secret": OTHER_SECRET}).json()
    assert (again["secret"], again["old_secret_until"]) == (OTHER_SECRET, None)
    tried(wire, hook)
    one = receiver.messages[-1]
    assert one.signed_by(OTHER_SECRET) and not one.signed_by(rotated["secret"])
    assert len(one.headers["webhook-signature"].split(" ")) == 1


def test_secrets_are_shown_once_and_sealed(start_daemon, family, receiver, tmp_path):
    key = tmp_path / "key"
    key.write_text("5a" * 32 + "\n")
    state = tmp_path / "sealed"
    options = ("--webhook-private", "1", "--log-level", "debug")
    daemon = start_daemon(family, *options, "--webhook-key-file", str(key), state=state)
    wire = Wire(daemon.url)
    hook = add(wire, receiver.url)
    secret = hook["secret"].removeprefix("whsec_")
    assert tried(wire, hook)["state"] == "succeeded"
    assert receiver.messages[-1].signed_by(hook["secret"])
    for target in ("/v1/webhooks", f"/v1/webhooks/{hook['id']}",
                   f"/v1/webhooks/{hook['id']}/deliveries"):
        assert secret not in wire.get(target).body.decode()
    daemon.stop()
    assert secret not in daemon.log_path.read_text()
    for path in state.glob("didid.db*"):
        assert secret.encode() not in path.read_bytes(), path
    without = subprocess.run([*daemon.command[:5], "--listen", "127.0.0.1:0"],
                             capture_output=True, text=True, timeout=60, check=False)
    assert without.returncode == 1 and "webhook-key-file" in without.stderr
    daemon.start()
    assert tried(Wire(daemon.url), hook)["state"] == "succeeded"
    assert receiver.messages[-1].signed_by(hook["secret"])


def test_filters(hooked, receiver):
    wire, _ = hooked
    ends = add(wire, receiver.url + "/ends", events=["job.succeeded", "job.failed"])
    add(wire, receiver.url + "/team", labels={"team": "a"})
    add(wire, receiver.url + "/off", enabled=False)
    run_job(wire, labels={"team": "b"})
    job = run_job(wire, labels={"team": "a", "more": "x"})
    assert [one.type for one in receiver.wait(2, "/ends")] == ["job.succeeded"] * 2
    assert {one.job()["id"] for one in receiver.wait(3, "/team")} == {job}
    change(wire, ends, events=[], enabled=False)
    run_job(wire, labels={"team": "a"})
    receiver.wait(6, "/team")
    assert len(receiver.wait(2, "/ends")) == 2
    assert not [one for one in receiver.messages if one.path == "/off"]


def test_cancelled_and_failed_jobs(hooked, receiver):
    wire, _ = hooked
    add(wire, receiver.url)
    job = wire.submit(specification(**HOLD))
    wire.wait(job["id"], "running")
    wire.post(f"/v1/jobs/{job['id']}/cancel")
    told = receiver.wait(3)
    assert [one.type for one in told] == ["job.queued", "job.started", "job.cancelled"]
    assert told[2].job()["finished_at"] is not None
    assert [one.job()["survey"] for one in told] == [False] * 3


def test_a_survey_is_told_of_as_one(hooked, receiver):
    wire, _ = hooked
    add(wire, receiver.url)
    run_job(wire, survey=True)
    assert [one.job()["survey"] for one in receiver.wait(3)] == [True] * 3


def test_a_delivery_that_the_database_refuses_holds_no_other_up(start_daemon, family, receiver,
                                                                tmp_path):
    state = tmp_path / "state"
    wire = Wire(start_daemon(family, "--webhook-private", "1", state=state).url)
    bad = add(wire, receiver.url + "/bad")
    add(wire, receiver.url + "/good")
    database = sqlite3.connect(state / "didid.db")
    database.execute("CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN NEW.webhook_id = "
                     f"'{bad['id']}' BEGIN SELECT RAISE(ABORT, 'not this one'); END")
    database.commit()
    for count in (1, 2, 3):
        run_job(wire)
        receiver.wait(3 * count, "/good")
    assert receiver.wait(1, "/bad")
    database.execute("DROP TRIGGER refuse")
    database.commit()
    database.close()
    receiver.wait(9, "/bad")


def test_models(start_daemon, receiver, family, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(family / "base", models / "base")
    daemon = start_daemon(models, "--webhook-private", "1")
    wire = Wire(daemon.url)
    add(wire, receiver.url, events=["model.ready", "model.broken"], labels={"team": "a"})
    add(wire, receiver.url + "/all", events=["model.ready", "model.broken"])
    assert wire.post("/v1/models/rescan").status == 200
    shutil.copytree(family / "base", models / "new")
    assert wire.post("/v1/models/rescan").status == 200
    (models / "new/model.safetensors").write_bytes(b"x")
    assert wire.post("/v1/models/rescan").status == 200
    told = receiver.wait(2, "/all")
    assert [(one.type, one.document["data"]["model"]["name"]) for one in told] == [
        ("model.ready", "new"), ("model.broken", "new")]
    assert told[1].document["data"]["model"]["reason"]
    assert [one.path for one in receiver.messages] == ["/all", "/all"]


def test_failures_wait_and_hold_what_follows(hooked, receiver):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    receiver.answers = [(503, {"Retry-After": "3000"}, b"later\x1b[31m\xe2\x80\xae\x00\xff")]
    job = run_job(wire)
    other = run_job(wire, seed=2)
    assert [one.job()["id"] for one in receiver.wait(4)[1:4]] == [other] * 3
    rows = {row["type"]: row for row in settled(wire, hook, 4) if row["subject"] == f"job:{job}"}
    first = rows["job.queued"]
    assert (first["state"], first["http_status"], first["error"]) == ("queued", 503, "answered 503")
    assert {rows[f"job.{one}"]["next_attempt_at"] for one in ("started", "succeeded")} == {None}
    wait = time.mktime(time.strptime(first["next_attempt_at"][:19], "%Y-%m-%dT%H:%M:%S")) \
        - time.mktime(time.strptime(first["sent_at"][:19], "%Y-%m-%dT%H:%M:%S"))
    assert 2999 <= wait <= 3602
    shown = wire.get(f"/v1/webhooks/{hook['id']}/deliveries/{first['id']}").json()
    assert shown["answer"] == "later\\u{1b}[31m\\u{202e}\\u{0}\\u{ff}"
    assert wire.get(f"/v1/webhooks/{hook['id']}").json()["queued"] == 3
    assert len(deliveries(wire, hook, "?state=queued")) == 3
    answer = wire.post(f"/v1/webhooks/{hook['id']}/deliveries/{first['id']}/redeliver")
    assert answer.status == 202, answer.body
    told = receiver.wait(7)
    assert [one.type for one in told[4:]] == ["job.queued", "job.started", "job.succeeded"]
    assert told[4].id == told[0].id and told[4].body == told[0].body
    settled(wire, hook, 6)


def test_a_first_retry_comes_by_itself(hooked, receiver):
    wire, _ = hooked
    add(wire, receiver.url, events=["job.succeeded"])
    receiver.answers = [(500, {}, b"")]
    run_job(wire)
    first, second = receiver.wait(2)
    assert first.id == second.id and first.body == second.body
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]


def test_what_ended_is_sent_again(hooked, receiver):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    done = tried(wire, hook)
    target = f"/v1/webhooks/{hook['id']}/deliveries/{done['id']}"
    assert wire.post(target + "/redeliver").status == 202
    again = wire.get(target + "?wait=30").json()
    assert (again["state"], again["attempts"]) == ("succeeded", 2)
    assert receiver.messages[0].id == receiver.messages[1].id == done["id"]


@pytest.mark.parametrize("answer, error", [
    ((302, {"Location": "/elsewhere"}, b""), "answered 302; redirects are not followed"),
    ((404, {}, b"no"), "answered 404"),
    ((199 + 300, {}, b""), "answered 499")])
def test_only_2xx_is_success(hooked, receiver, answer, error):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    receiver.answers = [answer]
    done = tried(wire, hook)
    assert (done["state"], done["error"], done["attempts"]) == ("failed", error, 1)
    assert [one.path for one in receiver.messages] == [""] or len(receiver.messages) == 1


def test_long_answers_are_cut(hooked, receiver):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    receiver.answers = [(204 - 4, {}, b"y" * 1000000)]
    done = tried(wire, hook)
    assert done["state"] == "succeeded" and done["answer"] == "y" * 1024


def test_410_disables(hooked, receiver):
    wire, daemon = hooked
    hook = add(wire, receiver.url)
    receiver.answers = [(410, {}, b"")]
    assert tried(wire, hook)["state"] == "failed"
    shown = wire.get(f"/v1/webhooks/{hook['id']}").json()
    assert (shown["enabled"], shown["disabled_reason"]) == (
        False, "the endpoint answered 410, gone")
    daemon.wait_logged("webhook disabled")
    run_job(wire)
    assert len(receiver.messages) == 1
    assert wire.post(f"/v1/webhooks/{hook['id']}/test").problem() == "conflict"
    shown = change(wire, hook, enabled=True)
    assert (shown["enabled"], shown["disabled_reason"]) == (True, None)
    assert tried(wire, hook)["state"] == "succeeded"


def test_a_slow_endpoint_delays_nobody(hooked, receiver):
    wire, _ = hooked
    for number in range(3):
        add(wire, receiver.url + f"/slow{number}")
    hook = add(wire, receiver.url + "/quick")
    run_job(wire)
    run_job(wire, seed=2)
    settled(wire, hook, 6)
    assert not receiver.gate.is_set()
    receiver.gate.set()
    for number in range(3):
        receiver.wait(6, f"/slow{number}")


def test_private_addresses_are_refused(start_daemon, family, receiver):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    refused = wire.post("/v1/webhooks", {"url": receiver.url})
    assert refused.problem() == "invalid-request" and "only https" in refused.json()["detail"]
    for host in ("127.0.0.1", "localhost", "[::1]", "169.254.1.1", "0x7f.1"):
        hook = add(wire, f"https://{host}:{receiver.port}/")
        done = tried(wire, hook)
        assert done["state"] == "failed" and "private address" in done["error"], done
    assert receiver.messages == []
    assert str(receiver.port) not in daemon.log()


def test_listed_hosts_may_be_private(start_daemon, family, receiver):
    wire = Wire(start_daemon(family, "--webhook-hosts", "localhost").url)
    refused = wire.post("/v1/webhooks", {"url": receiver.url})
    assert refused.problem() == "invalid-request"
    hook = add(wire, f"http://localhost:{receiver.port}/")
    assert tried(wire, hook)["state"] == "succeeded"


def test_certificates_are_verified(start_daemon, family, tmp_path):
    made = tmp_path / "made.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
                   check=True, capture_output=True)
    made.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "cert.pem").read_text())
    with Receiver(made) as receiver:
        url = f"https://localhost:{receiver.port}/"
        strict = Wire(start_daemon(family, "--webhook-private", "1").url)
        done = tried(strict, add(strict, url))
        assert done["state"] == "failed" and "certificate" in done["error"].lower(), done
        trusting = Wire(start_daemon(family, "--webhook-private", "1", "--webhook-ca-file",
                                     str(tmp_path / "cert.pem")).url)
        assert tried(trusting, add(trusting, url))["state"] == "succeeded"
        other = tried(trusting, add(trusting, receiver.url))
        assert other["state"] == "failed", "the name of the certificate is another"


def test_a_stopped_daemon_goes_on(hooked, receiver):
    wire, daemon = hooked
    hook = add(wire, receiver.url + "/slow")
    job = run_job(wire)
    receiver.wait(1)
    assert daemon.stop() == 0
    receiver.gate.set()
    daemon.start()
    told = receiver.wait(4)
    assert [one.type for one in told] == ["job.queued"] * 2 + ["job.started", "job.succeeded"]
    assert told[0].id == told[1].id and {one.job()["id"] for one in told} == {job}
    assert settled(Wire(daemon.url), hook, 3)[-1]["attempts"] == 1


def test_pages_of_deliveries(hooked, receiver):
    wire, _ = hooked
    hook = add(wire, receiver.url)
    made = [tried(wire, hook)["id"] for _ in range(5)]
    target = f"/v1/webhooks/{hook['id']}/deliveries?state=succeeded&limit=2"
    seen, after = [], ""
    while True:
        page = wire.get(target + after).json()
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = "&after=" + page["next"]
    assert seen == made[::-1]
    assert deliveries(wire, hook, "?state=failed") == []
    assert wire.delete(f"/v1/webhooks/{hook['id']}").status == 204
    assert wire.get(target).problem() == "unknown-webhook"
    assert wire.get("/v1/webhooks").json()["data"] == []


@pytest.mark.parametrize("body, pointer", [
    ({}, "/url"), ({"url": 5}, "/url"), ({"url": ""}, "/url"), ({"url": "http://"}, "/url"),
    ({"url": "ftp://x/"}, "/url"), ({"url": "https://u:p@x/"}, "/url"),
    ({"url": "https://x/#y"}, "/url"), ({"url": "https://x/ y"}, "/url"),
    ({"url": "https://x/" + "y" * 2000}, "/url"), ({"url": "//x"}, "/url"),
    ({"url": "https://x/", "events": ["job.done"]}, "/events/0"),
    ({"url": "https://x/", "labels": {"a": 1}}, "/labels/a"),
    ({"url": "https://x/", "secret": "short"}, "/secret"),
    ({"url": "https://x/", "secret": "whsec_QUJD"}, "/secret"),
    ({"url": "https://x/", "secret": "whsec_" + "QUJD" * 22}, "/secret"),
    ({"url": "https://x/", "secret": "whsec_" + "QUJD" * 8 + "QR=="}, "/secret"),
    ({"url": "https://x/", "enabled": 1}, "/enabled"),
    ({"url": "https://x/", "description": "\n"}, "/description"),
    ({"url": "https://x/", "more": 1}, "/more")])
def test_requests_that_cannot_be(wire, body, pointer):
    answer = wire.post("/v1/webhooks", body)
    assert (answer.status, answer.problem()) == (422, "invalid-request"), answer.body
    assert answer.json()["pointer"] == pointer, answer.body
    assert str(body.get("secret", "...")).removeprefix("whsec_") not in answer.json()["detail"] \
        or "secret" not in body


def test_unknown_ones(wire):
    nothing = "0" * 26
    assert wire.get(f"/v1/webhooks/{nothing}").problem() == "unknown-webhook"
    assert wire.delete(f"/v1/webhooks/{nothing}").problem() == "unknown-webhook"
    for action in ("", "/rotate"):
        assert wire.post(f"/v1/webhooks/{nothing}{action}", {}).problem() == "unknown-webhook"
    assert wire.post(f"/v1/webhooks/{nothing}/test").problem() == "unknown-webhook"
    assert wire.get(f"/v1/webhooks/{nothing}/deliveries").problem() == "unknown-webhook"
    hook = add(wire, "https://localhost:1/", enabled=False)
    target = f"/v1/webhooks/{hook['id']}/deliveries/{nothing}"
    assert wire.get(target).problem() == "unknown-delivery"
    assert wire.get(target + "?wait=x").problem() == "invalid-parameter"
    assert wire.get(f"/v1/webhooks/{hook['id']}/deliveries?state=x").problem() == \
        "invalid-parameter"
    assert wire.post(target + "/redeliver").problem() == "conflict"
    change(wire, hook, enabled=True)
    assert wire.post(target + "/redeliver").problem() == "unknown-delivery"
    assert wire.delete(f"/v1/webhooks/{hook['id']}").status == 204


def test_there_are_so_many_at_most(hooked):
    wire, _ = hooked
    for _ in range(64):
        add(wire, "https://localhost:1/", enabled=False)
    answer = wire.post("/v1/webhooks", {"url": "https://localhost:1/"})
    assert answer.problem() == "conflict" and "64 webhooks" in answer.json()["detail"]


def test_a_client_keeps_webhooks(hooked, receiver, didictl, tmp_path):
    wire, daemon = hooked

    def call(*arguments, code=0):
        done = subprocess.run([didictl, *arguments], capture_output=True, text=True, check=False,
                              env={**os.environ, "DIDI_HOST": daemon.url})
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + (done.stderr if code else "")

    secret = tmp_path / "secret"
    secret.write_text(OTHER_SECRET + "\n")
    hook, = call("webhook", "add", receiver.url, "--secret-file", str(secret), "--event",
                 "job.succeeded", "--label", "team=a", "--description", "ours").split()
    assert wire.get(f"/v1/webhooks/{hook}").json()["labels"] == {"team": "a"}
    made = call("webhook", "add", receiver.url + "/b", "-o", "json")
    assert json.loads(made)["secret"].startswith("whsec_")
    second, shown = call("webhook", "add", receiver.url + "/c").split()
    assert shown.startswith("whsec_")
    assert hook in call("webhook", "ls") and "ours" in call("webhook", "show", hook)
    assert "succeeded" in call("webhook", "test", hook)
    assert receiver.messages[-1].signed_by(OTHER_SECRET)
    receiver.answers = [(500, {}, b"broken")]
    assert "answered 500" in call("webhook", "test", hook, code=1)
    log = call("webhook", "deliveries", hook)
    assert "failed" in log and "answered 500" in log
    failed, = call("webhook", "deliveries", hook, "--state", "failed", "-o", "name").split()
    assert "broken" in call("webhook", "delivery", hook, failed)
    assert "succeeded" in call("webhook", "redeliver", hook, failed)
    fresh, = call("webhook", "rotate", hook).split()
    assert fresh.startswith("whsec_") and fresh != OTHER_SECRET
    call("webhook", "set", second, "--disable", "--event", "job.failed", "--event", "job.queued")
    changed = wire.get(f"/v1/webhooks/{second}").json()
    assert (changed["enabled"], changed["events"]) == (False, ["job.failed", "job.queued"])
    call("webhook", "set", second, "--enable", "--url", receiver.url + "/d")
    changed = wire.get(f"/v1/webhooks/{second}").json()
    assert changed["enabled"] and changed["url"].endswith("/d")
    call("webhook", "rm", second)
    assert wire.get(f"/v1/webhooks/{second}").problem() == "unknown-webhook"
    call("webhook", "show", second, code=1)
