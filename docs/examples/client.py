#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""client.py SPECIFICATION DIRECTORY: submits a merge, waits for it, and fetches its files.

Needs nothing but Python. The server is DIDI_HOST (http://127.0.0.1:7878), the token DIDI_TOKEN. Run
it again after it was interrupted: the job is the same one, and files go on where they stopped.
"""
import hashlib
import json
import os
import pathlib
import sys
import urllib.error
import urllib.request

HOST = os.environ.get("DIDI_HOST", "http://127.0.0.1:7878")
PIECE = 1 << 20


def ask(path, body=None, **headers):
    """An open answer. What goes wrong is a problem document, which says what."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if os.environ.get("DIDI_TOKEN"):
        headers["Authorization"] = "Bearer " + os.environ["DIDI_TOKEN"]
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        return urllib.request.urlopen(
            urllib.request.Request(HOST + path, body, headers), timeout=90)
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        sys.exit(f"{problem['title']}: {problem.get('detail', '')} {problem.get('pointer', '')}")


def submit(specification):
    """The job's id. The key makes a second request with the same content the same job."""
    key = hashlib.sha256(specification).hexdigest()
    with ask("/v1/jobs", specification, Idempotency_Key=key) as answer:
        return json.load(answer)["id"]


def wait(job):
    """Follows the job's events until it ends; its state. A stream that breaks is taken up again."""
    last = kind = None
    while True:
        try:
            number = {"Last_Event_ID": last} if last else {}
            with ask(f"/v1/jobs/{job}/events", Accept="text/event-stream", **number) as stream:
                if stream.status == 204:  # all was told before
                    with ask(f"/v1/jobs/{job}") as answer:
                        return json.load(answer)["state"]
                for line in stream:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        last = value
                    elif name == "event":
                        kind = value
                    elif name == "data" and kind == "end":
                        return json.loads(value)["state"]
                    elif name == "data" and kind == "stage":
                        print(json.loads(value)["stage"], flush=True)
        except OSError as error:
            print(f"connection lost ({error}), trying again", file=sys.stderr)


def fetch(row, folder):
    """One file, from where an earlier try stopped, under its name once its digest is right."""
    place = folder / row["name"]
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(place.name + ".part")
    if not place.exists():
        have = part.stat().st_size if part.exists() else 0
        if have < row["bytes"]:
            with ask(row["href"], Range=f"bytes={have}-") as answer, open(part, "ab") as file:
                while piece := answer.read(PIECE):
                    file.write(piece)
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != row["sha256"]:
            part.unlink()
            sys.exit(f"{row['name']}: the digest is not the one that was announced")
        part.rename(place)
    print(f"{place} {row['bytes']}", flush=True)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    job = submit(pathlib.Path(sys.argv[1]).read_bytes())
    print(job, flush=True)
    state = wait(job)
    if state != "succeeded":
        sys.exit(f"the job {state}")
    with ask(f"/v1/jobs/{job}/artifacts") as answer:
        for row in json.load(answer)["data"]:
            fetch(row, pathlib.Path(sys.argv[2]))


main()
