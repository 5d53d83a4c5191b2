# SPDX-License-Identifier: Apache-2.0
"""Submitting, following and handling jobs."""

import json
import re
import signal
import subprocess
import time

import pytest

from fake import JOB, Answer, event, job, page, problem
from terminal import Terminal

OTHER = "01h000000000000000000000ab"
FLAGS = ["--base", "base", "--task", "a=tasks/a", "--task", "b=tasks/b", "--budget", "1.24"]


def accept(fake, state="succeeded"):
    fake.on("POST", "/v1/jobs", Answer(job(state="queued"), 201))
    fake.on(
        "GET",
        f"/v1/jobs/{JOB}",
        [
            job(last_event=2),
            job(
                state=state,
                progress=1,
                finished_at="2025-03-01T12:01:00.000Z",
                error=(
                    {"type": "t", "title": "Disk full", "detail": "no room"}
                    if state == "failed"
                    else None
                ),
            ),
        ],
    )
    fake.on(
        "GET",
        f"/v1/jobs/{JOB}/events",
        lambda request: page(
            (
                [event(1, loss=0.5, relative_error=0.4, ratio=1.3, ratio_target=1.24)]
                if "after=0" in request.path
                else []
            ),
            following=None,
        )
        | {"next": 1, "state": state},
    )


def test_submit_from_options(call, fake):
    accept(fake)
    done = call(
        "submit",
        *FLAGS,
        "--name",
        "n",
        "--label",
        "team=x=y",
        "--priority",
        "-3",
        "--set",
        "ranks.allocator=exact",
        "--set",
        "ranks.steps=7",
        "--set",
        "tasks.0.weight=2",
        "--set",
        'include=["*.weight"]',
    )
    assert done.stdout == JOB + "\n"
    (request,) = fake.seen
    assert request.json() == {
        "base": "base",
        "budget": 1.24,
        "name": "n",
        "priority": -3,
        "labels": {"team": "x=y"},
        "tasks": [
            {"name": "a", "model": "tasks/a", "weight": 2},
            {"name": "b", "model": "tasks/b"},
        ],
        "ranks": {"allocator": "exact", "steps": 7},
        "include": ["*.weight"],
    }
    assert request.headers["Content-Type"] == "application/json"
    assert re.fullmatch('"[0-9a-f]{32}"', request.headers["Idempotency-Key"])


def test_submit_from_file_and_stdin(call, fake, tmp_path):
    accept(fake)
    specification = {"base": "b", "tasks": [{"name": "a", "model": "m"}], "budget": "S", "seed": 3}
    path = tmp_path / "merge.json"
    path.write_text(json.dumps(specification))
    call("submit", str(path))
    call("submit", "-", "--budget", "L", stdin=json.dumps(specification))
    assert [request.json() for request in fake.seen] == [
        specification,
        specification | {"budget": "L"},
    ]
    keys = [request.headers["Idempotency-Key"] for request in fake.seen]
    assert keys[0] != keys[1]
    call("submit", str(path), "--idempotency-key", "mine")
    assert fake.seen[-1].headers["Idempotency-Key"] == '"mine"'


YAML = """\
# one fine-tune a task
base: b
tasks:
  - {name: a, model: m, weight: 2}
budget: S
labels: {country: no}
"""


def test_yaml_says_the_same_as_json(call, fake, tmp_path):
    accept(fake)
    path = tmp_path / "merge.yaml"
    path.write_text(YAML)
    call("submit", str(path), "--label", "team=x")
    call("submit", "-", stdin=YAML)
    said = {"base": "b", "tasks": [{"name": "a", "model": "m", "weight": 2}], "budget": "S",
            "labels": {"country": "no"}}
    assert [request.json() for request in fake.seen] == [
        said | {"labels": {"country": "no", "team": "x"}}, said]


@pytest.mark.parametrize(
    "text, said",
    [("{", "line 1"), ("[]", "object"), ("", "line 1"), ('{"a": 1, "a": 2}', "duplicate"),
     ("- a\n", "mapping"), ("base: a\nbudget: [1\n", "not YAML: line 3, column 1"),
     ("base: a\ntasks: &x []\n", "line 2, column 8: anchors"),
     ("base: a\nbase: b\n", "line 2, column 1: the key 'base'")],
)
def test_files_that_are_no_specification(call, fake, text, said):
    assert said in call("submit", "-", stdin=text, status=1).stderr
    assert "No such file" in call("submit", "/nonexistent.json", status=1).stderr
    assert fake.seen == []


def test_a_lost_answer_is_asked_for_again_with_the_same_key(call, fake):
    fake.on("POST", "/v1/jobs", [Answer(silent=True), Answer(job(), 201, cut=10), Answer(job())])
    assert call("submit", *FLAGS).stdout == JOB + "\n"
    assert len({request.headers["Idempotency-Key"] for request in fake.seen}) == 1
    assert len({request.body for request in fake.seen}) == 1
    assert len(fake.seen) == 3


def test_actions_without_a_key_are_never_repeated(call, fake):
    fake.on("POST", f"/v1/jobs/{JOB}/retry", Answer(silent=True))
    call("retry", JOB, status=5)
    assert len(fake.seen) == 1


def test_plan(call, fake):
    plan = {
        "tasks": 2,
        "budget": 1.24,
        "budget_minimum": 1.0001,
        "parameters": 158592,
        "memory_peak_bytes": 123456789,
        "tensors": {"low_rank": 3},
        "streamed_layers": 17,
        "layers": [{"tensor": "w", "rows": 4, "columns": 5, "rank_limit": 2}],
    }
    fake.on("POST", "/v1/jobs", plan)
    shown = call("plan", *FLAGS, "--layers").stdout
    assert (
        "1.0001 models" in shown and "123 MB" in shown and re.search(r"^w +4 +5 +2$", shown, re.M)
    )
    assert json.loads(call("submit", *FLAGS, "--dry-run", "-o", "json").stdout) == plan
    assert all(request.path == "/v1/jobs?dry_run=true" for request in fake.seen)


def test_a_plan_before_the_job(call, fake):
    plan = {"memory_peak_bytes": 8_000_000, "disk_bytes": 35_000_000, "bytes_to_read": 1000,
            "artifact_bytes": 3_000_000, "seconds_estimate": 13.3}
    fake.on("POST", "/v1/jobs", lambda request: (
        plan if "dry_run" in request.path else Answer(job(state="queued"), 201)))
    said = call("submit", *FLAGS, "--plan")
    assert said.stdout == JOB + "\n"
    assert said.stderr == ("didictl: memory up to 8.00 MB, disk up to 35.0 MB, reads 1.00 kB, "
                           "leaves up to 3.00 MB, takes about 0:13\n")
    assert re.search("time, about +0:13", call("plan", *FLAGS).stdout)
    plan["seconds_estimate"] = None
    assert "takes about - (nothing is known" in call("submit", *FLAGS, "--plan").stderr
    assert "time, about" not in call("plan", *FLAGS).stdout


@pytest.mark.parametrize("state, code", [("succeeded", 0), ("failed", 3), ("cancelled", 3)])
def test_the_outcome_is_the_exit_code(call, fake, state, code):
    accept(fake, state)
    done = call("submit", *FLAGS, "--wait", status=code)
    assert done.stdout == JOB + "\n"
    assert "refine      50%  loss 0.5  error 0.4  parameters 1.3 of 1.24" in done.stderr
    accept(fake, state)
    assert call("wait", JOB, "-q", status=code).stdout == state + "\n"
    accept(fake, state)
    watched = call("watch", JOB, status=code)
    assert watched.stdout.splitlines()[-1].split()[0] == state and "\r" not in watched.stdout
    accept(fake, state)
    lines = [
        json.loads(line)
        for line in call("watch", JOB, "-o", "jsonl", status=code).stdout.splitlines()
    ]
    assert [line["state"] for line in lines] == ["running", state] and lines[0]["loss"] == 0.5
    if state == "failed":
        assert watched.stderr.startswith(f"didictl: job {JOB} failed: Disk full: no room\nnext: ")


def test_watching_survives_a_restart(call, fake):
    accept(fake)
    pages = page([event(1)]) | {"state": "running"}
    fake.on("GET", f"/v1/jobs/{JOB}/events", [pages] + [Answer(silent=True)] * 7 + [pages])
    done = call("watch", JOB)
    assert done.stderr.count("connection lost") == 1
    assert done.stdout.splitlines()[-1].startswith("succeeded")


def test_the_stage_of_the_newest_event_is_shown(call, fake):
    accept(fake)
    fake.on("GET", f"/v1/jobs/{JOB}", [job(stage=None, progress=0), job(stage="decompose"),
                                       job(state="succeeded")])
    fake.on("GET", f"/v1/jobs/{JOB}/events", lambda request: page(
        [event(1, kind="stage", stage="decompose"), event(2, kind="stage", stage="pursue")]
        if "after=0" in request.path else []))
    lines = call("watch", JOB).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["running", "pursue", "succeeded"]


@pytest.mark.parametrize("verb", ["wait", "watch", "events"])
def test_interrupted(fake, didictl, environment, verb):
    running = page([event(1)]) | {"state": "running"}
    idle = page([]) | {"state": "running"}
    fake.on("GET", f"/v1/jobs/{JOB}", job())
    fake.on(
        "GET",
        f"/v1/jobs/{JOB}/events",
        lambda request: running if "after=0" in request.path else idle,
    )
    more = ["--follow"] if verb == "events" else []
    process = subprocess.Popen(
        [didictl, verb, JOB, *more],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(fake.seen) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130 and "interrupted" in said


def test_ids(call, fake):
    fake.on("GET", "/v1/jobs", page([job(OTHER), job(JOB)]))
    fake.on("GET", f"/v1/jobs/{JOB}", job(JOB))
    fake.on("GET", f"/v1/jobs/{OTHER}", job(OTHER))
    assert call("show", "@latest", "-o", "name").stdout.strip() == OTHER
    assert call("show", JOB[:-1] + "a", "-o", "name").stdout.strip() == JOB
    assert "more than one" in call("show", "01h0", status=1).stderr
    assert "no job" in call("show", "02", status=1).stderr
    fake.on("GET", "/v1/jobs", page([job("01abc")]))
    fake.on("GET", "/v1/jobs/01abc", job("01abc"))
    assert call("show", "01a", "-o", "name").stdout == "01abc\n"
    fake.on("GET", "/v1/jobs", page([]))
    assert "no jobs" in call("show", "@latest", status=1).stderr


def test_lists_are_paged_and_filtered(call, fake):
    ids = [f"01h{number:023d}" for number in range(450)]

    def answer(request):
        after = re.search(r"after=(\w+)", request.path)
        limit = int(re.search(r"limit=(\d+)", request.path)[1])
        first = ids.index(after[1]) + 1 if after else 0
        chosen = ids[first : first + limit]
        return page(
            [job(name) for name in chosen], chosen[-1] if first + limit < len(ids) else None
        )

    fake.on("GET", "/v1/jobs", answer)
    assert call("jobs", "--all", "-o", "name").stdout.split() == ids
    done = call("jobs", "-n", "3", "-o", "name")
    assert done.stdout.split() == ids[:3] and f"--after {ids[2]}" in done.stderr
    call("jobs", "--state", "failed", "--label", "a=b c")
    assert fake.seen[-1].path == "/v1/jobs?state=failed&label=a%3Db%20c&limit=20"


def test_show(call, fake):
    done = job(
        state="succeeded",
        result={
            "budget": {"parameters": 1.2399, "bytes": 393000},
            "error": {"relative": 0.331, "per_task": {"a": 0.4}},
        },
    )
    fake.on("GET", f"/v1/jobs/{JOB}", done)
    shown = call("show", JOB).stdout
    for text in ("succeeded", "a = tasks/a", "1.2399 models", "393 kB", "0.331", "team=a"):
        assert text in shown
    assert json.loads(call("show", JOB, "-o", "json").stdout) == done


def test_acting_on_several_jobs(call, fake):
    fake.on("POST", f"/v1/jobs/{JOB}/cancel", job(state="cancelled"))
    fake.on("POST", f"/v1/jobs/{OTHER}/cancel", problem(409, "Conflict", "it is finished"))
    fake.on("DELETE", f"/v1/jobs/{JOB}", Answer(b"", 204))
    done = call("cancel", OTHER, JOB, status=1)
    assert done.stdout == JOB + "\n"
    assert f"job {OTHER}: Conflict: it is finished" in done.stderr
    assert call("rm", JOB).stdout == JOB + "\n"
    assert fake.requests("POST", ".*/cancel")[0].headers["Content-Length"] == "0"


def test_events(call, fake):
    rows = [
        event(1, kind="state", state="running"),
        event(2, kind="stage", stage="refine"),
        event(3, stage="refine", step=4, loss=0.25, items_done=1, items_total=2),
        event(4, kind="note", text="kept\x1b dense"),
    ]
    fake.on(
        "GET",
        f"/v1/jobs/{JOB}/events",
        lambda request: page(
            [
                row
                for row in rows
                if row["number"] > int(re.search(r"after=(\d+)", request.path)[1])
            ][: int((re.search(r"limit=(\d+)", request.path) or (0, 200))[1])]
        )
        | {"state": "succeeded"},
    )
    shown = call("events", JOB).stdout.splitlines()
    assert len(shown) == 5 and "1/2" in shown[3] and shown[4].endswith("kept\\u{1b} dense")
    assert [
        json.loads(line) for line in call("events", JOB, "-o", "jsonl", "-f").stdout.splitlines()
    ] == rows
    assert json.loads(call("events", JOB, "-o", "json", "--after", "2").stdout) == rows[2:]
    assert json.loads(call("events", JOB, "-o", "json", "-n", "1").stdout) == rows[:1]


def test_events_that_were_dropped_are_told(call, fake):
    rows = [event(1, kind="state", state="queued"), event(812, kind="state", state="succeeded")]
    fake.on("GET", f"/v1/jobs/{JOB}/events", page(rows) | {"state": "succeeded", "dropped": 810})
    done = call("events", JOB, "-o", "json")
    assert json.loads(done.stdout) == rows
    assert "810 events after event 1 were dropped" in done.stderr


def test_models(call, fake):
    model = {
        "name": "tasks/a",
        "kind": "adapter",
        "state": "broken",
        "reason": "truncated",
        "bytes": 5,
        "file_count": 1,
        "tensor_count": 2,
        "parameters": 7109376,
        "revision": None,
        "updated_at": "2025-03-01T12:00:00.000Z",
    }
    fake.on("GET", "/v1/models", page([model]))
    fake.on(
        "GET",
        "/v1/models/tasks/a",
        model
        | {
            "tensors": [
                {"name": "w", "dtype": "F32", "shape": [3, 4]},
                {"name": "s", "dtype": "F32", "shape": []},
            ]
        },
    )
    fake.on("POST", "/v1/models/rescan", {"ready": 2, "broken": 1})
    listed = call("model", "ls", "--state", "broken").stdout
    assert "7.11 M" in listed and re.search(r"^tasks/a +adapter +broken", listed, re.M)
    assert call("model", "ls", "-o", "name").stdout == "tasks/a\n"
    assert re.search(r"^w +F32 +3 x 4$", call("model", "show", "tasks/a").stdout, re.M)
    assert call("model", "rescan").stdout == "2 ready, 1 broken\n"


def test_ranks(call, fake):
    layer = {
        "tensor": "block.w",
        "rows": 8,
        "columns": 9,
        "rank_limit": 4,
        "shared": 3,
        "experts": [2, 0],
        "dense": [False, True],
        "errors": [0.25, 0],
    }
    ranks = {"tasks": ["a", "b\x1b"], "layers": [layer, layer | {"tensor": "z", "experts": [5]}]}
    fake.on("GET", f"/v1/jobs/{JOB}/ranks", ranks)
    shown = [line.split() for line in call("ranks", JOB).stdout.splitlines()]
    assert shown == [
        ["LAYER", "SHARED", "a", "b\\u{1b}"],
        ["block.w", "3", "2", "dense"],
        ["z", "3", "5", "dense"],
        ["sum", "6", "7", "0"],
    ]
    shown = [line.split() for line in call("ranks", JOB, "--errors").stdout.splitlines()]
    assert shown[1] == ["block.w", "3", "0.25", "0"]
    assert json.loads(call("ranks", JOB, "-o", "json").stdout) == ranks
    assert call("ranks", JOB, "-o", "name").stdout.split() == ["block.w", "z"]
    for malformed in (Answer([]), {}, {"tasks": [], "layers": []}, {"tasks": ["a"], "layers": 1}):
        fake.on("GET", f"/v1/jobs/{JOB}/ranks", malformed)
        call("ranks", JOB, status=1)
    fake.on("GET", f"/v1/jobs/{JOB}/ranks", {"tasks": [1, "b"], "layers": [7, {}, {"experts": 3}]})
    call("ranks", JOB)
    fake.on("GET", f"/v1/jobs/{JOB}/ranks", problem(409, "No result", "the job is running"))
    assert "No result" in call("ranks", JOB, status=1).stderr


def test_frontier_by_bytes(call, fake, didictl, environment):
    points = [{"bytes": 1000 * ratio, "bytes_ratio": ratio, "error": 1 - ratio / 3}
              for ratio in (1, 2)]
    fake.on("GET", f"/v1/jobs/{JOB}/frontier", {"points": [], "precisions": {
        "bf16": points, "int4": [{"bytes": 400, "bytes_ratio": 0.4, "error": 0.3}]},
        "chosen": {"bytes": 700, "bytes_ratio": 0.7, "error": 0.2, "dtype": "int8"}})
    shown = call("frontier", JOB, "--bytes").stdout.splitlines()
    assert shown[0].split() == "PRECISION OF THE BASE'S BYTES BYTES RELATIVE ERROR".split()
    assert [line.split()[0] for line in shown[1:]] == ["bf16", "bf16", "int4", "int8"]
    assert shown[-1].endswith("this job") and "0.7000" in shown[-1]
    text = Terminal([didictl, "frontier", JOB, "--bytes"], environment).end()
    assert "of the base's bytes" in text and "│" in text
    fake.on("GET", f"/v1/jobs/{JOB}/frontier", {"points": []})
    call("frontier", JOB, "--bytes", status=1)


def test_similarity(call, fake):
    similarity = {"tasks": ["one", "two"], "cosine": [[1, 0.25], [0.25, 1]],
                  "explained_by_shared": [0.125, -0.5],
                  "layers": [{"tensor": "a.weight", "cosine": [[1, None], [None, None]]}]}
    fake.on("GET", f"/v1/jobs/{JOB}/similarity", similarity)
    shown = [line.split() for line in call("similarity", JOB).stdout.splitlines()]
    assert shown == [["TASK", "one", "two", "BY", "SHARED"], ["one", "1.000", "0.250", "0.125"],
                     ["two", "0.250", "1.000", "-0.500"]]
    shown = [line.split() for line in
             call("similarity", JOB, "--layer", "a.weight").stdout.splitlines()]
    assert shown[1:] == [["one", "1.000", "-"], ["two", "-", "-"]]
    call("similarity", JOB, "--layer", "b.weight", status=1)
    assert json.loads(call("similarity", JOB, "-o", "json").stdout) == similarity
    fake.on("GET", f"/v1/jobs/{JOB}/similarity", {})
    call("similarity", JOB, status=1)


def test_submit_from_a_job(call, fake):
    accept(fake)
    call("submit", "--from-job", JOB, "--budget", "1.1")
    assert fake.seen[-1].json() == {"from_job": JOB, "budget": 1.1}
    call("submit", "--from-job", JOB, status=2)


def test_frontier(call, fake, didictl, environment):
    points = [{"budget": 0.5 + number / 10, "error": 1 / (1 + number)} for number in range(20)]
    frontier = {"kind": "spectra", "points": points, "chosen": {"budget": 1.24, "error": 0.1}}
    fake.on("GET", f"/v1/jobs/{JOB}/frontier", frontier)
    shown = call("frontier", JOB).stdout.splitlines()
    assert len(shown) == 22 and shown[-1].split()[:2] == ["1.2400", "0.10000"]
    assert json.loads(call("frontier", JOB, "-o", "json").stdout) == frontier
    text = Terminal([didictl, "frontier", JOB], environment).end()
    assert text.count("•") >= 14 and "O" in text
    for malformed in (Answer([]), {}, {"points": [1]}, {"points": [{"budget": "1"}]}):
        fake.on("GET", f"/v1/jobs/{JOB}/frontier", malformed)
        call("frontier", JOB, status=1)


def test_jobs_side_by_side(call, fake):
    def done(identifier, budget, errors, **more):
        return job(identifier, "succeeded", finished_at="2025-03-01T12:00:31.000Z",
                   specification={"base": "b", "method": "didi", "budget": budget},
                   result={"budget": {"bytes": 1000 * budget, "parameters": budget},
                           "error": {"relative": sum(errors.values()) / 2, "per_task": errors}},
                   **more)

    def ranks(*means):
        return {"tasks": ["x"], "layers": [
            {"tensor": f"layer{number}", "shared": 3, "experts": [4], "dense": [False],
             "errors": [mean]} for number, mean in enumerate(means)]}

    fake.on("GET", f"/v1/jobs/{JOB}", done(JOB, 1, {"x": 0.2, "y": 0.4}))
    fake.on("GET", f"/v1/jobs/{OTHER}", done(OTHER, 2, {"x": 0.1, "z": 0.3}, name="two"))
    fake.on("GET", f"/v1/jobs/{JOB}/ranks", ranks(0.1, 0.2, 0.9))
    fake.on("GET", f"/v1/jobs/{OTHER}/ranks", ranks(0.1, 0.4, 0.3))
    shown = call("compare", JOB, OTHER, "--layers", "2").stdout
    width = shown.index(JOB) - 1
    rows = {line[:width].strip(): line[width:].split() for line in shown.splitlines()}
    assert rows["JOB"][-1] == OTHER and rows["time"] == ["0:30", "0:30"]
    assert rows["size"] == ["1.00", "kB", "2.00", "kB"]
    assert rows["relative error"] == ["0.3", "0.2"]
    assert [rows[name] for name in "xyz"] == [["0.2", "0.1"], ["0.4", "-"], ["-", "0.3"]]
    layers = shown[shown.index("LAYER"):].splitlines()[1:]
    assert [line.split() for line in layers] == [["layer2", "0.9", "(7)", "0.3", "(7)"],
                                                 ["layer1", "0.2", "(7)", "0.4", "(7)"]]
    assert "LAYER" not in call("compare", JOB, OTHER, "--layers", "0").stdout
    assert json.loads(call("compare", JOB, OTHER, "-o", "json").stdout)["jobs"][1]["id"] == OTHER
    call("compare", JOB, status=2)
    running = "01h000000000000000000000ac"
    fake.on("GET", f"/v1/jobs/{running}", job(running))
    assert "running" in call("compare", running, OTHER).stdout


def test_tables_fit_narrow_terminals(fake, didictl, environment):
    fake.on("GET", "/v1/jobs", page([job(name="n" * 500)]))
    with Terminal([didictl, "jobs"], environment, 110) as terminal:
        lines = terminal.end().splitlines()
    assert all(len(re.sub("\x1b[^m]*m", "", line)) <= 110 for line in lines)
    assert "…" in lines[1] and JOB in lines[1]
