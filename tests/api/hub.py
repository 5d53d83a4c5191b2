# SPDX-License-Identifier: Apache-2.0
"""A hub and its content hosts for tests: small, local, and as badly behaved as a test wants."""

import hashlib
import http.server
import json
import threading

COMMIT = "c" * 40


def git_digest(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """Repositories of one revision each: `files` maps names to bytes; weights lie elsewhere."""

    def __init__(self):
        self.repositories, self.requests = {}, []
        self.etags, self.cut, self.redirects, self.status = {}, {}, {}, {}
        self.gate = threading.Event()
        self.gate.set()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.content = f"http://localhost:{self.server.server_port}"

    def stop(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def asked(self, part):
        """(method, path, headers) of the requests whose path has this part."""
        return [one for one in self.requests if part in one[1]]

    def etag(self, name, data, large):
        digest = hashlib.sha256(data).hexdigest() if large else git_digest(data)
        return self.etags.get(name, digest)

    def handler(hub):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            log_message = staticmethod(lambda *_: None)

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def do_GET(self):
                hub.requests.append((self.command, self.path, dict(self.headers)))
                path = self.path.split("?")[0]
                for part, status in hub.status.items():
                    if part in path:
                        self.answer(status)
                        return
                if path.startswith("/api/models/"):
                    self.revision(*path.removeprefix("/api/models/").split("/revision/"))
                elif path.startswith("/content/"):
                    self.bytes_of(*path.removeprefix("/content/").split("//"))
                elif "/resolve/" in path:
                    self.resolve(path)
                else:
                    self.answer(404)

            do_HEAD = do_GET

            def revision(self, repository, revision):
                files = hub.repositories.get(repository)
                if files is None or revision not in ("main", COMMIT, "refs%2Fpr%2F1"):
                    self.answer(404)
                    return
                body = json.dumps({"id": repository, "sha": COMMIT,
                                   "siblings": [{"rfilename": name} for name in files]})
                self.answer(200, body.encode(), Content_Type="application/json")

            def resolve(self, path):
                repository, name = path[1:].split(f"/resolve/{COMMIT}/")
                data = hub.repositories[repository][name]
                large = name.endswith(".safetensors")
                etag = hub.etag(name, data, large)
                if large:
                    target = hub.redirects.get(name, f"{hub.content}/content/{repository}//{name}")
                    self.answer(302, Location=target, X_Linked_Etag=f'"{etag}"',
                                X_Linked_Size=str(len(data)), X_Repo_Commit=COMMIT, ETag='"no"')
                else:
                    self.answer(200, data, ETag=f'W/"{etag}"')

            def bytes_of(self, repository, name):
                data = hub.repositories[repository][name]
                hub.gate.wait(30)
                first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=")[:-1])
                cut = hub.cut.get(name, [])
                end = min(len(data), first + cut.pop(0)) if cut else len(data)
                headers = {"Content_Length": str(len(data) - first)}
                if first:
                    headers["Content_Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
                self.answer(206 if first else 200, data[first:end], **headers)
                if end < len(data):
                    self.close_connection = True

        return Handler
