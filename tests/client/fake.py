# SPDX-License-Identifier: Apache-2.0
"""A didid that answers whatever a test wants, also what no sound server would."""

import base64
import hashlib
import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JOB = "01h000000000000000000000aa"


def job(identifier=JOB, state="running", **more):
    """A job as the contract has it."""
    return {
        "id": identifier,
        "name": "demo",
        "state": state,
        "stage": "refine",
        "progress": 0.5,
        "attempt": 1,
        "cancel_requested": False,
        "priority": 0,
        "labels": {"team": "a"},
        "created_at": "2025-03-01T12:00:00.000Z",
        "started_at": "2025-03-01T12:00:01.000Z",
        "finished_at": None,
        "error": None,
        "last_event": 0,
        "specification": {
            "base": "base",
            "budget": 1.24,
            "tasks": [{"name": "a", "model": "tasks/a"}],
        },
    } | more


def page(items, following=None):
    return {"data": items, "has_more": following is not None, "next": following}


def event(number, **more):
    return {
        "number": number,
        "time": "2025-03-01T12:00:02.000Z",
        "kind": "point",
        "attempt": 1,
    } | more


def artifact(name, content, **more):
    digest = hashlib.sha256(content).hexdigest()
    return {
        "name": name,
        "bytes": len(content),
        "sha256": digest,
        "etag": f'"sha256-{digest}"',
        "media_type": "application/octet-stream",
        "href": f"/v1/jobs/{JOB}/artifacts/{name}",
    } | more


class Answer:
    """What to send: a JSON value, or bytes with a content type; `cut` drops the connection after so
    many bytes of the body, `pause` seconds later; `stall` keeps it open and sends no more, `silent`
    drops it at once."""

    def __init__(
        self,
        body=None,
        status=200,
        kind="application/json",
        headers=None,
        cut=None,
        stall=None,
        silent=False,
        pause=0,
    ):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.kind = status, kind
        self.cut, self.stall, self.silent, self.pause = cut, stall, silent, pause
        self.headers = headers or {}


def problem(status, title, detail="", **more):
    return Answer(
        {"type": "urn:didid:problem:x", "title": title, "status": status, "detail": detail} | more,
        status,
        "application/problem+json",
    )


class Request:
    def __init__(self, handler, body):
        self.method, self.path, self.headers = handler.command, handler.path, handler.headers
        self.body = body

    def json(self):
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self, body)
        self.server.fake.seen.append(request)
        answer = self.server.fake.answer(request)
        if answer.silent:
            self.drop()
            return
        self.send_response(answer.status)
        if answer.status != 204:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.stall is not None:
            self.wfile.write(answer.body[: answer.stall])
            self.rfile.read(1)  # until the client goes
        elif answer.cut is not None:
            self.wfile.write(answer.body[: answer.cut])
            self.wfile.flush()
            time.sleep(answer.pause)
            self.drop()
        elif answer.status != 204:
            self.wfile.write(answer.body)

    def drop(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that leaves in the middle is what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Fake:
    """routes: (method, regular expression of the path without query) -> an answer, a function of
    the request, or a list of these for one request after the other (the last one stays)."""

    def __init__(self):
        self.routes = {}
        self.seen = []
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.fake = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def on(self, method, pattern, answer):
        self.routes[method, pattern] = answer

    def answer(self, request):
        for (method, pattern), answer in self.routes.items():
            if method != request.method or not re.fullmatch(pattern, request.path.split("?")[0]):
                continue
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if callable(answer):
                answer = answer(request)
            return answer if isinstance(answer, Answer) else Answer(answer)
        return problem(404, "Not found", request.path)

    def serve_file(self, name, content, **faults):
        """An artifact as a sound server sends it: ranges, ETag, digest. Returns its row."""
        row = artifact(name, content)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()

        def send(request):
            headers = {
                "ETag": row["etag"],
                "Repr-Digest": f"sha-256=:{digest}:",
                "Accept-Ranges": "bytes",
            }
            wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
            if wanted and request.headers.get("If-Range") == row["etag"]:
                first = int(wanted[1])
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                return Answer(content[first:], 206, "application/octet-stream", headers)
            return Answer(content, 200, "application/octet-stream", headers, **faults)

        self.on("GET", f"/v1/jobs/{JOB}/artifacts/{re.escape(name)}", send)
        return row

    def requests(self, method, pattern):
        return [
            request
            for request in self.seen
            if request.method == method and re.fullmatch(pattern, request.path.split("?")[0])
        ]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
