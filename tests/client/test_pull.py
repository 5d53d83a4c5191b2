# SPDX-License-Identifier: Apache-2.0
"""Fetching artifacts: whole or not at all, resumed, verified, and never outside the directory."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from fake import JOB, Answer, artifact, page, problem
from terminal import Terminal, lines_of

CONTENT = os.urandom(3_000_000)
SMALL = b'{"budget": {}}'


def files(directory):
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


@pytest.fixture
def served(fake):
    rows = [
        fake.serve_file("experts/a.safetensors", CONTENT[:1000]),
        fake.serve_file("experts/b.safetensors", CONTENT[:2000]),
        fake.serve_file("manifest.json", SMALL),
        fake.serve_file("shared.safetensors", CONTENT),
    ]
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page(rows))
    return rows


def test_native(call, served, tmp_path):
    directory = tmp_path / "a" / "b"
    shown = json.loads(call("pull", JOB, str(directory), "-o", "json").stdout)
    assert files(directory) == [row["name"] for row in served]
    assert (directory / "shared.safetensors").read_bytes() == CONTENT
    assert {row["outcome"] for row in shown} == {"fetched"}
    again = json.loads(call("pull", JOB, str(directory), "-o", "json").stdout)
    assert {row["outcome"] for row in again} == {"kept"}


def test_one_task(call, served, tmp_path):
    call("pull", JOB, str(tmp_path / "out"), "--task", "b")
    assert files(tmp_path / "out") == [
        "experts/b.safetensors",
        "manifest.json",
        "shared.safetensors",
    ]


def test_files_of_another_content_are_replaced(call, served, tmp_path):
    (tmp_path / "shared.safetensors").write_bytes(b"x" * len(CONTENT))
    (tmp_path / "manifest.json").write_bytes(b"old")
    call("pull", JOB, str(tmp_path))
    assert (tmp_path / "shared.safetensors").read_bytes() == CONTENT
    assert (tmp_path / "manifest.json").read_bytes() == SMALL


def cut_once(fake, at, name="shared.safetensors", content=CONTENT):
    """The first request for the file breaks off."""
    row = fake.serve_file(name, content)
    pattern = ("GET", f"/v1/jobs/{JOB}/artifacts/{name.replace('.', chr(92) + '.')}")
    whole = fake.routes[pattern]

    def cut(request):
        answer = whole(request)
        answer.cut = at
        return answer

    fake.routes[pattern] = [cut, whole]
    return row, pattern


def test_a_cut_download_goes_on(call, fake, tmp_path):
    row, _ = cut_once(fake, 1_000_000)
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([row]))
    call("pull", JOB, str(tmp_path / "out"))
    assert (tmp_path / "out" / row["name"]).read_bytes() == CONTENT
    first, second = fake.requests("GET", ".*/shared.safetensors")
    assert first.headers["Range"] is None
    assert 0 < int(second.headers["Range"].removeprefix("bytes=").removesuffix("-")) <= 1_000_000
    assert second.headers["If-Range"] == row["etag"]


def part_of(directory, row):
    return directory / f".{row['name']}.{row['sha256'][:16]}.part"


def test_an_earlier_part_is_used(call, served, fake, tmp_path):
    row = served[3]
    part_of(tmp_path, row).write_bytes(CONTENT[:2_000_000])
    shown = json.loads(call("pull", JOB, str(tmp_path), "-o", "json").stdout)
    assert shown[3]["outcome"] == "resumed"
    assert fake.requests("GET", ".*/shared.safetensors")[0].headers["Range"] == "bytes=2000000-"
    assert (tmp_path / row["name"]).read_bytes() == CONTENT
    assert not part_of(tmp_path, row).exists()


@pytest.mark.parametrize("rotten", [100, len(CONTENT), len(CONTENT) + 5])
def test_a_rotten_part_is_thrown_away(call, served, tmp_path, rotten):
    part_of(tmp_path, served[3]).write_bytes(b"y" * rotten)
    call("pull", JOB, str(tmp_path))
    assert (tmp_path / "shared.safetensors").read_bytes() == CONTENT


def test_servers_that_ignore_ranges(call, fake, tmp_path):
    row = artifact("shared.safetensors", CONTENT)
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([row]))
    fake.on("GET", ".*/shared.safetensors", Answer(CONTENT))
    part_of(tmp_path, row).write_bytes(CONTENT[:100])
    call("pull", JOB, str(tmp_path))
    assert (tmp_path / "shared.safetensors").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"z" * len(CONTENT)),
        Answer(CONTENT[:-1]),
        Answer(CONTENT + b"z"),
        Answer(b""),
        Answer(CONTENT, headers={"Repr-Digest": "sha-256=:" + "A" * 43 + "=:"}),
        Answer(CONTENT, 206, headers={"Content-Range": "bytes 5-2999999/3000000"}),
        Answer(CONTENT, 204),
        Answer(b"", 416),
        problem(500, "Broken"),
        problem(404, "Gone"),
    ],
    ids=[
        "other",
        "short",
        "long",
        "empty",
        "digest",
        "range",
        "none",
        "unsatisfiable",
        "500",
        "404",
    ],
)
def test_wrong_bytes_never_get_the_name(call, fake, tmp_path, answer):
    row = artifact("shared.safetensors", CONTENT)
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([row]))
    fake.on("GET", ".*/shared.safetensors", answer)
    done = call("pull", JOB, str(tmp_path / "out"), status=1)
    assert done.stderr.splitlines()[-1].startswith("didictl: ") and done.stdout == ""
    assert not (tmp_path / "out" / "shared.safetensors").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "a//b",
        "",
        ".",
        "..",
        ".hidden",
        "a/.b",
        "a/",
        "a\\b",
        "a\u0000b",
        "a b",
        "a/b/c/d/e/f",
        "x" * 600,
        7,
        None,
    ],
)
def test_names_that_lead_outside(call, fake, tmp_path, name):
    row = artifact("good", b"x") | {"name": name}
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([artifact("first", b"y"), row]))
    fake.on("GET", ".*", Answer(b"x"))
    call("pull", JOB, str(tmp_path / "out"), status=1)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": -1},
        {"bytes": "5"},
        {"sha256": "0" * 63},
        {"sha256": "Z" * 64},
        {"etag": '"a\r\nX: y"'},
    ],
)
def test_lists_that_are_wrong(call, fake, tmp_path, change):
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([artifact("good", b"x") | change]))
    call("pull", JOB, str(tmp_path / "out"), status=1)
    assert fake.requests("GET", ".*/good") == []


def test_links_inside_are_not_followed(call, served, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "experts").symlink_to(outside)
    call("pull", JOB, str(directory), status=1)
    assert files(outside) == []


def test_full_models(call, fake, tmp_path):
    row = fake.serve_file("models/a/model.safetensors", CONTENT[:500])
    states = [
        page([{"task": "a", "format": "full", "state": state, "artifact": None, "error": None}])
        for state in ("queued", "running", "succeeded")
    ]
    fake.on("POST", f"/v1/jobs/{JOB}/exports", Answer(states[0], 202))
    fake.on("GET", f"/v1/jobs/{JOB}/exports", states)
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([artifact("manifest.json", SMALL), row]))
    call("pull", JOB, str(tmp_path / "out"), "--format", "full", "--task", "a")
    assert files(tmp_path / "out") == ["models/a/model.safetensors"]
    assert fake.requests("POST", ".*")[0].json() == {"format": "full", "tasks": ["a"]}


def test_a_failed_export(call, fake, tmp_path):
    failed = page(
        [
            {
                "task": "a",
                "format": "full",
                "state": "failed",
                "artifact": None,
                "error": {"type": "t", "title": "Input changed", "detail": "base"},
            }
        ]
    )
    fake.on("POST", f"/v1/jobs/{JOB}/exports", Answer(failed, 202))
    fake.on("GET", f"/v1/jobs/{JOB}/exports", failed)
    done = call("pull", JOB, str(tmp_path / "out"), "--format", "full", status=3)
    assert "a: its export failed: Input changed: base" in done.stderr


def test_no_result_yet(call, fake, tmp_path):
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", problem(409, "No result", "the job is running"))
    assert "No result: the job is running" in call("pull", JOB, str(tmp_path), status=1).stderr


def test_interrupted_and_taken_up(call, fake, didictl, environment, tmp_path):
    row = fake.serve_file("shared.safetensors", CONTENT)
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page([row]))
    pattern = ("GET", f"/v1/jobs/{JOB}/artifacts/shared\\.safetensors")
    whole = fake.routes[pattern]

    def stall(request):
        """Sends a third and keeps the connection."""
        answer = whole(request)
        answer.stall = 1_000_000
        return answer

    fake.routes[pattern] = [stall, whole]
    process = subprocess.Popen(
        [didictl, "pull", JOB, str(tmp_path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    part = part_of(tmp_path, row)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 1_000_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130 and "goes on where" in said
    assert not (tmp_path / "shared.safetensors").exists()
    assert (
        json.loads(call("pull", JOB, str(tmp_path), "-o", "json").stdout)[0]["outcome"] == "resumed"
    )
    assert (tmp_path / "shared.safetensors").read_bytes() == CONTENT


def test_a_full_disk(call, served, didictl, environment, tmp_path):
    """A file size limit refuses the write, as a full disk does."""
    script = f"ulimit -f 100; trap '' XFSZ; exec {didictl} pull {JOB} {tmp_path}/out"
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1 and "shared.safetensors: cannot be written" in done.stderr
    call("pull", JOB, str(tmp_path / "out"))
    assert (tmp_path / "out" / "shared.safetensors").read_bytes() == CONTENT


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, where the kernel lets us mount one."""
    point = tmp_path / "disk"
    point.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", point], check=False,
                          capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


def test_a_disk_that_is_full_says_so(call, served, small_disk):
    done = call("pull", JOB, str(small_disk / "out"), status=1)
    assert ": cannot be written: No space left on device" in done.stderr  # the first of several
    assert f"next: make room: {small_disk}/out has 0 B left, and up to 3.00 MB" in done.stderr
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    shown = json.loads(call("pull", JOB, str(small_disk / "out"), "-o", "json").stdout)
    assert {row["outcome"] for row in shown} & {"kept", "resumed"}  # which, the disk decided
    assert (small_disk / "out" / "shared.safetensors").read_bytes() == CONTENT


def many(fake, count, answered):
    """`count` files; each answer is passed through answered(request, answer)."""
    rows = []
    for number in range(count):
        name = f"experts/t{number}.safetensors"
        rows.append(fake.serve_file(name, CONTENT[number * 1000:number * 1000 + 200_000]))
        pattern = ("GET", f"/v1/jobs/{JOB}/artifacts/experts/t{number}\\.safetensors")
        fake.on(*pattern, lambda request, whole=fake.routes[pattern]: answered(whole(request)))
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts", page(rows))
    return rows


def test_files_come_side_by_side(call, fake, tmp_path):
    together = threading.Barrier(4, timeout=60)

    def answered(answer):
        together.wait()  # breaks, and so does the answer, unless four are asked for at once
        return answer

    rows = many(fake, 8, answered)
    shown = json.loads(call("pull", JOB, str(tmp_path), "-o", "json").stdout)
    assert [row["name"] for row in shown] == [row["name"] for row in rows]
    for number, row in enumerate(rows):
        assert (tmp_path / row["name"]).read_bytes() == CONTENT[number * 1000:][:200_000]


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_at_once_than_asked_for(call, fake, tmp_path, parallel):
    lock, now, most = threading.Lock(), [0], [0]

    def answered(answer):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return answer

    many(fake, 9, answered)
    call("pull", JOB, str(tmp_path), "--parallel", str(parallel))
    assert most[0] <= parallel and len(files(tmp_path)) == 9
    call("pull", JOB, str(tmp_path), "--parallel", "17", status=2)


def test_killed_in_the_middle_and_taken_up(call, fake, didictl, environment, tmp_path):
    stalled = []

    def answered(answer):
        if len(stalled) < 3:
            stalled.append(answer)
            answer.stall = 70_000
        return answer

    rows = many(fake, 6, answered)
    with subprocess.Popen([didictl, "pull", JOB, str(tmp_path)], env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while sum(path.stat().st_size >= 70_000 for path in tmp_path.rglob(".*.part")) < 3 or \
                len(list(tmp_path.rglob("t*.safetensors"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    shown = json.loads(call("pull", JOB, str(tmp_path), "-o", "json").stdout)
    assert sorted(row["outcome"] for row in shown) == ["kept"] * 3 + ["resumed"] * 3
    assert files(tmp_path) == [row["name"] for row in rows]


def test_one_bad_file_ends_the_others(call, fake, tmp_path):
    rows = many(fake, 40, lambda answer: answer)
    fake.on("GET", f"/v1/jobs/{JOB}/artifacts/experts/t1\\.safetensors", problem(404, "Gone"))
    done = call("pull", JOB, str(tmp_path), status=1)
    assert "Gone" in done.stderr and done.stdout == ""
    assert len(files(tmp_path)) < len(rows) - 1


def test_progress_of_all_is_one_line(fake, didictl, environment, tmp_path):
    go = threading.Event()

    many(fake, 6, lambda answer: answer)
    pattern = ("GET", f"/v1/jobs/{JOB}/artifacts/experts/t5\\.safetensors")
    whole = fake.routes[pattern]
    fake.on(*pattern, lambda request: whole(request) if go.wait(60) else None)
    with Terminal([didictl, "pull", JOB, str(tmp_path)], environment, 80) as terminal:
        terminal.wait_for(r"5/6 files  1.00 MB of 1.20 MB")
        go.set()
        text = terminal.end()
    drawn = [line for line in lines_of(text) if "files" in line]
    assert drawn and all(line.startswith("fetching") and len(line) < 80 for line in drawn)
    assert any("100%  6/6 files  1.20 MB of 1.20 MB" in line for line in drawn)
