# SPDX-License-Identifier: Apache-2.0
"""kill -9 while artifacts are stored at S3: nothing is lost, and nothing stored twice."""

import hashlib
import urllib.request

import pytest

import service_client as client

SPECIFICATION = {"base": "base", "budget": 1.3,
                 "tasks": [{"name": "hiragana", "model": "tasks/hiragana"},
                           {"name": "latin", "model": "tasks/latin"}]}


# The nth pass before an object is stored, or before its end is noted: four files, manifest last.
@pytest.mark.parametrize("point", [f"{name}:{number}:KILL" for name in ("store", "stored")
                                   for number in (1, 2, 4)])
def test_a_killed_upload_goes_on(s3, start_daemon, family, tmp_path, point):
    daemon = start_daemon(family, "--artifact-store", "s3://artifacts", "--s3-endpoint", s3.url,
                          "--s3-private", "1", "--s3-keep-local", "0",
                          environment={**s3.environment(), "DIDI_FAULT": point})
    job = client.call(daemon, "POST", "/v1/jobs", SPECIFICATION)["id"]
    daemon.process.wait(120)
    assert f"{job}/manifest.json" not in s3.buckets["artifacts"] or point == "stored:4:KILL"
    del daemon.environment["DIDI_FAULT"]
    daemon.start()
    assert client.wait_finished(daemon, job)["state"] == "succeeded"
    rows = client.call(daemon, "GET", f"/v1/jobs/{job}/artifacts")["data"]
    assert len(rows) == 4
    for row in rows:
        with urllib.request.urlopen(daemon.url + row["href"]) as taken:
            assert hashlib.sha256(taken.read()).hexdigest() == row["sha256"]
        key = f"{job}/{row['name']}"
        assert sum(1 for method, one, *_ in s3.requests if (method, one) == ("PUT", key)) == 1
    assert set(s3.buckets["artifacts"]) == {f"{job}/{row['name']}" for row in rows}
