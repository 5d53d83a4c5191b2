# SPDX-License-Identifier: Apache-2.0
"""Jobs that extend a finished one: what is kept stays the same, and mistakes name their field."""

import hashlib
import re

import pytest

from wire import specification

TASKS = [{"name": name, "model": f"tasks/{name}"}
         for name in ("hiragana", "latin", "mnist", "orient")]
PLAIN = {"dtype": "bf16"}


@pytest.fixture(scope="session")
def parent(wire):
    """The id of a job of three tasks."""
    job = wire.submit(specification(name="three", tasks=TASKS[:3], budget=0.93, output=PLAIN))
    wire.wait(job["id"], "succeeded")
    return job["id"]


@pytest.fixture(scope="session")
def extended(wire, parent):
    """The id of a job that added the fourth, compared with a full merge."""
    job = wire.submit({"extend": {"job": parent}, "tasks": TASKS[3:], "name": "four",
                       "labels": {"kind": "extended"}})
    wire.wait(job["id"], "succeeded")
    return job["id"]


def artifact(wire, job, name):
    answer = wire.get(f"/v1/jobs/{job}/artifacts/{name}")
    assert answer.status == 200, answer.body
    return answer.body


def manifest(wire, job):
    return wire.get(f"/v1/jobs/{job}/artifacts/manifest.json").json()


def refused(wire, body, pointer, part):
    answer = wire.post("/v1/jobs", body)
    assert answer.status == 422, answer.body
    assert answer.json()["pointer"] == pointer, answer.body
    assert part in answer.json()["detail"], answer.body
    return answer.problem()


def test_what_is_kept_is_the_same_bytes(wire, parent, extended):
    for name in ("shared", "experts/hiragana", "experts/latin", "experts/mnist"):
        assert artifact(wire, parent, f"{name}.safetensors") == artifact(
            wire, extended, f"{name}.safetensors")
    for row in manifest(wire, extended)["files"]:
        data = artifact(wire, extended, row["name"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])


def test_the_new_job_is_a_whole_one(wire, parent, extended):
    job = wire.get(f"/v1/jobs/{extended}").json()
    wanted = job["specification"]
    assert [task["name"] for task in wanted["tasks"]] == ["hiragana", "latin", "mnist", "orient"]
    assert wanted["base"] == "base" and job["name"] == "four"
    assert wanted["extend"]["job"] == parent and wanted["extend"]["add"] == ["orient"]
    old, new = manifest(wire, parent), manifest(wire, extended)
    for task in ("hiragana", "latin", "mnist"):
        assert new["inputs"]["tasks"][task] == old["inputs"]["tasks"][task]
        assert new["error"]["per_task"][task] == pytest.approx(old["error"]["per_task"][task])
    experts = [row["parameters"] for row in old["files"][1:]]
    total = sum(row["parameters"] for row in new["files"])
    assert total <= wanted["budget"] * new["budget"]["model_parameters"] + 1
    assert new["files"][-1]["parameters"] == pytest.approx(sum(experts) / 3, rel=0.02)


def test_it_is_compared_with_a_full_merge(wire, extended):
    report = wire.get(f"/v1/jobs/{extended}").json()["result"]["extends"]["report"]
    assert report["reason"] is None
    assert report["full_merge"]["parameters"] == pytest.approx(report["extended"]["parameters"],
                                                               rel=0.01)
    full, added = report["full_merge"], report["extended"]
    assert 0 < full["per_task"]["orient"] < added["per_task"]["orient"] < 1
    assert 0 < full["relative"] <= added["relative"] < 1


def test_curves_and_similarity_are_of_all_its_tasks(wire, parent, extended):
    frontier = wire.get(f"/v1/jobs/{extended}/frontier").json()
    found = wire.get(f"/v1/jobs/{extended}").json()["result"]
    assert frontier["chosen"]["error"] == pytest.approx(found["error"]["relative"], rel=0.1)
    assert frontier["chosen"]["bytes"] == found["budget"]["bytes"]
    assert frontier["points"][0]["error"] < 1 and frontier["precisions"]["auto"]
    similarity = wire.get(f"/v1/jobs/{extended}/similarity").json()
    assert similarity["tasks"] == [task["name"] for task in TASKS]
    assert all(-1 <= value <= 1 for row in similarity["cosine"] for value in row)
    alone = wire.submit({"extend": {"job": parent, "compare": False}, "tasks": TASKS[3:]})["id"]
    wire.wait(alone, "succeeded")
    cosines = wire.get(f"/v1/jobs/{alone}/similarity").json()["cosine"]
    assert [value is None for value in cosines[3]] == [True, True, True, False]
    assert cosines[0][:3] == similarity["cosine"][0][:3]


def test_a_task_is_removed(wire, parent, extended):
    job = wire.submit({"extend": {"job": extended, "remove": ["latin"]}})
    wire.wait(job["id"], "succeeded")
    found = manifest(wire, job["id"])
    assert found["ranks"]["tasks"] == ["hiragana", "mnist", "orient"]
    assert found["extends"]["removed"] == ["latin"]
    assert wire.get(f"/v1/jobs/{job['id']}/artifacts/experts/latin.safetensors").status == 404
    assert artifact(wire, job["id"], "experts/orient.safetensors") == artifact(
        wire, extended, "experts/orient.safetensors")


def test_a_rebalanced_job_keeps_the_total(wire, parent):
    job = wire.submit({"extend": {"job": parent, "rebalance": True, "remove": ["latin"]},
                       "tasks": TASKS[3:]})
    wire.wait(job["id"], "succeeded")
    found = manifest(wire, job["id"])
    assert found["ranks"]["tasks"] == ["hiragana", "mnist", "orient"]
    assert found["budget"]["parameters"] <= 0.93 + 1e-9
    assert found["specification"]["extend"]["rebalance"] is True
    other = wire.submit(specification(name="three", tasks=[TASKS[0], TASKS[2], TASKS[3]],
                                      budget=0.93, output=PLAIN))
    wire.wait(other["id"], "succeeded")
    assert artifact(wire, job["id"], "shared.safetensors") == artifact(
        wire, other["id"], "shared.safetensors")


def test_a_budget_of_its_own(wire, parent):
    body = {"extend": {"job": parent, "budget": 0.4, "compare": False}, "tasks": TASKS[3:]}
    plan = wire.post("/v1/jobs?dry_run=true", body)
    assert plan.status == 200 and plan.json()["budget"] == 0.4
    job = wire.submit(body)
    wire.wait(job["id"], "succeeded")
    found = manifest(wire, job["id"])
    assert 0.38 < found["files"][-1]["parameters"] / found["budget"]["model_parameters"] <= 0.4
    assert found["extends"]["report"]["full_merge"] is None


def test_a_number_means_16_bit_parameters_where_bits_are_allocated(wire):
    parent = wire.submit(specification(tasks=TASKS[:3], budget=0.4))["id"]
    wire.wait(parent, "succeeded")
    body = {"extend": {"job": parent, "budget": 0.1, "compare": False}, "tasks": TASKS[3:]}
    model = manifest(wire, parent)["budget"]["model_parameters"]
    plan = wire.post("/v1/jobs?dry_run=true", body).json()
    assert plan["budget_unit"] == "bytes" and plan["budget"] == int(0.1 * 2 * model)


@pytest.mark.parametrize("dtype, budget", [
    ("int4", {"bytes": 90000}), ("auto", 0.25), ("auto", {"bytes_ratio": 0.12}),
    ("int8", 0.93), ("auto", {"max_error": 0.3})])
def test_packed_jobs_are_extended_in_their_unit(wire, dtype, budget):
    parent = wire.submit(specification(tasks=TASKS[:3], budget=budget,
                                       output={"dtype": dtype}))["id"]
    wire.wait(parent, "succeeded")
    child = wire.submit({"extend": {"job": parent}, "tasks": TASKS[3:]})
    wire.wait(child["id"], "succeeded")
    old, new = manifest(wire, parent), manifest(wire, child["id"])
    assert artifact(wire, parent, "shared.safetensors") == artifact(wire, child["id"],
                                                                    "shared.safetensors")
    counted = "parameters" if budget == 0.93 else "bytes"
    experts = [row[counted] for row in old["files"][1:]]
    assert 0.8 * sum(experts) / 3 < new["files"][-1][counted] <= sum(experts) / 3 + 1
    assert new["budget"]["bytes"] == sum(row["bytes"] for row in new["files"])
    assert new["extends"]["report"]["full_merge"] is not None, new["extends"]
    assert new["error"]["per_task"]["orient"] < 1
    for layer in new["ranks"]["layers"]:
        assert len(layer["bits"]["experts"]) == len(layer["bits"]["dense"]) == 4
    assert all(len(bits) in (1, 4) for bits in new["dense_bits"].values())


def test_the_parent_may_go(wire):
    """A running child holds it; a finished one does not need it."""
    one = wire.submit(specification(tasks=TASKS[:2], budget=0.7))["id"]
    wire.wait(one, "succeeded")
    shared = artifact(wire, one, "shared.safetensors")
    two = wire.submit({"extend": {"job": one, "compare": False}, "tasks": TASKS[3:]})["id"]
    answer = wire.delete(f"/v1/jobs/{one}")
    assert answer.status == 204 or two in answer.json()["detail"]
    wire.wait(two, "succeeded")
    assert answer.status == 204 or wire.delete(f"/v1/jobs/{one}").status == 204
    assert artifact(wire, two, "shared.safetensors") == shared
    refused(wire, {"extend": {"job": one}, "tasks": TASKS[3:]}, "/extend/job", "no job has the id")


def test_nothing_starts_from_an_extension_but_one_extends_what_did(wire, parent, extended):
    assert wire.get(f"/v1/jobs/{extended}").json()["reusable"] is False
    answer = wire.post("/v1/jobs", {"from_job": extended, "budget": 1})
    assert answer.status == 422 and answer.json()["pointer"] == "/from_job"
    one = wire.submit({"from_job": parent, "budget": 0.8})["id"]
    wire.wait(one, "succeeded")
    two = wire.submit({"extend": {"job": one, "compare": False}, "tasks": TASKS[3:]})
    assert "from_job" not in two["specification"]
    wire.wait(two["id"], "succeeded")
    assert artifact(wire, one, "shared.safetensors") == artifact(wire, two["id"],
                                                                 "shared.safetensors")


def test_mistakes_name_their_field(wire, parent, held):
    added = {"tasks": TASKS[3:]}
    of = {"job": parent}
    refused(wire, {"extend": 3, **added}, "/extend", "an object")
    refused(wire, {"extend": {}, **added}, "/extend/job", "id of the job")
    refused(wire, {"extend": {"job": "nosuch"}, **added}, "/extend/job", "no job has the id")
    refused(wire, {"extend": {"job": held}, **added}, "/extend/job", "only a succeeded job")
    refused(wire, {"extend": of, "base": "tasks/mnist", **added}, "/base", 'from base "base"')
    refused(wire, {"extend": of, "ranks": {"steps": 3}, **added}, "/ranks", "leave it out")
    refused(wire, {"extend": {**of, "x": 1}, **added}, "/extend/x", "unknown field")
    refused(wire, {"extend": {**of, "compare": 1}, **added}, "/extend/compare", "true or false")
    refused(wire, {"extend": of}, "/tasks", "no task to add")
    refused(wire, {"extend": of, "tasks": TASKS[2:]}, "/tasks/0/name",
            'has a task "mnist" already')
    refused(wire, {"extend": of, "tasks": [{"name": "new", "model": "tasks/mnist"}]},
            "/tasks/0/model", "already")
    refused(wire, {"extend": of, "tasks": [{"name": "new", "model": "tasks/none"}]},
            "/tasks/0/model", "no model")
    refused(wire, {"extend": {**of, "remove": ["nobody"]}, **added}, "/extend/remove/0",
            "it has hiragana, latin, mnist")
    refused(wire, {"extend": {**of, "remove": ["latin", "latin"]}}, "/extend/remove/1",
            "it has hiragana, mnist")
    refused(wire, {"extend": {**of, "remove": ["hiragana", "latin", "mnist"]}}, "/extend/remove",
            "no task would be left")
    refused(wire, {"extend": {**of, "budget": -1}, **added}, "/extend/budget", "must be > 0")
    refused(wire, {"extend": {**of, "budget": {"bytes": 9000}}, **added}, "/extend/budget",
            "counts parameters")
    refused(wire, {"extend": {**of, "budget": 1, "rebalance": True}, **added}, "/extend/budget",
            "leave budget out")
    assert refused(wire, {"extend": {**of, "budget": 0.001}, **added}, "/extend/budget",
                   "is below the") == "budget-unreachable"
    counted = wire.submit(specification(tasks=TASKS[:2], budget={"bytes": 120000},
                                        output=PLAIN))["id"]
    wire.wait(counted, "succeeded")
    refused(wire, {"extend": {"job": counted, "budget": 0.2}, **added}, "/extend/budget",
            "counts bytes")
    refused(wire, {"extend": {"job": counted, "budget": {"bytes": 90}}, **added},
            "/extend/budget", "is below the")


@pytest.mark.parametrize("budget, dtype, small, each", [
    (0.6, "bf16", 0.001, float), ({"bytes": 90000}, "int4", {"bytes": 90}, int),
    (0.3, "auto", {"bytes": 90}, int)])
def test_the_figure_given_for_each_task_works(wire, budget, dtype, small, each):
    parent = wire.submit(specification(tasks=TASKS[:2], budget=budget, output={"dtype": dtype}))
    wire.wait(parent["id"], "succeeded")
    for added, pattern in ((TASKS[2:3], r"is below the ([\d.]+) "),
                           (TASKS[2:], r"for each of the 2 tasks added: ([\d.]+)$")):
        body = {"extend": {"job": parent["id"], "budget": small, "compare": False}, "tasks": added}
        answer = wire.post("/v1/jobs", body)
        assert (answer.status, answer.problem()) == (422, "budget-unreachable")
        assert answer.json()["pointer"] == "/extend/budget"
        figure = each(re.search(pattern, answer.json()["detail"]).group(1))
        body["extend"]["budget"] = figure if each is float else {"bytes": figure}
        wire.wait(wire.submit(body)["id"], "succeeded")


def test_a_missing_job_makes_no_row(wire, parent):
    before = wire.get("/v1/jobs?limit=1").json()["data"][0]["id"]
    wire.post("/v1/jobs", {"extend": {"job": parent}, "tasks": TASKS[:1]})
    assert wire.get("/v1/jobs?limit=1").json()["data"][0]["id"] == before


def test_a_child_can_be_cancelled(wire, parent):
    """While it is compared, or later: nothing is left that would be published."""
    child = wire.submit({"extend": {"job": parent}, "tasks": TASKS[3:], "priority": -100})["id"]
    wire.post(f"/v1/jobs/{child}/cancel")
    if wire.wait(child, "cancelled", "succeeded")["state"] == "cancelled":
        assert wire.get(f"/v1/jobs/{child}/artifacts").status == 409
        assert wire.post(f"/v1/jobs/{child}/retry").status == 200
        wire.wait(child, "succeeded")
    assert manifest(wire, child)["extends"]["report"]["reason"] is None
