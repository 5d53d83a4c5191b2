# SPDX-License-Identifier: Apache-2.0
"""What a receiver must have been told of the jobs of a daemon that was killed."""

import itertools
import sqlite3
import time

import service_client as client

TYPES = {"queued": "job.queued", "running": "job.started", "succeeded": "job.succeeded",
         "failed": "job.failed", "cancelled": "job.cancelled"}
END_SECONDS = 60


def changes(state):
    """Job -> what it has become, one after the other: each must have been told."""
    database = sqlite3.connect(f"file:{state / 'didid.db'}?mode=ro", uri=True)
    found = {job: ["job.queued"] for job, in database.execute("SELECT id FROM jobs")}
    for job, text in database.execute(
            "SELECT job_id, text FROM events WHERE kind = 'state' ORDER BY job_id, number"):
        found[job].append(TYPES[text])
    database.close()
    return found


def wait_sent(daemon, hook):
    deadline = time.monotonic() + END_SECONDS
    while (shown := client.call(daemon, "GET", f"/v1/webhooks/{hook}"))["queued"] > 0:
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)


def told(receiver):
    """Job -> types as they came, without the repetitions of what was sent more than once."""
    found, bodies = {}, {}
    for one in receiver.messages:
        assert bodies.setdefault(one.id, one.body) == one.body
        found.setdefault(one.job()["id"], []).append((one.id, one.type))
    return {job: [kind for (_, kind), _ in itertools.groupby(pairs)]
            for job, pairs in found.items()}


def check_told(state, receiver, hook, accepted):
    """All that became of the jobs came at least once, in order for each, signed, as it was."""
    expected = changes(state)
    assert set(accepted) <= set(expected)
    assert told(receiver) == expected
    assert all(one.signed_by(hook["secret"]) for one in receiver.messages)
    unique = {one.id for one in receiver.messages}
    assert len(unique) == sum(map(len, expected.values()))
    return unique
