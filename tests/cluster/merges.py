# SPDX-License-Identifier: Apache-2.0
"""The merge of the demo family that is run everywhere."""

import service_client as client

MERGE = {"base": "base", "budget": 1.3,
         "tasks": [{"name": name, "model": f"tasks/{name}"}
                   for name in ("hiragana", "latin", "mnist")]}


def merged(daemon, seconds=300):
    """The digests of its artifacts."""
    job = client.submit(daemon, MERGE, "key")
    shown = client.wait_finished(daemon, job, seconds)
    assert shown["state"] == "succeeded", (shown, daemon.log())
    return client.artifact_digests(daemon.state / "jobs" / job / "artifacts")
