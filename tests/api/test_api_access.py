# SPDX-License-Identifier: Apache-2.0
"""Who may do what: tokens, scopes, the socket in the state directory."""

import http.client
import json
import os
import pathlib
import re
import select
import socket
import subprocess
import threading
import time

import pytest

from service import UNDER_SANITIZER, Daemon
from wire import HOLD, Wire, specification

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCOPES = ["read", "submit", "admin"]


def operations():
    """(method, path, scope) of every operation of the contract."""
    text = (ROOT / "proto/openapi.yaml").read_text(encoding="utf-8")
    path = method = None
    for line in text[text.index("\npaths:"):text.index("\ncomponents:")].splitlines():
        if found := re.fullmatch(r"  (/\S+):", line):
            path = found[1]
        elif found := re.fullmatch(r"    (get|post|delete|put|patch):", line):
            method = found[1].upper()
            yield method, path, None
        elif found := re.fullmatch(r"      x-scope: (\w+)", line):
            yield method, path, found[1]


def scopes():
    """The same as a table; an operation without a scope is there with None."""
    table = {}
    for method, path, scope in operations():
        table[method, path] = scope or table.get((method, path))
    return table


def token(didid, state, *arguments):
    done = subprocess.run([didid, "token", *arguments, "--state-dir", state], check=False,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def guarded(didid, family, tmp_path, start_daemon):
    """A daemon with a token of each scope, one made before its start: daemon, wire, tokens."""
    state = tmp_path / "state"
    first = token(didid, state, "create", "--name", "first", "--scope", "admin")
    daemon = start_ready(start_daemon, family, state)
    tokens = {scope: token(didid, state, "create", "--name", scope, "--scope", scope)
              for scope in SCOPES}
    return daemon, Wire(daemon.url), tokens | {"first": first, "state": state}


def start_ready(start_daemon, family, state, *arguments):
    return start_daemon(family, *arguments, state=state)


def test_every_operation_names_its_scope():
    table = scopes()
    assert table and all(scope in [*SCOPES, "public"] for scope in table.values()), table


def test_every_route_keeps_to_its_scope(guarded):
    """Without a token 401, below the scope 403, from the scope on neither. A delivery to a hook is
    public, since its signature is judged: without such a hook it is told that there is none."""
    _, wire, tokens = guarded
    for (method, path), scope in scopes().items():
        target = re.sub(r"\{[^}]+\}", "0" * 26, path)
        answer = wire.request(method, target)
        if scope == "public":
            called = (method, path) == ("POST", "/v1/hooks/{hook}")
            assert answer.problem() == "unknown-hook" if called else answer.status == 200, path
            continue
        assert answer.problem() == "unauthenticated", path
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="didid"'
        for held in SCOPES:
            answer = wire.request(method, target, headers=bearer(tokens[held]))
            if SCOPES.index(held) < SCOPES.index(scope):
                assert answer.problem() == "forbidden", (path, held)
                detail = answer.json()["detail"]
                assert scope in detail and held in detail
            else:
                assert answer.status not in (401, 403), (path, held)


def test_a_token_is_made_listed_and_revoked(guarded, didid):
    daemon, wire, tokens = guarded
    body = json.dumps({"name": "ci", "scope": "submit", "expires_seconds": 3600})
    admin = bearer(tokens["admin"])
    made = wire.request("POST", "/v1/tokens", body,
                        {**admin, "Content-Type": "application/json"})
    assert made.status == 201 and made.headers["Cache-Control"] == "no-store"
    document = made.json()
    text = document.pop("token")
    place = f"/v1/tokens/{document['id']}"
    assert made.headers["Location"] == place
    assert wire.request("GET", "/v1/whoami", headers=bearer(text)).json()["name"] == "ci"
    shown = wire.request("GET", place, headers=admin)
    assert text not in shown.body.decode() and shown.status == 200
    assert text not in wire.request("GET", "/v1/tokens", headers=admin).body.decode()
    listed = token(didid, tokens["state"], "list")
    assert document["id"] in listed and text not in listed
    assert wire.request("DELETE", place, headers=admin).status == 204
    assert wire.request("GET", "/v1/whoami", headers=bearer(text)).problem() == "unauthenticated"
    assert wire.request("DELETE", place, headers=admin).problem() == "unknown-token"
    log = daemon.log()
    assert "token created" in log and "token revoked" in log and text not in log
    assert text.encode() not in (tokens["state"] / "didid.db").read_bytes()


def test_tokens_survive_a_restart(guarded, family, start_daemon):
    daemon, _, tokens = guarded
    daemon.stop()
    again = start_ready(start_daemon, family, tokens["state"])
    answer = Wire(again.url).request("GET", "/v1/whoami", headers=bearer(tokens["submit"]))
    assert answer.json()["scope"] == "submit"


def test_wrong_tokens_are_limited_and_logged(guarded):
    daemon, wire, tokens = guarded
    wrong = tokens["admin"][:-1] + ("0" if tokens["admin"][-1] != "0" else "1")
    for _ in range(10):
        assert wire.request("GET", "/v1/jobs", headers=bearer(wrong)).problem() \
            == "unauthenticated"
    late = wire.request("GET", "/v1/jobs", headers=bearer(wrong))
    assert late.problem() == "too-many-attempts"
    assert 1 <= int(late.headers["Retry-After"]) <= 60
    assert wire.request("GET", "/v1/jobs", headers=bearer(tokens["read"])).status == 200
    daemon.wait_logged("wrong token", 10)
    log = daemon.log_path.read_text()
    assert log.count("wrong token") == 10
    assert wrong not in log and "address=127.0.0.1" in log


def test_the_socket_in_the_state_directory_is_for_the_owner(guarded):
    _, _, tokens = guarded
    path = tokens["state"] / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    connection = over(path)
    connection.request("GET", "/v1/whoami")
    identity = json.loads(connection.getresponse().read())
    assert identity["authenticated_by"] == "socket" and identity["scope"] == "admin"
    connection.close()


def over(path):
    """A connection to a Unix socket, by way of its directory: the path may be too long."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    directory = os.open(path.parent, os.O_RDONLY)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)
    return connection


def long_polls(state):
    """How many wait, asked over control.sock; None when no connection is left for that."""
    connection = over(state / "control.sock")
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status in (200, 503), text
    return int(re.search(r"^didid_http_long_polls (\d+)", text, re.MULTILINE)[1]) \
        if answer.status == 200 else None


def refused(connection):
    """Whether the server has answered already, which it does to one connection too many."""
    if not select.select([connection.sock], [], [], 0)[0]:
        return False
    try:
        answer = connection.getresponse()
        assert answer.status in (429, 503), answer.read()
    except ConnectionResetError:
        if not UNDER_SANITIZER:  # the answer waited longer to be read than the server does
            raise
    connection.close()
    return True


def hold(state, job, connect):
    """One more connection that waits for an event of the job, once it does: it is counted, or for a
    second nobody could ask, since it was the last. Those that asked before count until the server
    has seen them closed: whoever is refused meanwhile asks again."""
    deadline = time.monotonic() + 60
    connection = full_since = None
    while True:
        assert time.monotonic() < deadline
        now = long_polls(state)
        if connection is None:
            if now is not None:
                before, full_since = now, None
                connection = connect()
                connection.request("GET", f"/v1/jobs/{job}/events?after=1000000&wait=60")
        elif refused(connection):
            connection = None
        elif now is None:
            full_since = full_since or time.monotonic()
            if time.monotonic() > full_since + 1:
                return connection
        elif now > before:
            return connection
        else:
            full_since = None
        time.sleep(0.02)


def test_administration_goes_on_beside_any_crowd(didid, family, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    public = state / "public.sock"
    with Daemon(didid, state, family, "--http-connections-max", "13",
                "--http-address-connections-max", "4", "--http-connections-reserved", "1",
                listen=("127.0.0.1:{port}", f"unix:{public}")) as daemon:
        wire = Wire(daemon.url)
        job = wire.submit(specification(**HOLD))["id"]
        wire.wait(job, "running")
        # All that one user may have over one socket, all that two addresses may have, and the rest.
        places = [lambda: over(public)] + [
            lambda address=address: http.client.HTTPConnection(
                wire.host, wire.port, timeout=60, source_address=(address, 0))
            for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3")]
        held = [hold(state, job, place) for place in places[:3] for _ in range(4)]
        held.append(hold(state, job, places[3]))
        assert long_polls(state) is None
        token(didid, state, "create", "--name", "first", "--scope", "admin")
        assert "first" in token(didid, state, "list")
        # What changes is told over this socket too.
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 30
        while long_polls(state) != 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        told = hold(state, job, lambda: over(state / "control.sock"))
        cancel = over(state / "control.sock")
        cancel.request("POST", f"/v1/jobs/{job}/cancel", headers={"Content-Length": "0"})
        assert cancel.getresponse().status == 200
        assert json.loads(told.getresponse().read())["state"] in ("running", "cancelled")
        told.close()
        cancel.close()
        assert "control.sock" not in daemon.log()


def test_a_poll_ends_with_its_token(guarded, didid):
    _, wire, tokens = guarded
    body = json.dumps(specification(**HOLD))
    made = wire.request("POST", "/v1/jobs", body,
                        {**bearer(tokens["submit"]), "Content-Type": "application/json"})
    job = made.json()["id"]
    identity = wire.request("GET", "/v1/whoami", headers=bearer(tokens["read"])).json()["id"]
    answers = []
    poll = threading.Thread(target=lambda: answers.append(wire.request(
        "GET", f"/v1/jobs/{job}/events?after=1000000&wait=60", headers=bearer(tokens["read"]))))
    poll.start()
    deadline = time.monotonic() + 30
    while long_polls(tokens["state"]) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    token(didid, tokens["state"], "revoke", identity)
    wire.request("POST", f"/v1/jobs/{job}/cancel", headers=bearer(tokens["submit"]))
    poll.join(60)
    assert answers and answers[0].problem() == "unauthenticated"


def test_without_tokens_only_this_machine_is_served(didid, family, tmp_path):
    done = subprocess.run(
        [didid, "--state-dir", tmp_path / "state", "--models", family, "--listen", "0.0.0.0:0"],
        capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "there is no token" in done.stderr


def test_other_machines_need_tokens_and_a_proxy(didid, family, tmp_path):
    state = tmp_path / "state"
    token(didid, state, "create", "--name", "a", "--scope", "read")
    command = [didid, "--state-dir", state, "--models", family, "--listen", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "behind_proxy" in done.stderr
    command += ["--behind-proxy", "1", "--http-hosts", "didid.example.org"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            port = next(int(found[1]) for line in daemon.stderr
                        if (found := re.search(r"listen=0\.0\.0\.0:(\d+)", line)))
            wire = Wire(f"http://127.0.0.1:{port}")
            assert wire.get("/livez", Host="didid.example.org").status == 200
            assert wire.get("/v1/jobs", Host="didid.example.org").problem() == "unauthenticated"
            assert wire.get("/livez", Host="didid.example.com").problem() == "wrong-host"
        finally:
            daemon.terminate()
            daemon.communicate(timeout=60)
        assert daemon.returncode == 0


@pytest.mark.parametrize("arguments", [
    ["create", "--name", "a b", "--scope", "read"], ["create", "--name", "a", "--scope", "root"],
    ["create", "--name", "a", "--scope", "read", "--expires", "5"], ["create"], ["revoke", "x"],
    ["list", "--name", "x"], ["frob"], []])
def test_bad_command_lines(didid, tmp_path, arguments):
    done = subprocess.run([didid, "token", *arguments, "--state-dir", tmp_path / "state"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("didid token: ")
    assert not (tmp_path / "state").exists()
