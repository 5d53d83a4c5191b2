# SPDX-License-Identifier: Apache-2.0
"""Methods: their list, the contract's options against it, and jobs by them."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAMILY = {"base": "base", "tasks": [{"name": "mnist", "model": "tasks/mnist"},
                                    {"name": "latin", "model": "tasks/latin"}]}


def methods_of(wire):
    return {row["name"]: row for row in wire.get("/v1/methods").json()["methods"]}


def test_the_list_names_what_each_takes(wire):
    methods = methods_of(wire)
    assert methods["didi"]["takes_budget"] and methods["didi"]["extends"]
    assert not methods["average"]["takes_budget"] and methods["average"]["options"] == []
    assert [name for name, row in methods.items() if row.get("takes_grams")] == ["cat"]
    (scale,) = methods["task_arithmetic"]["options"]
    assert (scale["field"], scale["default"]) == ("/method_options/scale", 0.3)
    assert scale["exclusive_minimum"] == 0 and scale["maximum"] == 10
    assert not methods["regmean"]["usable"] and "Gram" in methods["regmean"]["needs"]


def test_the_contract_says_of_options_what_the_table_says(wire):
    pytest.importorskip("yaml")
    writer = [sys.executable, str(ROOT / "proto/write_options.py"), "--check"]
    said = wire.get("/v1/methods").json()
    assert subprocess.run(writer, input=json.dumps(said), text=True).returncode == 0
    beta = next(row for row in said["methods"][0]["options"] if row["field"] == "/ranks/beta")
    beta["maximum"] /= 2
    told = subprocess.run(writer, input=json.dumps(said), text=True, stderr=subprocess.PIPE)
    assert told.returncode == 1 and "/ranks/beta: maximum" in told.stderr


@pytest.mark.parametrize("more, pointer", [
    ({"method": "tiez"}, "/method"),
    ({"method": "regmean"}, "/method"),
    ({"method": "average", "budget": 1.24}, "/budget"),
    ({"method": "average", "method_options": {"scale": 1}}, "/method_options/scale"),
    ({"method": "task_arithmetic", "method_options": {"scale": 0}}, "/method_options/scale"),
    ({"method": "task_arithmetic", "method_options": {"scale": "x"}}, "/method_options/scale"),
    ({"method": "average", "output": {"dtype": "auto"}}, "/output/dtype"),
    ({"method": "average", "ranks": {"beta": 2}}, "/ranks"),
    ({"method": "average", "dense": "mean"}, "/dense"),
    ({"method": "cat"}, "/tasks/0/gram"),
    ({"method": "average", "tasks": [{**FAMILY["tasks"][0], "gram": "tasks/mnist"}]},
     "/tasks/0/gram"),
    ({"method": "cat", "tasks": [{**FAMILY["tasks"][0], "gram": "../grams"}]}, "/tasks/0/gram"),
    ({"method": "cat", "tasks": [{**FAMILY["tasks"][0], "gram": "no/such"}]}, "/tasks/0/gram"),
    ({"method": "A b"}, "/method"),
    ({"method_options": [], "budget": 1.24}, "/method_options"),
    ({"method_options": {"scale": 1}, "budget": 1.24}, "/method_options/scale"),
    ({}, "/budget"),
])
def test_what_a_method_does_not_have_is_refused_by_name(wire, more, pointer):
    answer = wire.post("/v1/jobs", {**FAMILY, **more})
    assert answer.status in (400, 422), answer.body
    assert answer.json()["pointer"] == pointer, answer.body


def test_an_unknown_method_is_told_which_there_are(wire):
    answer = wire.post("/v1/jobs", {**FAMILY, "method": "tiez"})
    assert "didi, average, task_arithmetic" in answer.json()["detail"]


@pytest.mark.parametrize("method, options, least, most", [
    ("average", None, 0.99, 1.01), ("task_arithmetic", {"scale": 0.5}, 0.99, 1.01),
    ("emr", {"rescaler": "tensors"}, 1.05, 1.08), ("bitdelta", None, 0.37, 0.38)])
def test_a_job_by_another_method(wire, method, options, least, most):
    asked = {**FAMILY, "method": method, **({"method_options": options} if options else {})}
    plan = wire.post("/v1/jobs?dry_run=true", asked).json()
    assert plan["budget"] is None and plan["specification"]["method"] == method
    job = wire.submit(asked)
    done = wire.wait(job["id"], "succeeded", "failed")
    assert done["state"] == "succeeded", done["error"]
    assert done["result"]["budget"]["requested"] is None
    assert done["result"]["figures"] == []
    assert least < done["result"]["budget"]["parameters"] < most
    assert 0 < done["result"]["error"]["relative"] < 2
    for part in ("ranks", "frontier", "similarity"):
        assert wire.get(f"/v1/jobs/{job['id']}/{part}").problem() == "no-result", part
    extend = wire.post("/v1/jobs", {"extend": {"job": job["id"], "remove": ["latin"]}})
    assert extend.status in (400, 409, 422) and method in extend.json()["detail"]
    again = wire.post("/v1/jobs", {"from_job": job["id"], "budget": 1.24})
    assert again.status in (400, 404, 409, 422)


@pytest.mark.parametrize("method, options, form", [
    ("tsv_c", None, "peft"), ("twin", {"rank_share": 0.2}, "peft-exact"),
    ("smile", {"rank": 4}, "peft"), ("wemoe", None, "peft-exact"), ("cart", None, "peft-exact"),
    ("svd_lora", {"rank": 4}, "peft"), ("individuals", None, "peft-exact")])
def test_a_job_by_a_method_with_experts(wire, method, options, form):
    asked = {**FAMILY, "method": method, **({"method_options": options} if options else {})}
    plan = wire.post("/v1/jobs?dry_run=true", asked).json()
    assert plan["budget"] is None and plan["memory_minimum_bytes"] > 0, plan
    job = wire.submit(asked)
    done = wire.wait(job["id"], "succeeded", "failed")
    assert done["state"] == "succeeded", done["error"]
    assert 0 <= done["result"]["error"]["relative"] < 1
    assert done["result"]["budget"]["bytes"] <= plan["artifact_bytes"]
    assert wire.get(f"/v1/jobs/{job['id']}/ranks").problem() == "no-result"
    export = wire.post(f"/v1/jobs/{job['id']}/exports", {"format": form, "tasks": ["mnist"]})
    assert export.status in (200, 201, 202), export.body
