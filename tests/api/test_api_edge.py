# SPDX-License-Identifier: Apache-2.0
"""TLS, several listeners, deadlines and fairness of the edge."""

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import time

import pytest

from service import Daemon, free_port
from wire import Wire

HEAD = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


def make_certificate(folder, name):
    """A self-signed certificate for localhost; (certificate, key)."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "2", "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)
    return certificate, key


class Secure:
    """A daemon with a TLS port beside its plain one, and a Unix socket."""

    def __init__(self, daemon, folder, port):
        self.daemon, self.folder, self.port = daemon, folder, port

    def connect(self, session=None, protocols=("http/1.1",), version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(list(protocols))
        if version:
            context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return context.wrap_socket(plain, server_hostname="localhost", session=session)

    def get(self, path, **headers):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.connect()
        connection.request("GET", path, headers={name.replace("_", "-"): value
                                                 for name, value in headers.items()})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, response.headers, body

    def name(self):
        """The subject of the certificate shown now."""
        with self.connect() as connection:
            pem = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))
        shown = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, text=True,
                               capture_output=True, check=True)
        return shown.stdout.strip().rpartition(" ")[2]


@pytest.fixture(scope="module")
def secure(didid, family, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    (folder / "state").mkdir()
    for name in ("first", "second"):
        make_certificate(folder, name)
    for kind in ("pem", "key"):
        (folder / f"used.{kind}").touch(0o600)
        (folder / f"used.{kind}").write_bytes((folder / f"first.{kind}").read_bytes())
    port = free_port()
    with Daemon(didid, folder / "state", family,
                "--tls-certificate", str(folder / "used.pem"), "--tls-key",
                str(folder / "used.key"), "--http-hosts", "merge.example",
                "--http-origins", "https://pages.example", "--http-idle-seconds", "2",
                "--http-address-connections-max", "8", "--http-waits-max", "2",
                "--http-downloads-max", "1", "--http-reply-seconds", "2",
                "--http-reply-bytes-per-second", "100000000",
                listen=("http://127.0.0.1:{port}", f" 127.0.0.1:{port}", f"unix:{folder}/socket")
                ) as daemon:
        yield Secure(daemon, folder, port)


def test_requests_over_tls(secure):
    status, headers, body = secure.get("/livez")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert headers["X-Request-Id"]
    with secure.connect() as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.version() == "TLSv1.3"
        connection.sendall(HEAD % b"/livez" * 3)
        received = b""
        while received.count(b'{"status":"ok"}') < 3:
            received += connection.recv(65536)
    with secure.connect(version=ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        secure.connect(protocols=["h2"])


def test_sessions_are_resumed(secure):
    with secure.connect(version=ssl.TLSVersion.TLSv1_2) as connection:
        context, session = connection.context, connection.session
    plain = socket.create_connection(("127.0.0.1", secure.port), timeout=20)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as connection:
        assert connection.session_reused


def test_plain_text_on_the_tls_port_is_told_so(secure):
    received = Wire(f"http://127.0.0.1:{secure.port}").raw(HEAD % b"/livez")
    assert received.startswith(b"HTTP/1.1 400 ") and b"speaks HTTPS" in received


def test_certificates_are_read_again(secure):
    used = secure.folder / "used.pem", secure.folder / "used.key"

    def put(certificate, key, expected):
        for path, text in zip(used, (certificate, key)):
            path.write_bytes(text)
        os.kill(secure.daemon.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 20
        while secure.name() != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        assert secure.name() == expected

    pairs = {name: ((secure.folder / f"{name}.pem").read_bytes(),
                    (secure.folder / f"{name}.key").read_bytes()) for name in ("first", "second")}
    assert secure.name() == "first"
    with secure.connect() as old:
        put(*pairs["second"], "second")
        old.sendall(HEAD % b"/livez")
        assert old.recv(4096).startswith(b"HTTP/1.1 200")
    put(b"broken", pairs["first"][1], "second")
    secure.daemon.wait_logged("the old one stays")
    put(pairs["second"][0], pairs["first"][1], "second")
    secure.daemon.wait_logged("the old one stays", 2)
    put(*pairs["first"], "first")


def test_wrong_certificates_end_the_start(didid, family, tmp_path, secure):
    (tmp_path / "state").mkdir()
    for certificate, key, said in (("none", "used.key", "none"), ("used.key", "used.key", "PEM"),
                                   ("first.pem", "second.key", "key")):
        ended = subprocess.run([didid, "--state-dir", tmp_path / "state", "--models", family,
                                "--listen", "127.0.0.1:0", "--tls-certificate",
                                secure.folder / certificate, "--tls-key", secure.folder / key],
                               capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode != 0
        assert said in ended.stderr and "cannot start" in ended.stderr
        assert "PRIVATE" not in ended.stderr


def test_a_key_that_others_can_read_ends_the_start(didid, family, tmp_path, secure):
    (tmp_path / "state").mkdir()
    key = tmp_path / "open.key"
    key.write_bytes((secure.folder / "first.key").read_bytes())
    key.chmod(0o644)
    ended = subprocess.run([didid, "--state-dir", tmp_path / "state", "--models", family,
                            "--listen", "127.0.0.1:0", "--tls-certificate",
                            secure.folder / "first.pem", "--tls-key", key],
                           capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0 and "chmod 600" in ended.stderr and "tls_key" in ended.stderr


def test_certificate_and_key_from_the_service_manager(didid, family, tmp_path, secure, monkeypatch):
    (tmp_path / "state").mkdir()
    options = ["--tls-certificate", "credential:first.pem", "--tls-key", "credential:first.key"]
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    ended = subprocess.run([didid, "--state-dir", tmp_path / "state", "--models", family,
                            "--listen", "127.0.0.1:0", *options],
                           capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0 and "the service manager gave no credentials" in ended.stderr
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secure.folder))
    with Daemon(didid, tmp_path / "state", family, *options,
                listen=("http://127.0.0.1:{port}", "https://127.0.0.1:0")) as daemon:
        daemon.wait_logged("https://127.0.0.1:")


def test_hosts_and_origins_of_the_settings(secure):
    wire = Wire(secure.daemon.url)
    assert wire.get("/livez", Host="merge.example").status == 200
    assert wire.get("/livez", Host="MERGE.example:443").status == 200
    assert wire.get("/livez", Host="merge.example.evil").status == 421
    assert wire.get("/livez", Origin="https://evil.example").status == 403
    answer = wire.get("/livez", Origin="https://pages.example")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://pages.example"
    asked = {"Origin": "https://pages.example", "Access-Control-Request-Method": "POST"}
    answer = wire.request("OPTIONS", "/v1/jobs", headers=asked)
    assert answer.status == 204 and "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert wire.request("OPTIONS", "/v1/jobs", headers={
        **asked, "Origin": "https://evil.example"}).status == 403


def test_a_silent_connection_ends(secure):
    wire = Wire(secure.daemon.url)
    with socket.create_connection((wire.host, wire.port), timeout=20) as connection:
        connection.sendall(HEAD % b"/livez")
        received = b""
        while piece := connection.recv(65536):
            received += piece
        assert received.endswith(b'{"status":"ok"}')


def test_an_address_replaces_its_own_idle_connections(secure):
    """Nobody can keep a newcomer out by holding connections, whatever they are at."""
    wire = Wire(secure.daemon.url)
    body = (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9\r\n\r\n{")
    beginnings = [b"", b"GET /live", HEAD % b"/livez", body]
    with contextlib.ExitStack() as stack:
        for number in range(60):
            connection = stack.enter_context(socket.create_connection((wire.host, wire.port)))
            connection.sendall(beginnings[number % 4])
            if number % 10 == 9:
                assert wire.get("/livez").status == 200
        assert wire.get("/v1/jobs").status == 200


def big_download(secure):
    """Path of the largest artifact of a finished job; its bytes."""
    wire = Wire(secure.daemon.url)
    job = wire.submit({"base": "base", "budget": 1.3,
                       "tasks": [{"name": "latin", "model": "tasks/latin"}]})
    wire.wait(job["id"], "succeeded")
    path = f"/v1/jobs/{job['id']}/artifacts/shared.safetensors"
    return path, wire.get(path).body


def test_downloads_and_ranges_over_tls(secure):
    path, whole = big_download(secure)
    assert secure.get(path)[2] == whole
    first, last = len(whole) // 3, len(whole) - 7
    status, headers, body = secure.get(path, Range=f"bytes={first}-{last}")
    assert status == 206 and body == whole[first:last + 1]
    assert headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"


def cut(wire):
    """How many connections were ended for their deadlines."""
    text = wire.get("/metrics").body.decode()
    return re.search(r'^didid_http_turned_away_total{reason="timeout"} (\d+)', text,
                     re.MULTILINE)[1]


def test_who_does_not_read_is_cut(secure):
    """A reply has its time, and a second more for so many bytes that were taken."""
    wire = Wire(secure.daemon.url)
    before = cut(wire)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(20)
        connection.connect((wire.host, wire.port))
        for _ in range(200):  # more than the kernel holds for a peer that does not read
            try:
                connection.sendall(HEAD % b"/v1/openapi.yaml")
            except OSError:
                break
        deadline = time.monotonic() + 30
        while cut(wire) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        received, whole = 0, 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += len(piece)
        whole = 200 * len(wire.get("/v1/openapi.yaml").body)
        assert 0 < received < whole


def test_several_listeners(secure):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{secure.folder}/socket")
        connection.sendall(HEAD % b"/readyz")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    secure.daemon.wait_logged(f"https://127.0.0.1:{secure.port},unix:")


def test_without_descriptors_it_still_answers(start_daemon, family):
    """The idle connections go, and the loop does not spin."""
    daemon = start_daemon(family)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (70, 70))
    wire = Wire(daemon.url)
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection((wire.host, wire.port)))
        assert [wire.get("/livez").status for _ in range(20)] == [200] * 20
