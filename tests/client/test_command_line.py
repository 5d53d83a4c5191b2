# SPDX-License-Identifier: Apache-2.0
"""The command line itself: options, settings, help, exit codes, formats."""

import json
import pathlib
import re
import shlex
import socket
import subprocess
import threading

import pytest

from fake import JOB, Answer, job, page, problem


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["model"],
        ["model", "nonsense"],
        ["jobs", "extra"],
        ["show"],
        ["jobs", "-x"],
        ["jobs", "--nonsense"],
        ["jobs", "--all=yes"],
        ["jobs", "--limit"],
        ["jobs", "--limit", "0"],
        ["jobs", "--limit", "12x"],
        ["-o", "yaml", "jobs"],
        ["--timeout", "0", "jobs"],
        ["--host", "ftp://x", "jobs"],
        ["--host", "unix:relative", "jobs"],
        ["--host", "a b", "jobs"],
        ["--host", "http://u:p@h", "jobs"],
        ["show", "a/b"],
        ["show", "../x"],
        ["pull", JOB],
        ["pull", JOB, "d", "--format", "zip"],
        ["pull", JOB, "d", "--task", "../x"],
        ["model", "show", "../x"],
        ["model", "show", "/x"],
        ["completion", "csh"],
        ["submit"],
        ["submit", "--base", "b"],
        ["submit", "--base", "b", "--task", "x"],
        ["submit", "--base", "b", "--task", "a=b", "--budget", "1", "--idempotency-key", "a b"],
        ["submit", "--base", "b", "--task", "a=b", "--budget", "1", "--set", "base.x=1"],
    ],
)
def test_misuse_is_status_2_and_asks_nothing(call, fake, arguments):
    done = call(*arguments, status=2)
    assert done.stdout == "" and done.stderr.startswith("didictl: ")
    assert fake.seen == []


def commands_of(overview):
    """The names of commands in the help text, of one word or two."""
    return re.findall(r"^  ((?:(?:model|bakeoff|hook|webhook|context|token) )?[a-z]+) ",
                      overview.split("Options")[0], re.MULTILINE)


def test_help_of_every_command(call, fake):
    overview = call("--help").stdout
    names = commands_of(overview)
    assert len(names) == 64
    for name in names:
        text = call(*name.split(), "--help").stdout
        assert text.startswith(f"usage: didictl {name}")
        assert call("help", *name.split()).stdout == text
    assert re.fullmatch(r"didictl \d+\.\d+\.\d+\n", call("--version").stdout)
    assert fake.seen == []


def test_every_command_teaches_by_examples(call, fake):
    """Each has two to four, and each is a command line that didictl reads."""
    for name in commands_of(call("--help").stdout):
        text = call(*name.split(), "--help").stdout
        shown = text.partition("\nExamples:\n")[2].partition("\n\n")[0].splitlines()
        assert 2 <= len(shown) <= 4, (name, shown)
        assert all(re.search(rf"\bdidictl .*{name}\b", line) for line in shown), (name, shown)
        for command in re.findall(r"\bdidictl ([^|&<>()]+)", "\n".join(shown)):
            words = shlex.split(command.split("\n")[0].replace("$", ""))
            assert call(*words, "--help").stdout.startswith("usage: didictl "), command
    assert fake.seen == []


def test_flag_before_environment_before_file(call, fake, tmp_path, environment):
    fake.on("GET", "/v1/jobs", page([job()]))
    settings = tmp_path / ".config" / "didi" / "config"
    settings.parent.mkdir(parents=True)
    settings.write_text("# mine\nhost = http://127.0.0.1:1\noutput = name\n\n")
    assert call("jobs").stdout == JOB + "\n"
    assert call("jobs", DIDI_OUTPUT="jsonl").stdout.startswith("{")
    assert call("jobs", "-o", "json", DIDI_OUTPUT="jsonl").stdout.startswith("[")
    call("jobs", DIDI_HOST="", status=5)
    settings.write_text("host = http://127.0.0.1:1\nspeed = 7\n")
    assert "config:2: unknown key 'speed'" in call("jobs", status=2).stderr
    call("jobs", status=2, DIDI_CONFIG=str(tmp_path / "none"))


def test_formats(call, fake):
    fake.on("GET", "/v1/jobs", page([job(), job("01h000000000000000000000ab", "queued")]))
    table = call("jobs").stdout.splitlines()
    assert table[0].split()[:3] == ["JOB", "NAME", "STATE"] and len(table) == 3
    assert "\033" not in "".join(table)
    assert [row["state"] for row in json.loads(call("jobs", "-o", "json").stdout)] == [
        "running",
        "queued",
    ]
    assert [json.loads(line)["state"] for line in call("jobs", "-ojsonl").stdout.splitlines()] == [
        "running",
        "queued",
    ]
    assert call("--output=name", "jobs").stdout.split()[0] == JOB


def test_nothing_listens(call):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        done = call("jobs", status=5, DIDI_HOST=f"http://127.0.0.1:{probe.getsockname()[1]}")
    assert done.stdout == "" and "127.0.0.1" in done.stderr
    call("--host", "unix:/nonexistent/socket", "jobs", status=5)


def test_unix_socket(call, fake, tmp_path):
    path = tmp_path / "didid.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)
        heard = []

        def answer():
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(4096))
                body = json.dumps(page([job()])).encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )

        thread = threading.Thread(target=answer)
        thread.start()
        assert call("--host", f"unix:{path}", "jobs", "-o", "name").stdout == JOB + "\n"
        thread.join()
        assert heard[0].startswith(b"GET /v1/jobs?limit=20 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "status, code", [(400, 1), (401, 4), (403, 4), (404, 1), (500, 1), (501, 1)]
)
def test_problems_are_one_line(call, fake, status, code):
    fake.on(
        "GET",
        "/v1/jobs",
        problem(status, "Bad thing", "the\x1b[31m reason\n is", pointer="/tasks/0"),
    )
    done = call("jobs", status=code)
    assert done.stdout == ""
    assert done.stderr == "didictl: Bad thing: the\\u{1b}[31m reason\\u{a} is (at /tasks/0)\n"


def test_errors_that_are_no_problems(call, fake):
    fake.on("GET", "/v1/jobs", Answer(b"<html>no</html>", 500, "text/html"))
    assert call("jobs", status=1).stderr == "didictl: the server answered with status 500\n"
    fake.on("GET", "/v1/jobs", Answer(b"<html>yes</html>", 200, "text/html"))
    assert "is not JSON" in call("jobs", status=1).stderr
    fake.on("GET", "/v1/jobs", Answer(b"", 302, "text/html", {"Location": "http://127.0.0.1:1/"}))
    assert "status 302" in call("jobs", status=1).stderr


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"data": 1, "has_more": false}',
        b'{"data": [1], "has_more": false}',
        b'{"data": [], "has_more": true, "next": "x"}',
        b'{"data": [{}], "has_more": true, "next": null}',
        b'{"data": [], "has_more": 1}',
        b'{"data": [], "data": [], "has_more": false}',
        b"[" * 100000,
        b'{"data": [{"id": "\xff"}], "has_more": false}',
    ],
    ids=range(13),
)
def test_garbage_is_refused(call, fake, body):
    fake.on("GET", "/v1/jobs", Answer(body))
    done = call("jobs", status=1)
    assert done.stdout == "" and done.stderr.count("\n") == 1


def test_pages_that_turn_in_circles_end(call, fake):
    fake.on("GET", "/v1/jobs", page([job()], "same"))
    assert "do not end" in call("jobs", "--all", status=1).stderr


def test_strange_members_do_no_harm(call, fake):
    odd = job(
        name=7,
        stage=[],
        progress="x",
        labels=3,
        specification=None,
        created_at="never",
        error=5,
        started_at=None,
        priority=[],
    )
    fake.on("GET", "/v1/jobs", page([odd]))
    fake.on("GET", f"/v1/jobs/{JOB}", odd)
    call("jobs")
    call("show", JOB)
    fake.on("GET", f"/v1/jobs/{JOB}", job("../../etc"))
    assert "without an id" in call("watch", JOB, status=1).stderr
    fake.on("GET", f"/v1/jobs/{JOB}", job(state="melted"))
    assert "'melted'" in call("wait", JOB, status=1).stderr


def test_terminal_escapes_never_get_through(call, fake):
    fake.on("GET", "/v1/jobs", page([job(name="\x1b]0;owned\x07\u009b31m\x7f")]))
    shown = call("jobs").stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]", shown) and "owned" in shown


def test_busy_servers_are_asked_again(call, fake):
    fake.on("GET", "/v1/jobs", [problem(503, "Starting"), problem(502, "Starting"), page([job()])])
    assert call("jobs", "-o", "name").stdout == JOB + "\n"
    assert len(fake.seen) == 3


def test_a_silent_server_is_given_up(call, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = call(
            "--timeout",
            "1",
            "jobs",
            status=5,
            DIDI_HOST=f"http://127.0.0.1:{listener.getsockname()[1]}",
        )
    assert done.stdout == ""


def test_output_that_cannot_be_written(call, fake, didictl, environment):
    fake.on("GET", "/v1/jobs", page([job()]))
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [didictl, "jobs"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1 and "stdout" in done.stderr


def test_version(call, fake):
    fake.on(
        "GET",
        "/v1/version",
        {"version": "9.9.9", "blas": {"library": "/lib/b", "flavour": "serial"}},
    )
    assert "9.9.9" in call("version").stdout
    both = json.loads(call("version", "-o", "json").stdout)
    assert both["server"]["version"] == "9.9.9" and both["client"]
    assert json.loads(call("version", "--client", "-o", "json").stdout)["server"] is None


def test_the_manual_names_every_command_and_option(call):
    manual = pathlib.Path(__file__).resolve().parents[2] / "docs" / "didictl.1.scd"
    text = manual.read_text().replace("\\", "")
    overview = call("--help").stdout
    for name in commands_of(overview):
        assert f"*{name}*" in text, name
        for option in re.findall(r"(--[a-z-]+)", call(*name.split(), "--help").stdout):
            assert f"*{option}*" in text, (name, option)
