# SPDX-License-Identifier: Apache-2.0
"""Tokens and servers of didictl: where they come from, and whom they are told."""

import os
import pty
import subprocess

import pytest

from fake import page, problem

TOKEN = "didi_secret"
IDENTITY = {"authenticated_by": "token", "id": "0" * 26, "name": "ci", "scope": "submit",
            "expires_at": None}


@pytest.fixture
def guarded(fake):
    """Takes TOKEN alone."""
    def answer(request):
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(401, "The request needs a valid token")
        return IDENTITY if request.path == "/v1/whoami" else page([])

    fake.on("GET", "/v1/.*", answer)
    return fake


@pytest.fixture
def config(tmp_path):
    return tmp_path / ".config/didi/config"


def login(call, guarded, *arguments, **more):
    return call("login", guarded.url, "--name", "here", *arguments, stdin=TOKEN + "\n", **more)


def test_login_checks_the_token_and_keeps_it(call, guarded, config):
    done = login(call, guarded)
    assert TOKEN not in done.stdout + done.stderr and "ci" in done.stderr
    assert config.stat().st_mode & 0o777 == 0o600
    assert f"token = {TOKEN}" in config.read_text()
    call("jobs", DIDI_HOST="")
    assert "here" in call("context", "ls", DIDI_HOST="").stdout
    call("logout", DIDI_HOST="")
    assert TOKEN not in config.read_text()
    call("jobs", status=4, DIDI_HOST="")


def test_a_wrong_token_is_not_kept(call, guarded, config):
    done = call("login", guarded.url, stdin="didi_wrong\n", status=4)
    assert not config.exists() and "didi_wrong" not in done.stderr


def test_a_terminal_does_not_show_it(didictl, environment, guarded, config):
    main, other = pty.openpty()
    process = subprocess.Popen([didictl, "login", guarded.url, "--name", "here"],
                               env=environment, stdin=other, stdout=other, stderr=other)
    os.close(other)
    shown = b""
    while b"Token: " not in shown:
        shown += os.read(main, 1000)
    os.write(main, TOKEN.encode() + b"\n")
    try:
        while piece := os.read(main, 1000):
            shown += piece
    except OSError:
        pass  # the other end has gone
    assert process.wait(60) == 0
    os.close(main)
    assert TOKEN.encode() not in shown and TOKEN in config.read_text()


def test_other_lines_of_the_file_stay(call, guarded, config):
    config.parent.mkdir(parents=True)
    config.write_text("# mine\noutput = json\n\n[prod]\nhost = https://example.org\n")
    login(call, guarded)
    text = config.read_text()
    assert "# mine\noutput = json\n" in text and "[prod]\nhost = https://example.org" in text
    call("context", "use", "prod")
    shown = call("context", "show", DIDI_HOST="").stdout
    assert '"host": "https://example.org"' in shown and '"token": false' in shown
    call("context", "rm", "prod")
    assert "example.org" not in config.read_text() and "[here]" in config.read_text()
    call("context", "use", "prod", status=2)
    call("--context", "prod", "jobs", status=2)


def test_a_token_goes_to_its_own_server_alone(call, guarded, fake):
    login(call, guarded)
    call("jobs", "--host", fake.url.replace("127.0.0.1", "localhost"), status=4)
    assert "Authorization" not in fake.seen[-1].headers
    call("--context", "here", "jobs", DIDI_HOST="http://127.0.0.1:1")


def test_flag_before_environment_before_file(call, guarded, tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    for path, text in ((good, TOKEN), (bad, "didi_other")):
        path.write_text(text + "\n")
        path.chmod(0o600)
    call("jobs", DIDI_TOKEN=TOKEN)
    call("jobs", DIDI_TOKEN_FILE=str(good), DIDI_TOKEN="didi_other")
    call("jobs", "--token-file", str(good), DIDI_TOKEN_FILE=str(bad))
    call("jobs", "--token-file", str(bad), DIDI_TOKEN=TOKEN, status=4)
    good.chmod(0o644)
    assert "chmod 600" in call("jobs", "--token-file", str(good), status=2).stderr


def test_a_token_never_leaves_in_the_clear(call, guarded):
    for host in ("http://example.org", "http://127.0.0.1.example.org", "http://10.0.0.1:80"):
        done = call("jobs", "--host", host, DIDI_TOKEN=TOKEN, status=2)
        assert "https" in done.stderr and TOKEN not in done.stderr
    call("login", "http://example.org", stdin=TOKEN, status=2)


def test_redirects_are_not_followed(call, fake):
    answer = problem(307, "Elsewhere")
    answer.headers["Location"] = fake.url + "/v1/stolen"
    fake.on("GET", "/v1/jobs", answer)
    call("jobs", DIDI_TOKEN=TOKEN, status=1)
    assert not fake.requests("GET", "/v1/stolen")


def test_files_that_others_read_are_refused(call, guarded, config):
    login(call, guarded)
    config.chmod(0o644)
    assert "chmod 600" in call("jobs", status=2).stderr


def test_tokens_over_the_interface(call, fake):
    fake.on("POST", "/v1/tokens", {"id": "0" * 26, "token": "didi_new"})
    fake.on("DELETE", "/v1/tokens/.*", problem(404, "There is no such token"))
    assert call("token", "create", "ci", "--scope", "read", "--expires", "2d").stdout \
        == "didi_new\n"
    assert fake.seen[-1].json() == {"name": "ci", "scope": "read", "expires_seconds": 172800}
    call("token", "create", "ci", "--scope", "root", status=2)
    call("token", "create", "ci", status=2)
    call("token", "rm", "0" * 26, status=1)
    call("token", "rm", "../jobs", status=2)


def test_a_context_keeps_the_whole_path_of_its_certificates(call, guarded, config, tmp_path,
                                                            monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_text("")
    login(call, guarded, "--ca-file", "ca.pem")
    assert f"ca_file = {tmp_path / 'ca.pem'}\n" in config.read_text()
    done = login(call, guarded, "--ca-file", "missing.pem", status=2)
    assert "missing.pem" in done.stderr
