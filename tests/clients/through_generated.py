# SPDX-License-Identifier: Apache-2.0
"""through_generated.py URL TOKEN: a merge by the generated client `didid_client`: submit, wait,
fetch every file and compare its digest; a mistake comes back as a problem."""

import hashlib
import json
import sys

from didid_client import AuthenticatedClient
from didid_client.api.artifacts import get_expert, get_manifest, get_shared, list_artifacts
from didid_client.api.jobs import get_job, submit_job
from didid_client.api.telemetry import list_events
from didid_client.models import JobSpecification, Problem

SPECIFICATION = {
    "base": "base", "budget": 0.5,
    "tasks": [{"name": "mnist", "model": "tasks/mnist"}, {"name": "latin", "model": "tasks/latin"}]}


def wait(client, job):
    """Long polls until the job ends; its state."""
    last = 0
    while True:
        page = list_events.sync(job, client=client, stream=0, after=last, wait=30)
        last = page.next_
        if page.state.value in ("succeeded", "failed", "cancelled"):
            return page.state.value


def fetch(client, job, name):
    if name == "manifest.json":
        return get_manifest.sync_detailed(job, client=client).content
    if name == "shared.safetensors":
        return get_shared.sync_detailed(job, client=client).content
    task = name.removeprefix("experts/").removesuffix(".safetensors")
    return get_expert.sync_detailed(job, task, client=client).content


def main():
    client = AuthenticatedClient(sys.argv[1], sys.argv[2])
    body = JobSpecification.from_dict(SPECIFICATION)
    job = submit_job.sync(client=client, body=body, idempotency_key="generated")
    again = submit_job.sync(client=client, body=body, idempotency_key="generated")
    state = wait(client, job.id)
    files = {}
    for row in list_artifacts.sync(job.id, client=client).data:
        digest = hashlib.sha256(fetch(client, job.id, row.name)).hexdigest()
        files[row.name] = digest == row.sha256
    found = get_job.sync(job.id, client=client)
    wrong = submit_job.sync(client=client, body=JobSpecification.from_dict(
        {**SPECIFICATION, "base": "nowhere"}))
    print(json.dumps({"same": job.id == again.id, "state": state, "files": files,
                      "error": found.result.error.relative, "tasks": len(found.specification.tasks),
                      "problem": wrong.type_ if isinstance(wrong, Problem) else None}))


main()
