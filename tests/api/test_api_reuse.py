# SPDX-License-Identifier: Apache-2.0
"""Jobs that start from the spectra another job kept."""

import os
import time

import pytest

from wire import HOLD, Wire, specification


def relative_error(wire, job_id):
    return wire.job(job_id)["result"]["error"]["relative"]


def artifact(wire, job_id, name):
    answer = wire.get(f"/v1/jobs/{job_id}/artifacts/{name}")
    assert answer.status == 200, answer.body
    return answer.body


def finish(wire, **fields):
    """A succeeded job."""
    return wire.wait(wire.submit(fields)["id"], "succeeded")


def kept(daemon):
    """Ids of the jobs that keep something on disk, once the trash has taken what it takes."""
    state = daemon.command[daemon.command.index("--state-dir") + 1]
    return sorted(os.listdir(os.path.join(state, "kept")))


def wait_until_kept(daemon, names, seconds=20):
    deadline = time.monotonic() + seconds
    while kept(daemon) != sorted(names):
        assert time.monotonic() < deadline, (kept(daemon), names)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def source(wire):
    return finish(wire, **specification(name="source", output={"dtype": "bf16"}))


def test_another_budget_starts_from_what_was_kept(start_daemon, demo_family):
    wire = Wire(start_daemon(demo_family).url)
    source = finish(wire, **specification(name="source", output={"dtype": "bf16"}))
    assert source["reusable"] is True
    assert source["kept_bytes"] > 10000
    job = finish(wire, from_job=source["id"], budget=0.9, output={"dtype": "bf16"})
    made = job["specification"]
    assert made["from_job"] == source["id"]
    assert made["base"] == source["specification"]["base"]
    assert made["tasks"] == source["specification"]["tasks"]
    assert job["result"]["budget"]["parameters"] <= 0.9
    stages = {event["stage"] for event in wire.get(
        f"/v1/jobs/{job['id']}/events?limit=1000").json()["data"] if event["kind"] == "point"}
    assert "digest" not in stages
    fresh = finish(wire, **specification(budget=0.9, output={"dtype": "bf16"}))
    assert relative_error(wire, job["id"]) < 1.06 * relative_error(wire, fresh["id"])


def test_weights_type_and_method_may_change(wire, source):
    tasks = [{**task, "weight": 3 if task["name"] == "latin" else 1}
             for task in source["specification"]["tasks"]]
    weighed = finish(wire, from_job=source["id"], budget=1.3, tasks=tasks)
    plain = finish(wire, from_job=source["id"], budget=1.3, base="base", output={"dtype": "f32"})
    errors = [job["result"]["error"]["per_task"]["latin"] for job in (weighed, plain)]
    assert errors[0] < errors[1]
    finish(wire, from_job=source["id"], budget=1.3, ranks={"allocator": "exact"})


def test_the_same_request_gives_the_same_bytes(wire, source):
    jobs = [finish(wire, from_job=source["id"], budget=1.0) for _ in range(2)]
    for name in ("shared.safetensors", "experts/latin.safetensors"):
        assert artifact(wire, jobs[0]["id"], name) == artifact(wire, jobs[1]["id"], name)


def test_similarity_is_the_manifests_and_goes_on(wire, source):
    job = finish(wire, from_job=source["id"], budget=0.9, output={"dtype": "bf16"})
    found = [wire.get(f"/v1/jobs/{one['id']}/similarity") for one in (source, job)]
    assert [answer.status for answer in found] == [200, 200]
    assert found[0].json()["cosine"] == found[1].json()["cosine"]
    manifest = wire.get(f"/v1/jobs/{job['id']}/artifacts/manifest.json").json()
    assert found[1].json() == manifest["similarity"]
    assert found[1].json()["tasks"] == ["hiragana", "latin"]


def test_similarity_waits_for_the_result(wire, held):
    answer = wire.get(f"/v1/jobs/{held}/similarity")
    assert answer.status == 409 and answer.problem() == "no-result"


def test_dry_run_checks_it_too(wire, source):
    answer = wire.post("/v1/jobs?dry_run=true", {"from_job": source["id"], "budget": 1.0})
    assert answer.status == 200
    assert answer.json()["specification"]["base"] == "base"


@pytest.mark.parametrize("fields, problem, pointer", [
    ({"from_job": "7" * 26}, "not-reusable", "/from_job"),
    ({"from_job": "latest"}, "invalid-specification", "/from_job"),
    ({"from_job": 1}, "invalid-specification", "/from_job"),
    ({"base": "tasks/latin"}, "invalid-specification", "/base"),
    ({"tasks": [{"name": "latin", "model": "tasks/latin"}]}, "invalid-specification", "/tasks"),
    ({"tasks": [{"name": "latin", "model": "tasks/latin"},
                {"name": "hiragana", "model": "tasks/hiragana"}]}, "invalid-specification",
     "/tasks/0"),
])
def test_what_cannot_be_started_from_is_named(wire, source, fields, problem, pointer):
    answer = wire.post("/v1/jobs", {"from_job": source["id"], "budget": 1.0, **fields})
    assert answer.status == 422
    assert answer.problem() == problem
    assert answer.json()["pointer"] == pointer


def test_without_from_job_models_are_required(wire):
    answer = wire.post("/v1/jobs", {"budget": 1.0})
    assert answer.status == 422
    assert answer.json()["pointer"] == "/base"


def test_an_unfinished_job_keeps_nothing_yet(wire, held):
    assert wire.job(held)["reusable"] is False
    answer = wire.post("/v1/jobs", {"from_job": held, "budget": 1.0})
    assert answer.status == 422 and answer.problem() == "not-reusable"
    assert "running" in answer.json()["detail"]


def test_a_repeated_request_outlives_its_source(wire):
    source = finish(wire, **specification())
    body = {"from_job": source["id"], "budget": 1.1}
    first = wire.post("/v1/jobs", body, Idempotency_Key="reuse-1").json()
    wire.wait(first["id"], "succeeded")
    assert wire.delete(f"/v1/jobs/{source['id']}").status == 204
    again = wire.post("/v1/jobs", body, Idempotency_Key="reuse-1")
    assert again.status == 200 and again.json()["id"] == first["id"]


def test_the_oldest_are_dropped_when_there_is_no_room(start_daemon, family):
    daemon = start_daemon(family)
    size = finish(Wire(daemon.url), **specification())["kept_bytes"]
    daemon.stop()
    daemon = start_daemon(family, "--keep-spectra-bytes", str(2 * size + size // 2))
    wire = Wire(daemon.url)
    jobs = [finish(wire, **specification(seed=seed)) for seed in range(3)]
    wait_until_kept(daemon, [job["id"] for job in jobs[1:]])
    assert [wire.job(job["id"])["reusable"] for job in jobs] == [False, True, True]
    answer = wire.post("/v1/jobs", {"from_job": jobs[0]["id"], "budget": 1.0})
    assert answer.status == 422 and answer.problem() == "not-reusable"
    assert "leave from_job out" in answer.json()["detail"]


def test_nothing_is_kept_when_none_is_wanted(start_daemon, family):
    daemon = start_daemon(family, "--keep-spectra-bytes", "0")
    wire = Wire(daemon.url)
    job = finish(wire, **specification())
    assert job["reusable"] is False and job["kept_bytes"] == 0
    assert kept(daemon) == []


def test_a_deleted_job_is_kept_while_another_starts_from_it(start_daemon, family):
    daemon = start_daemon(family, "--running-jobs-max", "1")
    wire = Wire(daemon.url)
    source = finish(wire, **specification())
    blocker = wire.submit(specification(**HOLD))["id"]
    wire.wait(blocker, "running")
    waiting = wire.submit({"from_job": source["id"], "budget": 1.0})["id"]
    assert wire.delete(f"/v1/jobs/{source['id']}").status == 204
    assert kept(daemon) == [source["id"]]
    answer = wire.post("/v1/jobs", {"from_job": source["id"], "budget": 1.0})
    assert answer.problem() == "not-reusable"
    wire.post(f"/v1/jobs/{blocker}/cancel")
    assert wire.wait(waiting, "succeeded")["reusable"] is True
    wait_until_kept(daemon, [waiting])
    assert wire.delete(f"/v1/jobs/{waiting}").status == 204
    wait_until_kept(daemon, [])


def test_what_is_kept_survives_a_restart(start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    jobs = [finish(wire, **specification(seed=seed))["id"] for seed in range(2)]
    state = daemon.command[daemon.command.index("--state-dir") + 1]
    daemon.stop()
    os.rename(os.path.join(state, "kept", jobs[1]), os.path.join(state, "kept", "7" * 26))
    daemon.start()
    wire = Wire(daemon.url)
    wait_until_kept(daemon, jobs[:1])  # what lies there is looked through beside requests
    deadline = time.monotonic() + 60
    while [wire.job(job)["reusable"] for job in jobs] != [True, False]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    finish(wire, from_job=jobs[0], budget=0.8)
