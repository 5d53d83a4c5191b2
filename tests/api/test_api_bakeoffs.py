# SPDX-License-Identifier: Apache-2.0
"""Bake-offs: every method at its own size, didi at these, one table; mistakes; what stays of it."""

import time

import pytest

from wire import specification

TASKS = specification()["tasks"]
REQUEST = {"base": "base", "tasks": TASKS,
           "methods": ["average", {"method": "ties", "method_options": {"scale": 0.3}},
                       "bitdelta", "regmean"]}
ENDED = ("succeeded", "failed", "cancelled")


def wait_ended(wire, bakeoff, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = wire.get(f"/v1/bakeoffs/{bakeoff}").json()
        if shown["state"] in ENDED:
            return shown
        time.sleep(0.05)
    raise AssertionError(shown)


def begin(wire, **fields):
    answer = wire.post("/v1/bakeoffs", {**REQUEST, **fields})
    assert answer.status == 201, answer.body
    shown = answer.json()
    assert answer.headers["Location"] == f"/v1/bakeoffs/{shown['id']}"
    return shown


def rows_of(shown, role):
    return [row for row in shown["rows"] if row["role"] == role]


@pytest.fixture(scope="module")
def kept(wire):
    """One that ended and left its jobs."""
    begun = begin(wire, name="kept", labels={"team": "bakers"}, keep_artifacts=True)
    assert begun["state"] == "queued" and begun["verdict"]["ahead"] == []
    return wait_ended(wire, begun["id"])


def test_didi_is_measured_at_the_sizes_of_the_methods(wire, kept):
    assert kept["state"] == "succeeded" and kept["error"] is None and not kept["scored"]
    methods = {row["label"]: row for row in rows_of(kept, "method")}
    assert list(methods) == ["average", "ties, scale 0.3", "bitdelta", "regmean"]
    refused = methods.pop("regmean")
    assert (refused["state"], refused["job"]) == ("refused", None)
    assert "Gram" in refused["error"]["detail"]
    sizes = sorted(row["ratio"] for row in methods.values())
    own = rows_of(kept, "didi")
    assert len(own) == 2  # average and ties have one size
    for size, row in zip((sizes[0], sizes[1]), own):
        assert row["state"] == "succeeded" and 0.9 * size < row["ratio"] <= size
    assert all(row["relative_error"] > 0 and row["seconds"] > 0 and row["kept"] is None
               for row in (*methods.values(), *own))
    for row in (*methods.values(), *own):
        assert 0 < row["cosine"] <= 1.000001 and row["length"] > 0
        assert set(row["scores"]) == {"hiragana", "latin"}
        assert all(one["score"] is None and one["error"] is None for one in row["scores"].values())
    assert own[1]["cosine"] > methods["average"]["cosine"]
    assert own[1]["relative_error"] < methods["average"]["relative_error"]
    assert kept["verdict"]["measure"] == "relative_error"
    assert "cannot be compared" in kept["verdict"]["note"]


def test_members_are_jobs(wire, kept):
    page = wire.get("/v1/jobs?label=team%3Dbakers&limit=200").json()["data"]
    assert {job["bakeoff"] for job in page} == {kept["id"]}
    assert {job["id"] for job in page} == {row["job"] for row in kept["rows"] if row["job"]}
    survey, = rows_of(kept, "survey")
    for row in rows_of(kept, "didi"):
        shown = wire.get(f"/v1/jobs/{row['job']}").json()
        assert shown["specification"]["from_job"] == survey["job"]
        assert shown["name"] == row["label"] and shown["bakeoff"] == kept["id"]
    assert kept["members"] == kept["members_ended"] == len(kept["rows"])


def test_a_list_goes_from_page_to_page(wire, kept):
    begin(wire, methods=["average"])
    page = wire.get("/v1/bakeoffs?limit=1").json()
    assert page["has_more"] and page["data"][0]["id"] == page["next"] > kept["id"]
    after = wire.get(f"/v1/bakeoffs?after={page['next']}").json()
    assert kept["id"] in [row["id"] for row in after["data"]]
    assert "rows" not in page["data"][0]


def test_jobs_go_unless_they_are_to_stay_and_sizes_may_be_given(wire):
    shown = wait_ended(wire, begin(wire, methods=["average", "emr"], sizes=[1.5, 0.6])["id"])
    assert [row["label"] for row in rows_of(shown, "didi")] == ["didi 0.60x", "didi 1.50x"]
    assert not any(row["job_exists"] for row in shown["rows"])
    for row in shown["rows"]:
        assert row["bytes"] is not None or row["role"] == "survey"
        assert wire.get(f"/v1/jobs/{row['job']}").problem() == "unknown-job"
    assert wire.delete(f"/v1/bakeoffs/{shown['id']}").status == 204
    assert wire.get(f"/v1/bakeoffs/{shown['id']}").problem() == "unknown-bakeoff"
    assert wire.delete(f"/v1/bakeoffs/{shown['id']}").problem() == "unknown-bakeoff"


def test_removing_takes_the_jobs_with_it(wire):
    shown = wait_ended(wire, begin(wire, methods=["average"], sizes=[1], keep_artifacts=True)["id"])
    assert all(row["job_exists"] for row in shown["rows"])
    assert wire.delete(f"/v1/bakeoffs/{shown['id']}").status == 204
    for row in shown["rows"]:
        assert wire.get(f"/v1/jobs/{row['job']}").status == 404


def test_a_size_that_cannot_be_is_a_row_with_its_error(wire):
    shown = wait_ended(wire, begin(wire, methods=["average"], sizes=[1e-6, 1])["id"])
    first, second = rows_of(shown, "didi")
    assert first["state"] == "failed" and first["error"]["type"].endswith("budget-unreachable")
    assert second["state"] == "succeeded" and shown["state"] == "succeeded"


def test_cancelling_ends_its_jobs(wire, held):
    shown = begin(wire, keep_artifacts=True)
    path = f"/v1/bakeoffs/{shown['id']}"
    assert wire.delete(path).problem() == "conflict"
    assert wire.post(f"{path}/cancel").json()["cancel_requested"]
    ended = wait_ended(wire, shown["id"])
    assert ended["state"] == "cancelled" and rows_of(ended, "didi") == []
    assert {row["state"] for row in ended["rows"]} <= {"cancelled", "succeeded", "refused"}
    assert wire.post(f"{path}/cancel").problem() == "conflict"
    assert wire.get(f"/v1/jobs/{held}").json()["state"] == "running"


def test_the_same_key_is_the_same_bakeoff(wire):
    body = {**REQUEST, "methods": ["average"], "sizes": [1]}
    first = wire.post("/v1/bakeoffs", body, Idempotency_Key="bake")
    again = wire.post("/v1/bakeoffs", body, Idempotency_Key="bake")
    assert (first.status, again.status) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = wire.post("/v1/bakeoffs", {**body, "name": "other"}, Idempotency_Key="bake")
    assert other.problem() == "idempotency-key-reused"
    wait_ended(wire, first.json()["id"])


def test_gram_matrices_are_for_the_method_that_takes_them(wire):
    shown = wait_ended(wire, begin(wire, methods=["average", "cat"], sizes=[1])["id"])
    average, cat = rows_of(shown, "method")
    assert average["state"] == "succeeded"
    assert cat["state"] == "refused" and "gram" in cat["error"]["detail"].lower()
    answer = wire.post("/v1/bakeoffs", {**REQUEST, "tasks": [{**TASKS[0], "gram": "none"},
                                                             TASKS[1]], "methods": ["cat"]})
    assert answer.problem() == "missing-model" and answer.json()["pointer"] == "/tasks/0/gram"


def test_nothing_is_left_where_only_refused_methods_are(wire):
    shown = wait_ended(wire, begin(wire, methods=["regmean", "fisher"])["id"])
    assert shown["state"] == "failed" and "no method gave a result" in shown["error"]["detail"]


@pytest.mark.parametrize("change, problem, pointer", [
    ({"tasks": TASKS[:1]}, "invalid-specification", "/tasks"),
    ({"tasks": [TASKS[0], {**TASKS[0], "name": "again"}]}, "invalid-specification",
     "/tasks/1/model"),
    ({"base": "nowhere"}, "missing-model", "/base"),
    ({"tasks": [TASKS[0], {"name": "x", "model": "tasks/none"}]}, "missing-model",
     "/tasks/1/model"),
    ({"methods": []}, "invalid-specification", "/methods"),
    ({"methods": ["average"] * 65}, "invalid-specification", "/methods"),
    ({"methods": "average"}, "invalid-specification", "/methods"),
    ({"methods": ["average", 3]}, "invalid-specification", "/methods/1"),
    ({"methods": ["average", "tess"]}, "invalid-specification", "/methods/1/method"),
    ({"methods": ["didi"]}, "invalid-specification", "/methods/0"),
    ({"methods": ["ties", "ties"]}, "invalid-specification", "/methods/1"),
    ({"methods": [{"method": "ties", "method_options": {"scal": 1}}]}, "invalid-specification",
     "/methods/0/method_options/scal"),
    ({"methods": [{"method": "ties", "method_options": [1]}]}, "invalid-specification",
     "/methods/0/method_options"),
    ({"methods": [{"method": "ties", "budget": 1}]}, "invalid-specification", "/methods/0/budget"),
    ({"methods": [{"method": "ties", "label": ""}]}, "invalid-specification", "/methods/0/label"),
    ({"sizes": [0]}, "invalid-specification", "/sizes/0"),
    ({"sizes": []}, "invalid-specification", "/sizes"),
    ({"sizes": [1] * 33}, "invalid-specification", "/sizes"),
    ({"split": ""}, "invalid-specification", "/split"),
    ({"keep_artifacts": "yes"}, "invalid-specification", "/keep_artifacts"),
    ({"budget": 1}, "invalid-specification", "/budget"),
    ({"priority": 101}, "invalid-specification", "/priority"),
])
def test_mistakes_are_pointed_to(wire, change, problem, pointer):
    answer = wire.post("/v1/bakeoffs", {**REQUEST, **change})
    assert answer.problem() == problem, answer.body
    assert answer.json()["pointer"] == pointer


def test_what_is_no_request_is_refused(wire):
    assert wire.post("/v1/bakeoffs", b"{").problem() == "malformed-json"
    assert wire.post("/v1/bakeoffs", b"[]").status == 422
    assert wire.get("/v1/bakeoffs/01h00000000000000000000000").problem() == "unknown-bakeoff"
    assert wire.get("/v1/bakeoffs/x").problem() == "unknown-bakeoff"
    assert wire.get("/v1/bakeoffs?after=x").problem() == "invalid-parameter"
