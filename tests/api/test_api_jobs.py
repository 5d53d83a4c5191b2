# SPDX-License-Identifier: Apache-2.0
"""Submission and what can be done with a job."""

import json
import math
import shutil

import pytest

from wire import HOLD, Wire, specification

NOBODY = "0" * 26


def test_submit_shows_all_defaults(wire):
    answer = wire.post("/v1/jobs", specification(name="defaults"))
    job = answer.json()
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued" and job["attempt"] == 0 and job["error"] is None
    assert job["specification"]["output"] == {"dtype": "auto"}
    assert job["specification"]["tasks"][0] == {"name": "hiragana", "model": "tasks/hiragana",
                                                "weight": 1}
    again = wire.post("/v1/jobs?dry_run=true", job["specification"]).json()
    assert again["specification"] == job["specification"]
    wire.wait(job["id"], "succeeded")


def test_dry_run_gives_a_plan_and_makes_nothing(wire):
    before = wire.get("/v1/jobs").json()["data"][:1]
    plan = wire.post("/v1/jobs?dry_run=true", specification(budget="S")).json()
    assert plan["tasks"] == 2 and plan["budget"] == 1.24
    assert plan["budget_minimum"] < 1.24
    assert plan["parameters"] == 58624
    assert plan["tensors"]["low_rank"] == len(plan["layers"]) > 0
    assert all(0 < layer["rank_limit"] < max(layer["rows"], layer["columns"])
               for layer in plan["layers"])
    assert wire.get("/v1/jobs").json()["data"][:1] == before


def task(name, model, **more):
    return {"name": name, "model": model, **more}


BAD = [
    (specification(colour="red"), "/colour"),
    (specification(ranks={"alpha": 1}), "/ranks/alpha"),
    (specification(**{"a~/b": 1}), "/a~0~1b"),
    (specification(budget=0), "/budget"),
    (specification(budget=-1), "/budget"),
    (specification(budget=1e6), "/budget"),
    (specification(budget="XL"), "/budget"),
    (specification(budget=None), "/budget"),
    (specification(budget=[1]), "/budget"),
    ({"base": "base", "tasks": [task("a", "tasks/latin")]}, "/budget"),
    ({"tasks": [task("a", "tasks/latin")], "budget": 1}, "/base"),
    ({"base": "base", "budget": 1}, "/tasks"),
    (specification(tasks=[]), "/tasks"),
    (specification(tasks={}), "/tasks"),
    (specification(tasks=[7]), "/tasks/0"),
    (specification(tasks=[{"name": "a"}]), "/tasks/0/model"),
    (specification(tasks=[task("a", "base")]), "/tasks/0/model"),
    (specification(tasks=[task("a", "tasks/latin"), task("a", "tasks/mnist")]), "/tasks/1/name"),
    (specification(tasks=[task("a", "tasks/latin"), task("b", "tasks/latin")]), "/tasks/1/model"),
    (specification(tasks=[task(".a", "tasks/latin")]), "/tasks/0/name"),
    (specification(tasks=[task("a/b", "tasks/latin")]), "/tasks/0/name"),
    (specification(tasks=[task("a", "../latin")]), "/tasks/0/model"),
    (specification(tasks=[task("a", "/etc/passwd")]), "/tasks/0/model"),
    (specification(tasks=[task("a", "tasks//latin")]), "/tasks/0/model"),
    (specification(tasks=[task("a", "tasks/latin", weight=0)]), "/tasks/0/weight"),
    (specification(tasks=[task("a", "tasks/latin", weight="1")]), "/tasks/0/weight"),
    (specification(base=["base"]), "/base"),
    (specification(method="magic"), "/method"),
    (specification(ranks=[]), "/ranks"),
    (specification(ranks={"allocator": "guess"}), "/ranks/allocator"),
    (specification(ranks={"steps": -1}), "/ranks/steps"),
    (specification(ranks={"steps": 1.5}), "/ranks/steps"),
    (specification(ranks={"steps": 10**6}), "/ranks/steps"),
    (specification(ranks={"beta": 0}), "/ranks/beta"),
    (specification(refine={"optimizer": 3}), "/refine/optimizer"),
    (specification(refine={"tolerance": 2}), "/refine/tolerance"),
    (specification(output={"dtype": "f64"}), "/output/dtype"),
    (specification(seed=-1), "/seed"),
    (specification(priority=101), "/priority"),
    (specification(include="*"), "/include"),
    (specification(exclude=[""]), "/exclude/0"),
    (specification(labels={"-": "x"}), "/labels/-"),
    (specification(labels={"a": 1}), "/labels/a"),
    (specification(labels={f"k{i}": "" for i in range(17)}), "/labels"),
    (specification(name="a\nb"), "/name"),
    (specification(name="x" * 129), "/name"),
]


@pytest.mark.parametrize("document, pointer", BAD, ids=[pointer for _, pointer in BAD])
def test_bad_specifications_name_the_field(wire, document, pointer):
    for target in ("/v1/jobs", "/v1/jobs?dry_run=true"):
        answer = wire.post(target, document)
        assert (answer.status, answer.problem()) == (422, "invalid-specification")
        assert answer.json()["pointer"] == pointer


@pytest.mark.parametrize("body", [
    b"", b"{", b"nonsense", b"[1,]", b'{"base":"a","base":"b"}', b'{"budget":NaN}',
    b'{"budget":Infinity}', b'{"budget":1e999}', b"\xff\xfe", b'{"name":"\\u0000"}', b"[" * 60000,
    b"{} {}", b'{"seed":99999999999999999999}',
])
def test_malformed_json(wire, body):
    answer = wire.post("/v1/jobs", body)
    assert (answer.status, answer.problem()) == (400, "malformed-json")


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"x"'])
def test_body_that_is_no_object(wire, body):
    assert wire.post("/v1/jobs", body).problem() == "invalid-specification"


def test_media_type_is_checked(wire):
    body = json.dumps(specification()).encode()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx",
                       "application/json; charset=latin-1", ""):
        answer = wire.post("/v1/jobs?dry_run=true", body, Content_Type=media_type)
        assert (answer.status, answer.problem()) == (415, "unsupported-media-type"), media_type
    for media_type in ("application/json", "Application/JSON; charset=utf-8"):
        assert wire.post("/v1/jobs?dry_run=true", body, Content_Type=media_type).status == 200


def test_missing_models_are_named(wire):
    answer = wire.post("/v1/jobs", specification(base="tasks/none"))
    assert (answer.status, answer.problem()) == (422, "missing-model")
    assert answer.json()["pointer"] == "/base" and "tasks/none" in answer.json()["detail"]
    tasks = [task("a", "tasks/latin"), task("b", "nobody")]
    answer = wire.post("/v1/jobs", specification(tasks=tasks))
    assert answer.json()["pointer"] == "/tasks/1/model"


def test_budget_too_small_for_one_rank(wire):
    answer = wire.post("/v1/jobs", specification(budget=0.001))
    assert (answer.status, answer.problem()) == (422, "budget-unreachable")


def test_bad_dry_run(wire):
    answer = wire.post("/v1/jobs?dry_run=perhaps", specification())
    assert answer.problem() == "invalid-parameter"
    assert answer.json()["parameter"] == "dry_run"


def test_idempotency_key(wire):
    body = specification(name="once")
    first = wire.post("/v1/jobs", body, Idempotency_Key="key-1")
    assert first.status == 201
    for key in ("key-1", '"key-1"'):
        again = wire.post("/v1/jobs", body, Idempotency_Key=key)
        assert again.status == 200 and again.json()["id"] == first.json()["id"]
        assert again.headers["Location"] == first.headers["Location"]
    other = wire.post("/v1/jobs", specification(name="other"), Idempotency_Key="key-1")
    assert (other.status, other.problem()) == (422, "idempotency-key-reused")
    second = wire.post("/v1/jobs", body, Idempotency_Key="key-2")
    assert second.status == 201 and second.json()["id"] != first.json()["id"]
    for key in ("", "a b", "x" * 129, "ä"):
        answer = wire.post("/v1/jobs", body, Idempotency_Key=key.encode("latin-1"))
        assert answer.status == 400
    for job in (first, second):
        wire.wait(job.json()["id"], "succeeded")


def test_a_repeated_request_does_not_need_the_models(start_daemon, family, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(family, root)
    wire = Wire(start_daemon(root).url)
    first = wire.post("/v1/jobs", specification(), Idempotency_Key="k").json()
    wire.wait(first["id"], "succeeded")
    shutil.rmtree(root / "tasks")
    again = wire.post("/v1/jobs", specification(), Idempotency_Key="k")
    assert again.status == 200 and again.json()["id"] == first["id"]
    assert wire.post("/v1/jobs", specification()).problem() == "missing-model"


def test_list_pages_and_filters(wire, finished):
    ids = [wire.submit(specification(name="paged", labels={"batch": "b 1", "n": str(i)}))["id"]
           for i in range(5)]
    assert ids == sorted(ids)
    seen, after = [], ""
    while True:
        page = wire.get(f"/v1/jobs?label=batch%3Db+1&limit=2{after}").json()
        seen += [job["id"] for job in page["data"]]
        assert page["has_more"] == (page["next"] is not None)
        if not page["has_more"]:
            break
        assert len(page["data"]) == 2
        after = f"&after={page['next']}"
    assert seen == ids[::-1]
    assert [job["id"] for job in wire.get("/v1/jobs?label=n=3").json()["data"]] == [ids[3]]
    for job_id in ids:
        wire.wait(job_id, "succeeded")
    states = {job["state"] for job in wire.get("/v1/jobs?state=succeeded&limit=200").json()["data"]}
    assert states == {"succeeded"}
    found = wire.get("/v1/jobs?label=kind%3Dfinished").json()["data"]
    assert [job["id"] for job in found] == [finished]


@pytest.mark.parametrize("query, parameter", [
    ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
    ("limit=-1", "limit"), ("limit=1e2", "limit"), ("limit=99999999999999999999", "limit"),
    ("limit=007", "limit"), ("state=done", "state"), ("after=x", "after"), ("label=x", "label"),
    ("label=%3Dx", "label"), ("label=a%3D%C3%A4", "label"),
])
def test_bad_list_parameters(wire, query, parameter):
    answer = wire.get("/v1/jobs?" + query)
    assert (answer.status, answer.problem()) == (400, "invalid-parameter")
    assert answer.json()["parameter"] == parameter


def test_unknown_jobs(wire):
    for job_id in (NOBODY, "x", "..%61", "A" * 26, "z" * 300):
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"),
                             ("GET", "/events"), ("GET", "/ranks"), ("GET", "/frontier"),
                             ("GET", "/artifacts"), ("GET", "/exports"),
                             ("GET", "/artifacts/manifest.json")):
            answer = wire.request(method, f"/v1/jobs/{job_id}{rest}")
            assert (answer.status, answer.problem()) == (404, "unknown-job"), (method, rest)
    assert wire.post(f"/v1/jobs/{NOBODY}/exports", {"format": "full"}).problem() == "unknown-job"


def test_finished_jobs_cannot_be_cancelled_or_retried(wire, finished):
    for action in ("cancel", "retry"):
        answer = wire.post(f"/v1/jobs/{finished}/{action}")
        assert (answer.status, answer.problem()) == (409, "conflict")
    assert "failed or cancelled" in answer.json()["detail"]
    assert wire.job(finished)["state"] == "succeeded"


def test_cancel_retry_delete(wire):
    job_id = wire.submit(specification(**HOLD))["id"]
    wire.wait(job_id, "running")
    assert wire.delete(f"/v1/jobs/{job_id}").problem() == "conflict"
    answer = wire.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status == 200
    assert answer.json()["state"] == "cancelled" or answer.json()["cancel_requested"]
    wire.wait(job_id, "cancelled")
    for rest in ("/ranks", "/frontier", "/artifacts", "/artifacts/manifest.json"):
        answer = wire.get(f"/v1/jobs/{job_id}{rest}")
        assert (answer.status, answer.problem()) == (409, "no-result")
    retried = wire.post(f"/v1/jobs/{job_id}/retry")
    assert retried.status == 200 and retried.json()["state"] in ("queued", "running")
    wire.post(f"/v1/jobs/{job_id}/cancel")
    wire.wait(job_id, "cancelled")
    gone = wire.delete(f"/v1/jobs/{job_id}")
    assert gone.status == 204 and gone.body == b""
    assert wire.get(f"/v1/jobs/{job_id}").problem() == "unknown-job"
    assert wire.delete(f"/v1/jobs/{job_id}").problem() == "unknown-job"


def test_a_more_urgent_job_does_not_wait_for_a_place(start_daemon, family):
    # a step that waits for the test would keep the only worker; this job's items take a second each
    daemon = start_daemon(family, "--running-jobs-max", "1", "--workers", "1",
                          environment={"DIDI_FAULT": ""})
    wire = Wire(daemon.url)
    long = wire.submit(specification(refine={"optimizer": "adam", "steps": 20000}))["id"]
    wire.wait(long, "running")
    equal = wire.submit(specification())["id"]
    urgent = wire.submit(specification(priority=5))["id"]
    wire.wait(urgent, "succeeded")
    assert wire.job(long)["state"] == "running"
    assert wire.job(equal)["state"] == "queued"
    wire.post(f"/v1/jobs/{long}/cancel")
    wire.wait(equal, "succeeded")


def test_a_finished_job_shows_its_figures(wire, finished):
    job = wire.job(finished)
    assert job["progress"] == 1 and job["finished_at"] >= job["started_at"] >= job["created_at"]
    assert 0 < job["result"]["error"]["relative"] < 1
    assert job["result"]["budget"]["requested"] == pytest.approx(1.3)
    assert math.isfinite(job["result"]["budget"]["parameters"])
    assert job["result"]["figures"] == ["frontier", "similarity", "ranks"]


def test_ranks_and_frontier_are_the_manifests(wire, finished):
    manifest = wire.get(f"/v1/jobs/{finished}/artifacts/manifest.json").json()
    assert wire.get(f"/v1/jobs/{finished}/ranks").json() == manifest["ranks"]
    assert wire.get(f"/v1/jobs/{finished}/frontier").json() == manifest["frontier"]
