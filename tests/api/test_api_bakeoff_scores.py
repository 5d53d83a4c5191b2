# SPDX-License-Identifier: Apache-2.0
"""Bake-offs with a scorer: what is kept, what has no score, a kill -9 between scores."""

import getpass
import signal
import time

import pytest

from test_api_bakeoffs import ENDED, REQUEST, rows_of, wait_ended
from wire import Wire

# A number between 0 and 1 of the weights: the share of bytes with the highest bit set.
SCORER = """#!/usr/bin/python3
import json, pathlib, sys, time
directory, task = map(pathlib.Path, sys.argv[1:3])
if str(task) == "latin" and sys.argv[3:] == ["none"]:
    sys.exit("no such data")
time.sleep({pause})
data = (directory / "model.safetensors").read_bytes()[-20000:]
print(json.dumps({{"score": sum(byte > 127 for byte in data) / len(data)}}))
"""


@pytest.fixture
def scoring_daemon(start_daemon, family, tmp_path):
    """start(pause) -> a daemon whose scorer takes so many seconds."""
    def start(pause=0):
        script = tmp_path / "score.py"
        script.write_text(SCORER.format(pause=pause))
        script.chmod(0o755)
        return start_daemon(family, "--scorer", str(script), "--scorer-user", getpass.getuser())
    return start


def test_members_are_scored_beside_base_and_fine_tunes(scoring_daemon):
    wire = Wire(scoring_daemon().url)
    begun = wire.post("/v1/bakeoffs", {**REQUEST, "split": "test"}).json()
    shown = wait_ended(wire, begun["id"])
    assert shown["state"] == "succeeded" and shown["scored"]
    rows = {row["label"]: row for row in shown["rows"]}
    assert rows["individuals"]["kept"] == 1 and rows["individuals"]["worst"]["kept"] == 1
    assert rows["base"]["job"] is None and rows["base"]["ratio"] is None
    scored = [row for row in shown["rows"] if row["role"] != "survey"
              and row["state"] == "succeeded"]
    assert len(scored) >= 6
    for row in scored:
        assert set(row["scores"]) == {"hiragana", "latin"}
        for task, score in row["scores"].items():
            own = rows["individuals"]["scores"][task]["score"]
            assert score["error"] is None and 0 < score["score"] < 1 and score["seconds"] > 0
            assert score["kept"] == pytest.approx(score["score"] / own)
        kept = [score["kept"] for score in row["scores"].values()]
        assert row["kept"] == pytest.approx(sum(kept) / 2)
        assert row["worst"]["kept"] == pytest.approx(min(kept))
        assert row["scores"][row["worst"]["task"]]["kept"] == row["worst"]["kept"]
    assert shown["verdict"]["measure"] == "kept"
    didi = rows_of(shown, "didi")
    for ahead in shown["verdict"]["ahead"]:
        row = rows[ahead["label"]]
        best = max(own["kept"] if ahead["what"] == "mean" else own["worst"]["kept"]
                   for own in didi if own["bytes"] <= row["bytes"])
        value = row["kept"] if ahead["what"] == "mean" else row["worst"]["kept"]
        assert value - best == pytest.approx(ahead["by"])
    assert not any(row["job_exists"] for row in shown["rows"])


def test_what_a_scorer_refuses_has_no_score(scoring_daemon):
    wire = Wire(scoring_daemon().url)
    begun = wire.post("/v1/bakeoffs", {**REQUEST, "methods": ["average"], "sizes": [1],
                                       "split": "none"}).json()
    shown = wait_ended(wire, begun["id"])
    assert shown["state"] == "succeeded"
    average = shown["rows"][0]
    assert average["scores"]["hiragana"]["score"] > 0
    assert average["scores"]["latin"]["score"] is None
    assert "no such data" in average["scores"]["latin"]["error"]
    assert average["kept"] is None and average["worst"] is None


def test_a_kill_loses_only_the_score_under_way(scoring_daemon):
    daemon = scoring_daemon(pause=0.2)
    wire = Wire(daemon.url)
    begun = wire.post("/v1/bakeoffs", {**REQUEST, "methods": ["average", "emr"]}).json()
    deadline = time.monotonic() + 60
    while True:
        shown = wire.get(f"/v1/bakeoffs/{begun['id']}").json()
        before = {row["label"]: row["scores"] for row in shown["rows"] if row["scores"]}
        if len(before) > 1:
            break
        assert time.monotonic() < deadline and shown["state"] not in ENDED, shown
        time.sleep(0.02)
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    daemon.start()
    wire = Wire(daemon.url)
    shown = wait_ended(wire, begun["id"])
    assert shown["state"] == "succeeded"
    rows = {row["label"]: row for row in shown["rows"]}
    assert len(rows) == len(shown["rows"])
    for label, scores in before.items():  # not made again: seconds are the same
        for task, score in scores.items():
            assert rows[label]["scores"][task]["seconds"] == score["seconds"]
    assert all(len(row["scores"]) == 2 for row in shown["rows"] if row["role"] != "survey")


def test_cancelling_ends_scorers(scoring_daemon):
    wire = Wire(scoring_daemon(pause=300).url)
    begun = wire.post("/v1/bakeoffs", {**REQUEST, "methods": ["average"]}).json()
    wire.wait(begun["rows"][0]["job"], "succeeded")
    wire.post(f"/v1/bakeoffs/{begun['id']}/cancel")
    shown = wait_ended(wire, begun["id"])
    assert shown["state"] == "cancelled"
