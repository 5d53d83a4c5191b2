# SPDX-License-Identifier: Apache-2.0
"""The little of an HTTP client the crash tests need, and checks of what lies on disk."""

import hashlib
import http.client
import json
import os
import pathlib
import random
import time
import urllib.parse

FINISHED = ("succeeded", "failed", "cancelled")


class Refused(Exception):
    """A problem document."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem}")
        self.status, self.problem = status, problem


def call(daemon, method, path, body=None, headers=None):
    """One request on its own connection; the parsed answer."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(daemon.url).netloc, timeout=30)
    try:
        text = None if body is None else json.dumps(body)
        headers = dict(headers or {})
        if text is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    parsed = json.loads(data) if data else None
    if answer.status >= 400:
        raise Refused(answer.status, parsed)
    return parsed


def submit(daemon, specification, key):
    """The job's id; the same key gives the same job however often it is asked."""
    return call(daemon, "POST", "/v1/jobs", specification, {"Idempotency-Key": key})["id"]


def restart_with_fault(daemon, fault):
    """Starts it so that it is killed at the fault; the next start is an ordinary one."""
    daemon.stop()
    daemon.environment["DIDI_FAULT"] = f"{fault}:KILL"
    daemon.start()
    del daemon.environment["DIDI_FAULT"]


def jobs(daemon):
    """All jobs by id."""
    found, cursor = {}, ""
    while True:
        page = call(daemon, "GET", f"/v1/jobs?limit=200{cursor}")
        found.update((job["id"], job) for job in page["data"])
        if not page["has_more"]:
            return found
        cursor = "&after=" + urllib.parse.quote(page["next"])


def wait_finished(daemon, job, seconds=400, of="jobs"):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = call(daemon, "GET", f"/v1/{of}/{job}")
        if shown["state"] in FINISHED:
            return shown
        time.sleep(0.05)
    raise AssertionError(f"{of} {job} did not finish: {shown}")


def wait_state(daemon, job, state, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = call(daemon, "GET", f"/v1/jobs/{job}")
        if shown["state"] == state:
            return shown
        time.sleep(0.01)
    raise AssertionError(f"job {job} is not {state}: {shown}")


def notes(daemon, job):
    events = call(daemon, "GET", f"/v1/jobs/{job}/events?limit=1000")["data"]
    return [event["text"] for event in events if event["kind"] == "note"]


def wait_noted(daemon, job, text, seconds=60):
    deadline = time.monotonic() + seconds
    while not any(text in note for note in notes(daemon, job)):
        assert time.monotonic() < deadline, (notes(daemon, job), daemon.log())
        time.sleep(0.05)


def processes(program, first_word=None):
    """Ids of processes of a program; of those whose first argument is the word, if one is given."""
    found = []
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if words[0] == os.fsencode(program) and (first_word is None or
                                                 words[1:2] == [first_word.encode()]):
            found.append(int(place.name))
    return found


def kills_and_chooser(config):
    """How often to kill, and the randomness of this run; the seed printed repeats it."""
    kills, seed = config.getoption("--kills"), config.getoption("--crash-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"{kills} kills, seed {seed}")
    return kills, random.Random(seed)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def artifact_digests(directory):
    """Digests of every file but the manifest, and the manifest without what the clock decides."""
    directory = pathlib.Path(directory)
    found = {str(path.relative_to(directory)): digest(path)
             for path in sorted(directory.rglob("*.safetensors")) if "models" not in path.parts}
    manifest = json.loads((directory / "manifest.json").read_text())
    for volatile in ("seconds", "stages", "peak_memory_bytes", "specification"):
        manifest.pop(volatile, None)
    found["manifest.json"] = json.dumps(manifest, sort_keys=True)
    return found


def check_whole(directory):
    """A published directory holds a manifest and every file it lists, byte for byte."""
    directory = pathlib.Path(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["files"], manifest
    for entry in manifest["files"]:
        path = directory / entry["name"]
        assert path.stat().st_size == entry["bytes"], path
        assert digest(path) == entry["sha256"], path
