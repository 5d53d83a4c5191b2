# SPDX-License-Identifier: Apache-2.0
"""/metrics, /v1/status, and the log: what the daemon tells about itself."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import urllib.request

import pytest

import senders
from receiver import Receiver
from service import Daemon, free_port
from wire import Wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "observability"
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')


def parse(text):
    """Prometheus' text format: {family: type}, {(sample, labels): value}."""
    types, values, helps = {}, {}, set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in helps
            helps.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name in helps and name not in types
            types[name] = kind
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            family = name if name in types else re.sub("_(bucket|sum|count)$", "", name)
            assert family in types, line
            assert family == list(types)[-1], "a family's samples stand together"
            assert (name, labels) not in values, line
            values[name, labels] = float(value)
    return types, values


@pytest.fixture(scope="module")
def text(wire, finished):
    wire.get("/v1/jobs/" + "0" * 26)
    wire.post("/v1/hooks/none", {})
    wire.raw(b"GET / HTTP/1.1\n\n")
    answer = wire.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode()


def test_the_format_is_kept(text):
    types, values = parse(text)
    assert all(name.startswith("didid_") for name in types)
    for name, kind in types.items():
        assert kind != "counter" or name.endswith("_total")
        if kind == "histogram":
            for (sample, labels), value in values.items():
                if sample == name + "_count":
                    whole = f'{labels},le="+Inf"' if labels else 'le="+Inf"'
                    assert values[name + "_bucket", whole] == value


def test_a_job_is_counted(text):
    _, values = parse(text)
    assert values["didid_jobs", 'state="succeeded"'] >= 1
    assert values["didid_jobs_submitted_total", None] >= 1
    assert values["didid_jobs_finished_total", 'outcome="succeeded"'] >= 1
    assert values["didid_job_run_seconds_count", 'outcome="succeeded"'] >= 1
    assert values["didid_job_queue_seconds_count", None] >= 1
    assert values["didid_stage_seconds_count", 'stage="refine"'] >= 1
    assert values["didid_items_total", None] > 0
    assert values["didid_store_transactions_total", None] > 0
    assert values["didid_http_requests_total",
                  'route="/v1/jobs",method="POST",status="2xx"'] >= 1
    assert values["didid_http_refusals_total", 'reason="unknown-job"'] >= 1
    assert values["didid_workers", None] >= 1 and values["didid_memory_limit_bytes", None] > 0
    assert values["didid_disk_free_bytes", None] > 0 and values["didid_open_fds", None] > 5


def test_the_edge_and_hooks_are_counted(text):
    _, values = parse(text)
    assert values["didid_http_turned_away_total", 'reason="malformed"'] >= 1
    assert ("didid_http_turned_away_total", 'reason="evicted"') in values
    assert values["didid_http_connections_accepted_total", None] >= 2
    assert values["didid_http_received_bytes_total", None] > 100
    assert values["didid_http_sent_bytes_total", None] > 1000
    assert values["didid_hook_requests_total", 'source="none",outcome="unknown_hook"'] >= 1
    assert values["didid_webhook_deliveries_total", 'outcome="succeeded"'] == 0
    assert values["didid_webhook_deliveries_pending", 'state="queued"'] == 0


def test_deliveries_are_counted(family, start_daemon):
    wire = Wire(start_daemon(family, "--webhook-private", "1").url)
    put = {"Content-Type": "application/json"}
    with Receiver() as receiver:
        receiver.answers.append((500, {}, b""))
        for _ in range(2):
            hook = wire.post("/v1/webhooks", {"url": receiver.url + "/"}).json()
            sent = wire.post(f"/v1/webhooks/{hook['id']}/test").headers["Location"]
            assert wire.get(sent + "?wait=30").status == 200
    hook = json.loads((ROOT / "docs/hooks/generic.json").read_text()) | {"secret": senders.SECRET}
    assert wire.request("PUT", "/v1/hooks/one", json.dumps(hook), put).status == 201
    for body, headers in [senders.generic({"type": "other"})] * 2 + [(b"{}", put)]:
        wire.request("POST", "/v1/hooks/one", body, headers)
    _, values = parse(wire.get("/metrics").body.decode())
    assert values["didid_webhook_deliveries_total", 'outcome="succeeded"'] == 1
    assert values["didid_webhook_deliveries_total", 'outcome="given_up"'] == 1
    assert values["didid_webhook_delivery_seconds_count", 'outcome="succeeded"'] == 1
    assert values["didid_hook_requests_total", 'source="generic",outcome="accepted"'] == 2
    assert values["didid_hook_requests_total", 'source="generic",outcome="bad_signature"'] == 1
    assert values["didid_hook_deliveries_total", 'origin="webhook",state="ignored"'] == 1
    assert values["didid_hook_deliveries_total", 'origin="webhook",state="repeated"'] == 1


def test_no_ids_in_labels(text, finished):
    assert finished not in text


def promtool(*arguments, stdin=None):
    tool = shutil.which(os.environ.get("PROMTOOL", "promtool"))
    if tool is None:
        pytest.skip("promtool (Debian package prometheus) is not there")
    return subprocess.run([tool, *arguments], input=stdin, capture_output=True, text=True,
                          timeout=60, check=False)


def test_promtool_finds_nothing(text):
    done = promtool("check", "metrics", stdin=text)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_alert_rules_are_right():
    done = promtool("check", "rules", str(DOCS / "alerts.yaml"))
    assert done.returncode == 0, done.stderr + done.stdout
    done = promtool("test", "rules", str(DOCS / "alerts_test.yaml"))
    assert done.returncode == 0, done.stderr + done.stdout


def names_in(document):
    return set(re.findall(r"\bdidid_[a-z_]+", document))


@pytest.mark.parametrize("name", ["dashboard.json", "alerts.yaml"])
def test_what_is_shown_exists(text, name):
    """Every metric of the dashboard and the rules is one of a daemon that ran a job."""
    document = (DOCS / name).read_text(encoding="utf-8")
    types, values = parse(text)
    there = {sample for sample, _ in values} | set(types)
    assert len(names_in(document)) > 5 and names_in(document) <= there


def test_the_dashboard_is_one():
    board = json.loads((DOCS / "dashboard.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) and board["uid"] and board["schemaVersion"] >= 36
    for panel in board["panels"]:
        assert panel["targets"] and panel["title"] and panel["gridPos"]


def test_status(wire, held):
    status = wire.get("/v1/status").json()
    assert status["ready"] is True and status["jobs"]["running"] >= 1
    row = next(row for row in status["running"] if row["id"] == held)
    assert row["name"] == "held" and row["attempt"] == 1 and 0 <= row["progress"] <= 1
    assert status["workers"]["total"] >= status["workers"]["busy"] >= 0
    assert status["disk"]["free_bytes"] > 0 and status["uptime_seconds"] > 0


def test_a_log_that_nobody_reads_stops_nothing(didid, family, tmp_path):
    """stderr is a pipe that is full: thousands of requests are answered all the same, and when
    somebody reads, what was dropped is told."""
    (tmp_path / "state").mkdir()
    port = free_port()
    read, write = os.pipe()
    process = subprocess.Popen(
        [didid, "--state-dir", str(tmp_path / "state"), "--models", str(family), "--log-level",
         "debug", "--log-requests", "1", "--listen", f"127.0.0.1:{port}"], stderr=write)
    os.close(write)
    daemon = Daemon(didid, tmp_path / "state", family)
    daemon.process, daemon.url = process, f"http://127.0.0.1:{port}"
    try:
        daemon.wait_until_ready()
        wire = Wire(daemon.url)
        target = "/v1/jobs?" + "&".join(f"x{i}={'y' * 200}" for i in range(8))
        for _ in range(3000):
            assert wire.get(target).status == 400
        dropped = re.search(r"^didid_log_lines_dropped_total (\d+)$",
                            wire.get("/metrics").body.decode(), re.MULTILINE)
        assert int(dropped[1]) > 0
        process.send_signal(signal.SIGTERM)
        with os.fdopen(read, errors="strict") as stream:
            log = stream.read()
        assert process.wait(30) == 0
        assert re.search(r'message="\d+ lines dropped" lines=\d+', log)
    finally:
        process.kill()
        process.wait()


def test_requests_are_logged_and_escaped(didid, family, tmp_path):
    (tmp_path / "state").mkdir()
    with Daemon(didid, tmp_path / "state", family, "--log-requests", "1") as daemon:
        urllib.request.urlopen(daemon.url + "/livez").close()
        wire = Wire(daemon.url)
        wire.get("/v1/jobs?a=%1b%5b2J%e2%80%ae")
    log = daemon.log_path.read_text(encoding="utf-8")
    assert re.search(r'message="request" method=GET route=/livez target=/livez status=200 '
                     r'milliseconds=\d+ client="" address=127.0.0.1', log)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", log)
