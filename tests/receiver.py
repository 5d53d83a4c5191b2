# SPDX-License-Identifier: Apache-2.0
"""A receiver of webhooks: it keeps what comes, and answers as a test wants."""

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time

WAIT_SECONDS = 30


def signature(secret, message_id, timestamp, body):
    """What Standard Webhooks 1.0.0 wants, by Python's own HMAC."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


class Message:
    """One attempt as it came."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body
        self.id = headers["webhook-id"]
        self.document = json.loads(body)
        self.type = self.document["type"]

    def job(self):
        return self.document["data"]["job"]

    def signed_by(self, secret):
        wanted = signature(secret, self.id, self.headers["webhook-timestamp"], self.body)
        return wanted in self.headers["webhook-signature"].split(" ")


class Receiver:
    """`answers` are (status, headers, body) for the next requests; then 200. A path beginning with
    /slow is answered when `gate` opens."""

    def __init__(self, certificate=None):
        self.messages, self.answers, self.lock = [], [], threading.Lock()
        self.gate = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def wait(self, count, path=None, seconds=WAIT_SECONDS):
        """The messages, once there are so many."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self.lock:
                found = [one for one in self.messages if path in (None, one.path)]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"{len(found)} messages instead of {count}: "
                             f"{[one.type for one in found]}")

    def handler(receiver):
        class Handler(http.server.BaseHTTPRequestHandler):
            log_message = staticmethod(lambda *_: None)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.lock:
                    receiver.messages.append(Message(self.path, self.headers, body))
                    status, headers, data = (receiver.answers.pop(0) if receiver.answers
                                             else (200, {}, b"thanks"))
                if self.path.startswith("/slow"):
                    receiver.gate.wait(60)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the sender had enough of it

        return Handler
