# SPDX-License-Identifier: Apache-2.0
"""A small client of the HTTP interface that hides nothing: status, headers, bytes."""

import http.client
import json
import socket
import time
import urllib.parse

HOLD = {"ranks": {"allocator": "differentiable", "steps": 100000},
        "refine": {"optimizer": "adam", "steps": 100000}}


class Answer:
    """What came back."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def problem(self):
        """The name of the problem; checks that it is a problem document of this status."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        document = self.json()
        assert document["status"] == self.status
        assert document["type"].startswith("urn:didid:problem:")
        assert document.get("detail", "").split()[:4] != document["title"].lower().split()[:4]
        return document["type"].removeprefix("urn:didid:problem:")


class Wire:
    """Requests to one daemon."""

    def __init__(self, url):
        self.host, self.port = urllib.parse.urlsplit(url).hostname, urllib.parse.urlsplit(url).port

    def request(self, method, target, body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, target, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", target, headers=named)

    def post(self, target, document=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None
        if document is not None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            named.setdefault("Content-Type", "application/json")
        return self.request("POST", target, body, named)

    def wait_for_polls(self, count, seconds=30):
        """Returns once at least so many requests wait."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.get("/metrics").body.decode()
            lines = [line for line in text.splitlines()
                     if line.startswith("didid_http_long_polls ")]
            if lines and float(lines[0].split()[1]) >= count:
                return
            assert time.monotonic() < deadline, lines
            time.sleep(0.02)

    def delete(self, target):
        return self.request("DELETE", target)

    def raw(self, data, seconds=10, half_close=False):
        """Sends bytes as they are; everything that comes back until the daemon closes."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionResetError):
                pass
            return received

    def submit(self, specification):
        answer = self.post("/v1/jobs", specification)
        assert answer.status == 201, answer.body
        return answer.json()

    def job(self, job_id):
        return self.get(f"/v1/jobs/{job_id}").json()

    def wait(self, job_id, *states, seconds=120):
        """Polls until the job is in one of the states."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["state"] in states:
                return job
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.05)
        raise AssertionError(f"job {job_id} is still {job['state']}")


def specification(**fields):
    """A good specification on the demo family, with fields replaced or added."""
    document = {"base": "base", "budget": 1.3,
                "tasks": [{"name": "hiragana", "model": "tasks/hiragana"},
                          {"name": "latin", "model": "tasks/latin"}]}
    document.update(fields)
    return document
