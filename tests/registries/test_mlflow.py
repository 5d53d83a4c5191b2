# SPDX-License-Identifier: Apache-2.0
"""Hooks with MLflow itself: its signatures, its deliveries, its registry."""

import json
import sqlite3
import subprocess
import time

import pytest

from senders import SECRET
from wire import Wire

END_SECONDS = 90
PUBLIC = "https://merges.test/didid"
SIGN = """
import sys
from mlflow.webhooks.delivery import _generate_hmac_signature
print(_generate_hmac_signature(*sys.argv[1:]))
"""


def document(model, alias, **more):
    return {
        "kind": "mlflow", "secret": SECRET,
        "rules": [{
            "name": "champion",
            "when": [{"at": "/entity", "equals": "model_version_alias"},
                     {"at": "/action", "equals": "created"},
                     {"at": "/data/name", "equals": model}, {"at": "/data/alias", "equals": alias}],
            "submit": {"name": "of {{/data/name}} {{/data/version}}", "base": "base", "budget": 1.3,
                       "tasks": [{"name": "hiragana", "model": "tasks/hiragana"},
                                 {"name": "latin", "model": "tasks/latin"}]},
            "register": {"model": f"{model}-merged", "experiment": "merges"}}],
        **more}


def save(wire, name, definition):
    answer = wire.request("PUT", f"/v1/hooks/{name}", json.dumps(definition),
                          {"Content-Type": "application/json"})
    assert answer.status in (200, 201), answer.body


def until(look, holds):
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if holds(found):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def deliveries(wire, name):
    return wire.get(f"/v1/hooks/{name}/deliveries").json()["data"]


def registered(wire, name):
    """The newest delivery once its job's result is registered."""
    return until(lambda: deliveries(wire, name),
                 lambda rows: rows and (rows[0]["registration"] or {}).get("state") == "done")[0]


@pytest.fixture
def start(start_daemon, family, mlflow, tmp_path):
    """start(uri, public) -> a daemon that knows this MLflow, which takes https as source."""

    def run(uri=None, public=PUBLIC + "/"):
        return start_daemon(family, "--mlflow-uri", uri or mlflow.url, "--public-url", public,
                            state=tmp_path / "state")

    return run


def test_what_mlflow_signs_is_taken(mlflow_programs, start_daemon, family):
    wire = Wire(start_daemon(family).url)
    definition = document("ocr", "champion")
    del definition["rules"][0]["register"]
    save(wire, "ml", definition)
    body = json.dumps({"entity": "model_version_alias", "action": "created",
                       "data": {"name": "ocr", "alias": "champion", "version": "1"}})
    stamp = str(int(time.time()))
    signed = subprocess.run([mlflow_programs / "python", "-c", SIGN, SECRET, "delivery-1", stamp,
                             body], capture_output=True, text=True, check=True, timeout=120)
    headers = {"X-MLflow-Signature": signed.stdout.strip(), "X-MLflow-Delivery-Id": "delivery-1",
               "X-MLflow-Timestamp": stamp, "Content-Type": "application/json"}
    assert wire.request("POST", "/v1/hooks/ml", body, headers).status == 202
    altered = {**headers, "X-MLflow-Delivery-Id": "delivery-2"}
    assert wire.request("POST", "/v1/hooks/ml", body, altered).problem() == "bad-signature"


def test_from_an_alias_to_a_registered_result(mlflow, start):
    """MLflow delivers by itself; the merge comes back as a version with a run of figures."""
    daemon = start()
    wire = Wire(daemon.url)
    save(wire, "ml", document("ocr-a", "champion"))
    mlflow.model("ocr-a")
    mlflow.ask("webhooks", {"name": "didid", "url": f"{daemon.url}/v1/hooks/ml", "secret": SECRET,
                            "events": [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}]})
    mlflow.alias("ocr-a", "champion", "1")
    row = registered(wire, "ml")
    job = wire.job(row["job"])
    assert (row["rule"], job["state"], job["name"]) == ("champion", "succeeded", "of ocr-a 1")
    version, = mlflow.versions("ocr-a-merged")
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert version["source"] == f"{PUBLIC}/v1/jobs/{row['job']}/artifacts"
    assert (tags["didid.job"], tags["didid.hook"]) == (row["job"], "ml")
    assert row["registration"] == {"state": "done", "model": "ocr-a-merged",
                                   "version": version["version"], "error": None}
    run = mlflow.ask("runs/get", run_id=version["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    figures = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    told = job["result"]["error"]
    assert figures["error.relative"] == pytest.approx(told["relative"], rel=1e-6)
    for task, value in told["per_task"].items():
        assert figures[f"error.per_task.{task}"] == pytest.approx(value, rel=1e-6)
        assert float(tags[f"error.per_task.{task}"]) == pytest.approx(value, rel=1e-4)
    assert any(key.startswith("budget.") for key in figures)

    # The process ended before it noted what it had registered: nothing is registered twice.
    place = {"experiment_ids": [run["info"]["experiment_id"]]}
    runs = mlflow.ask("runs/search", place)["runs"]
    daemon.process.kill()
    daemon.process.wait()
    with sqlite3.connect(daemon.log_path.parent / "state/didid.db") as database:
        database.execute("UPDATE hook_registrations SET state = 'waiting', version = NULL, "
                         "next_ms = 0")
    daemon.start()
    wire = Wire(daemon.url)
    assert registered(wire, "ml")["registration"]["version"] == version["version"]
    assert len(mlflow.versions("ocr-a-merged")) == 1
    assert len(mlflow.ask("runs/search", place)["runs"]) == len(runs)


def test_an_alias_that_was_missed_is_found_by_the_poll(mlflow, start):
    wire = Wire(start(public="http://merges.test").url)
    mlflow.model("ocr-b", versions=2)
    mlflow.alias("ocr-b", "champion", "1")
    poll = {"minutes": 60, "sources": [{"model": "ocr-b", "alias": "champion"}]}
    save(wire, "ml", document("ocr-b", "champion", poll=poll))

    def seen():
        wire.post("/v1/hooks/ml/poll")
        return wire.get("/v1/hooks/ml").json()["polls"][0]

    until(seen, lambda state: state["seen"] == "1")
    assert deliveries(wire, "ml") == []
    mlflow.alias("ocr-b", "champion", "2")
    until(seen, lambda state: state["seen"] == "2")
    row = registered(wire, "ml")
    assert row["origin"] == "poll" and wire.job(row["job"])["name"] == "of ocr-b 2"
    assert len(deliveries(wire, "ml")) == 1
    version, = mlflow.versions("ocr-b-merged")
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert version["source"] == f"runs:/{version['run_id']}/didid", "http is not taken"
    assert tags["didid.artifacts"] == f"http://merges.test/v1/jobs/{row['job']}/artifacts"


def test_a_registry_that_is_down_is_asked_again(mlflow, start):
    wire = Wire(start("http://127.0.0.1:1").url)
    definition = document("ocr-c", "champion")
    definition["kind"], definition["rules"][0]["when"] = "huggingface", []
    save(wire, "ml", definition)
    body = json.dumps({"data": {"name": "ocr-c", "version": "1"}})
    sent = wire.request("POST", "/v1/hooks/ml", body, {"X-Webhook-Secret": SECRET})
    assert sent.status == 202, sent.body
    row = until(lambda: deliveries(wire, "ml")[0],
                lambda found: (found["registration"] or {}).get("error"))
    assert row["registration"]["state"] == "waiting" and row["state"] == "done"
