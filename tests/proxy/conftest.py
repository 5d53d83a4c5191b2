# SPDX-License-Identifier: Apache-2.0
"""nginx and Caddy as docs/proxies has them, before a daemon or a server made for the test."""

import contextlib
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import time

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "api")]

from service import Daemon, free_port  # noqa: E402 (the path above is needed first)

PROXIES = TESTS.parent / "docs" / "proxies"
START_SECONDS = 30
BODY_BYTES = 65536

NGINX = """daemon off;
{user}pid {place}/nginx.pid;
error_log {place}/proxy.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {example}
}}
"""
CADDY = """{{
    admin off
    auto_https disable_redirects
}}
{example}
"""


def replaced(text, changes):
    """The example with what every user changes; each must be there to be changed."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy on a free loopback port that speaks TLS; `backend` is the port behind it."""

    def __init__(self, kind, place, certificate, backend):
        self.kind, self.place, self.backend = kind, place, backend
        self.host, self.port = "localhost", free_port()
        self.certificate = certificate
        self.process = None
        self.context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))

    def command(self):
        changes = [("127.0.0.1:7878", f"127.0.0.1:{self.backend}"),
                   ("/etc/didid/tls-certificate.pem", str(self.certificate / "cert.pem")),
                   ("/etc/didid/tls-key.pem", str(self.certificate / "key.pem"))]
        if self.kind == "nginx":
            example = replaced((PROXIES / "nginx.conf").read_text().split("upstream", 1)[1],
                               [*changes, ("listen 443", f"listen 127.0.0.1:{self.port}"),
                                ("didid.example.org", "localhost")])
            user = "user root;\n" if os.geteuid() == 0 else ""
            text = NGINX.format(user=user, place=self.place, example="upstream" + example)
            (self.place / "nginx.conf").write_text(text)
            return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", self.place / "nginx.conf",
                    "-p", self.place]
        text = (PROXIES / "Caddyfile").read_text()
        text = text[text.index("https://"):]
        example = replaced(text, [*changes, ("https://didid.example.org",
                                             f"https://localhost:{self.port}")])
        (self.place / "Caddyfile").write_text(CADDY.format(example=example))
        return ["caddy", "run", "--config", self.place / "Caddyfile", "--adapter", "caddyfile"]

    def __enter__(self):
        environment = {**os.environ, "XDG_DATA_HOME": str(self.place),
                       "XDG_CONFIG_HOME": str(self.place), "HOME": str(self.place)}
        with open(self.place / "proxy.out", "ab") as log:
            self.process = subprocess.Popen(self.command(), env=environment, cwd=self.place,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def connect(self, timeout=60):
        """A TLS connection; the certificate is checked."""
        import socket
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        try:
            return self.context.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.place / "proxy.out").read_text()[-3000:])
            with contextlib.suppress(OSError):
                self.connect(5).close()
                return
            time.sleep(0.05)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A directory with cert.pem and key.pem of localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    place = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-keyout", place / "key.pem", "-out", place / "cert.pem"],
        check=True, capture_output=True)
    return place


@pytest.fixture(scope="session", params=["nginx", "caddy"])
def kind(request):
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    if shutil.which(request.param, path=path) is None:
        pytest.skip(f"no {request.param} here")
    return request.param


@pytest.fixture
def before(kind, certificate, tmp_path):
    """before(port) -> a running proxy that passes on to a port of loopback."""
    with contextlib.ExitStack() as stack:
        yield lambda port: stack.enter_context(Proxy(kind, tmp_path, certificate, port))


@pytest.fixture(scope="session")
def daemon(didid, family, tmp_path_factory):
    state = tmp_path_factory.mktemp("proxied") / "state"
    state.mkdir()
    with Daemon(didid, state, family, "--http-body-bytes-max", str(BODY_BYTES)) as running:
        yield running


@pytest.fixture(scope="session")
def proxy(kind, certificate, daemon, tmp_path_factory):
    with Proxy(kind, tmp_path_factory.mktemp(kind), certificate,
               int(daemon.url.rsplit(":", 1)[1])) as running:
        yield running
