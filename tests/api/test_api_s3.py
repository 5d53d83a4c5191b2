# SPDX-License-Identifier: Apache-2.0
"""Artifacts at S3: stored, served, brought back, deleted, with a server that misbehaves."""

import hashlib
import http.server
import json
import os
import threading
import time
import urllib.error
import urllib.request

import numpy
import pytest

from s3 import Object
from wire import Wire, specification

STORE = "s3://artifacts/didid/results"
PREFIX = "didid/results/"


@pytest.fixture
def start(s3, start_daemon, family, tmp_path):
    """start(**settings) -> (wire, daemon, the state directory)."""
    def begin(environment=None, **settings):
        state = tmp_path / "state"
        options = {"artifact_store": STORE, "s3_endpoint": s3.url, "s3_private": 1,
                   "s3_keep_local": 0, "s3_retry_seconds": 20, **settings}
        arguments = [word for key, value in options.items()
                     for word in (f"--{key.replace('_', '-')}", str(value))]
        daemon = start_daemon(family, *arguments, state=state,
                              environment=s3.environment() if environment is None else environment)
        return Wire(daemon.url), daemon, state
    return begin


def merge(wire, state="succeeded"):
    return wire.wait(wire.submit(specification(name="stored"))["id"], state)


def rows(wire, job):
    return wire.get(f"/v1/jobs/{job}/artifacts").json()["data"]


def digest(data):
    return hashlib.sha256(data).hexdigest()


def check_all(wire, job):
    """Every artifact comes back as it was published."""
    found = rows(wire, job)
    for row in found:
        answer = wire.get(row["href"])
        assert answer.status == 200, answer.body
        assert (len(answer.body), digest(answer.body)) == (row["bytes"], row["sha256"])
        assert answer.headers["ETag"] == row["etag"]
    return found


def local(state, job):
    artifacts = state / "jobs" / job / "artifacts"
    return sorted(str(path.relative_to(artifacts)) for path in artifacts.rglob("*")
                  if path.is_file())


def test_artifacts_are_stored_served_and_deleted(s3, start):
    wire, _, state = start()
    job = merge(wire)["id"]
    objects = s3.buckets["artifacts"]
    puts = [key for method, key, *_ in s3.requests if method == "PUT"]
    assert puts[-1] == f"{PREFIX}{job}/manifest.json", "the manifest is not last"
    found = check_all(wire, job)
    assert sorted(objects) == sorted(f"{PREFIX}{job}/{row['name']}" for row in found)
    assert all(objects[f"{PREFIX}{job}/{row['name']}"].sha256 == row["sha256"] for row in found)
    assert local(state, job) == ["manifest.json"]
    assert wire.get(f"/v1/jobs/{job}").json()["result"] is not None
    assert wire.request("DELETE", f"/v1/jobs/{job}").status == 204
    until(lambda: not objects)


def until(done, seconds=60):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ranges_and_conditions(start, s3):
    wire, _, _ = start()
    job = merge(wire)["id"]
    row = next(row for row in rows(wire, job) if row["name"] == "shared.safetensors")
    whole = wire.get(row["href"]).body
    for asked, first, last in (("bytes=10-19", 10, 19),
                               ("bytes=-7", len(whole) - 7, len(whole) - 1),
                               ("bytes=100-", 100, len(whole) - 1)):
        answer = wire.get(row["href"], Range=asked)
        assert answer.status == 206
        assert answer.body == whole[first:last + 1]
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
    before = len(s3.requests)
    assert wire.get(row["href"], If_None_Match=row["etag"]).status == 304
    assert wire.get(row["href"], Range=f"bytes={len(whole)}-").status == 416
    assert wire.get(row["href"], If_Match='"other"').status == 412
    assert len(s3.requests) == before, "S3 was asked for what the record knows"


def test_redirects_to_a_signed_url(start, s3):
    wire, _, _ = start(s3_redirect=1, s3_redirect_seconds=60, s3_keep_local=1)
    job = merge(wire)["id"]
    for row in rows(wire, job):
        answer = wire.get(row["href"])
        if row["name"] == "manifest.json":
            assert answer.status == 200
            continue
        assert answer.status == 307
        assert answer.headers["Cache-Control"] == "no-store"
        with urllib.request.urlopen(answer.headers["Location"]) as taken:
            assert digest(taken.read()) == row["sha256"]
        assert "X-Amz-Expires=60" in answer.headers["Location"]
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(answer.headers["Location"].replace("us-east-1", "us-east-2"))


def altered(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("redirect", [0, 1])
def test_an_object_altered_behind_us_is_told(start, s3, redirect):
    wire, _, _ = start(s3_redirect=redirect)
    job = merge(wire)["id"]
    key = f"{PREFIX}{job}/shared.safetensors"
    href = f"/v1/jobs/{job}/artifacts/shared.safetensors"
    objects = s3.buckets["artifacts"]
    good = objects[key]
    for other in (Object(altered(good.data), good.sha256), Object(good.data[:-1], good.sha256)):
        objects[key] = other
        answer = wire.get(href)
        assert (answer.status, answer.problem()) == (502, "artifact-changed")
        assert "replaced" in answer.json()["detail"]
    if not redirect:  # bytes that changed under the same ETag
        objects[key] = Object(altered(good.data), good.sha256, good.etag)
        assert wire.get(href).problem() == "artifact-changed"
    del objects[key]
    answer = wire.get(href)
    assert (answer.problem(), "gone from S3" in answer.json()["detail"]) == ("artifact-changed",
                                                                           True)
    objects[key] = good
    assert wire.get(href).status in (200, 307)


def test_large_files_go_in_parts(start, s3, tmp_path):
    wire, _, _ = start(s3_part_bytes=5 << 20, models=str(large_models(tmp_path)))
    job = wire.wait(wire.submit(large())["id"], "succeeded")["id"]
    parts = [query for method, _, query, _ in s3.requests if "partNumber" in query]
    assert len(parts) >= 2
    assert s3.uploads == {}
    check_all(wire, job)


def large_models(folder):
    """A base and two tasks whose package has a file of more than one part."""
    random = numpy.random.default_rng(1)
    models = folder / "large"
    base = random.standard_normal((1100, 1200), dtype=numpy.float32)
    for name in ("wide-base", "wide-a", "wide-b"):
        size = numpy.float32(0 if name == "wide-base" else 0.01)
        write_model(models / name,
                    base + size * random.standard_normal(base.shape, dtype=numpy.float32))
    return models


def write_model(folder, matrix):
    folder.mkdir(parents=True)
    data = matrix.astype("float32").tobytes()
    header = json.dumps({"layer.weight": {"dtype": "F32", "shape": list(matrix.shape),
                                          "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)


def large():
    return {"base": "wide-base", "method": "average", "output": {"dtype": "f32"},
            "tasks": [{"name": "a", "model": "wide-a"}, {"name": "b", "model": "wide-b"}]}


@pytest.mark.parametrize("fault", ["reset", "truncate", "delay",
                                   (503, "SlowDown", "Please reduce your request rate."),
                                   (500, "InternalError", "We encountered an internal error."),
                                   (429, "Throttling", "Rate exceeded"),
                                   (503, "ServiceUnavailable", "again")])
def test_faults_that_pass_are_outlived(start, s3, fault):
    seen = {}

    def each_first(method, key, query):
        seen[method, key] = seen.get((method, key), 0) + 1
        return fault if seen[method, key] == 1 else None

    s3.fault = each_first
    wire, _, _ = start()
    job = merge(wire)["id"]
    s3.fault = lambda method, key, query: fault if len(s3.requests) % 3 == 0 else None
    check_all(wire, job)


def test_retry_after_is_obeyed(start, s3):
    times = []

    def once(method, key, query):
        if method == "PUT":
            times.append(time.monotonic())
        return (503, "SlowDown", "later", {"Retry_After": "2"}) if len(times) == 1 else None

    s3.fault = once
    wire, _, _ = start()
    merge(wire)
    assert times[1] - times[0] >= 2


def test_wrong_bytes_never_go_out(start, s3):
    wire, _, _ = start()
    job = merge(wire)["id"]
    turns = iter(range(10**6))
    s3.fault = lambda method, key, query: "wrong" if next(turns) % 2 == 0 else None
    check_all(wire, job)
    s3.fault = lambda method, key, query: "wrong"
    assert wire.get(f"/v1/jobs/{job}/artifacts/shared.safetensors").problem() == "artifact-changed"


FAILURES = {
    "a bucket that is not there": ({"artifact_store": "s3://elsewhere/x"}, None,
                                   "NoSuchBucket: The specified bucket does not exist"),
    "access denied": ({}, (403, "AccessDenied", "Access Denied"), "AccessDenied: Access Denied"),
    "a full quota": ({}, (403, "QuotaExceeded", "Bucket quota exceeded"), "Bucket quota exceeded"),
    "another region": ({"s3_region": "eu-west-3"}, None, "s3_region is wrong"),
    "an upload that never passes": ({"s3_retry_seconds": 1},
                                    (503, "SlowDown", "Please reduce your request rate."),
                                    "SlowDown: Please reduce your request rate."),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_job_fails_with_the_words_of_the_server(start, s3, case):
    settings, fault, words = FAILURES[case]
    s3.fault = lambda method, key, query: fault if method == "PUT" else None
    wire, daemon, _ = start(**settings)
    job = merge(wire, "failed")
    assert words in job["error"]["detail"], job["error"]
    kind = "disk-full" if case == "a full quota" else \
        "storage-failed"
    assert job["error"]["type"].endswith(kind), job["error"]
    if settings:
        return
    s3.fault = lambda method, key, query: None
    merged = daemon.log().count("job started")
    assert wire.post(f"/v1/jobs/{job['id']}/retry").status == 200
    wire.wait(job["id"], "succeeded")
    check_all(wire, job["id"])
    assert merged == 1


def test_clocks_apart_are_told(start, s3):
    s3.skew = 3600
    wire, _, _ = start()
    message = merge(wire, "failed")["error"]["detail"]
    assert "RequestTimeTooSkewed" in message
    assert "the clock of this machine is 3" in message and "s behind the server's" in message


def test_credentials_that_end_are_read_anew(start, s3, tmp_path):
    s3.keys = {"AKOLD": ("old", "expired"), "AKNEW": ("new", "session+token/==")}
    file = tmp_path / "keys"

    def write(name):
        secret, token = s3.keys[name]
        file.write_text(f"[other]\naws_access_key_id = no\n[default]\naws_access_key_id = {name}\n"
                        f"aws_secret_access_key={secret}\naws_session_token={token}\n")
        file.chmod(0o600)

    write("AKOLD")
    wire, _, _ = start(environment={}, s3_credentials_file=file)
    job = merge(wire, "failed")
    assert "ExpiredToken: The provided token has expired." in job["error"]["detail"]
    assert "renew them" in job["error"]["detail"]
    write("AKNEW")
    assert wire.post(f"/v1/jobs/{job['id']}/retry").status == 200
    wire.wait(job["id"], "succeeded")
    check_all(wire, job["id"])


def test_no_credentials_and_no_private_address(start):
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    wire, daemon, _ = start(environment=none)
    assert "no credentials for S3" in merge(wire, "failed")["error"]["detail"]
    daemon.stop()
    with pytest.raises(RuntimeError, match="s3_private = 1 allows it"):
        start(s3_private=0)


def test_credentials_of_the_instance(start, s3):
    s3.keys = {"AKROLE": ("of-role", "role-token")}
    with Instance(s3.keys) as instance:
        wire, _, _ = start(environment={"AWS_ACCESS_KEY_ID": "",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT": instance.url},
                           s3_metadata=1)
        check_all(wire, merge(wire)["id"])
        assert instance.asked[0][0] == "PUT"
        assert all(token == "t0k3n" for method, _, token in instance.asked if method == "GET")


class Instance:
    """A metadata service, version 2."""

    def __init__(self, keys):
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            log_message = staticmethod(lambda *_: None)

            def do_PUT(self):
                self.reply(b"t0k3n")

            def do_GET(self):
                name, (secret, token) = next(iter(keys.items()))
                listed = self.path.endswith("/")
                self.reply(b"my-role" if listed else json.dumps(
                    {"Code": "Success", "AccessKeyId": name, "SecretAccessKey": secret,
                     "Token": token, "Expiration": "2099-01-01T00:00:00Z"}).encode())

            def reply(self, body):
                outer.asked.append((self.command, self.path,
                                    self.headers.get("X-aws-ec2-metadata-token")))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_exports_bring_files_back(start, s3):
    wire, daemon, state = start()
    job = merge(wire)["id"]
    assert local(state, job) == ["manifest.json"]
    answer = wire.post(f"/v1/jobs/{job}/exports", {"tasks": ["latin"], "format": "full"})
    assert answer.status == 202, answer.body
    until(lambda: wire.get(f"/v1/jobs/{job}/exports").json()["data"][0]["state"] == "succeeded")
    assert local(state, job) == sorted(row["name"] for row in rows(wire, job)
                                       if not row["name"].startswith("models/"))
    daemon.stop()
    daemon.start()
    daemon.wait_logged("the state directory was looked through", 2)
    assert local(state, job) == ["manifest.json"], "what was brought back stays"
    check_all(Wire(daemon.url), job)


def test_objects_are_deleted_later_where_s3_is_away(start, s3):
    wire, daemon, state = start()
    job = merge(wire)["id"]
    s3.fault = lambda method, key, query: \
        (403, "AccessDenied", "no") if method == "DELETE" else None
    assert wire.request("DELETE", f"/v1/jobs/{job}").status == 204
    daemon.wait_logged("cannot delete artifacts at S3; will try again")
    assert wire.get(f"/v1/jobs/{job}").status == 404
    daemon.process.kill()
    daemon.process.wait()
    assert s3.buckets["artifacts"]
    s3.fault = lambda method, key, query: None
    daemon.start()
    until(lambda: not s3.buckets["artifacts"])
    until(lambda: os.listdir(state / "trash") == [])


def test_a_cancel_while_files_are_stored_leaves_nothing(start, s3):
    s3.fault = lambda method, key, query: (503, "SlowDown", "later") if method == "PUT" else None
    wire, daemon, state = start(s3_retry_seconds=600)
    job = wire.submit(specification(name="stored"))["id"]
    until(lambda: s3.count("PUT") > 1)
    assert wire.post(f"/v1/jobs/{job}/cancel").status == 200
    wire.wait(job, "cancelled")
    assert s3.buckets["artifacts"] == {}
    assert not (state / "jobs" / job / "artifacts").exists()


def test_a_stopped_daemon_goes_on_storing(start, s3):
    s3.fault = lambda method, key, query: \
        (503, "SlowDown", "later") if key.endswith("manifest.json") and method == "PUT" else None
    wire, daemon, _ = start(s3_retry_seconds=600)
    job = wire.submit(specification(name="stored"))["id"]
    until(lambda: s3.count("PUT", "manifest.json") > 1)
    assert daemon.stop() == 0
    s3.fault = lambda method, key, query: None
    before = s3.count("PUT")
    daemon.start()
    Wire(daemon.url).wait(job, "succeeded")
    assert s3.count("PUT") == before + 1, "what was stored is stored again"
    check_all(Wire(daemon.url), job)


def put_model(s3, prefix, folder):
    """The files of a model, as somebody else put them there."""
    for path in folder.iterdir():
        data = path.read_bytes()
        s3.buckets["artifacts"][f"{prefix}/{path.name}"] = Object(data)


def fetched(wire, name, source):
    answer = wire.post("/v1/models", {"name": name, "source": source})
    assert answer.status == 202, answer.body
    fetch = answer.json()["id"]
    until(lambda: wire.get(f"/v1/fetches/{fetch}").json()["state"] in ("succeeded", "failed"))
    return wire.get(f"/v1/fetches/{fetch}").json()


def test_models_are_fetched_from_s3(start, s3, family, tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    wire, _, _ = start(fetch_dir=folder, models=folder)
    put_model(s3, "models/of+us/base", family / "base")
    turns = iter(range(10**6))
    faults = ["reset", None, "truncate", None, None]
    s3.fault = lambda method, key, query: faults[next(turns) % len(faults)]
    end = fetched(wire, "org/mine", "s3://artifacts/models/of+us/base")
    assert end["state"] == "succeeded", end
    for path in (family / "base").glob("*.safetensors"):
        assert (folder / "org" / "mine" / path.name).read_bytes() == path.read_bytes()
    assert wire.get("/v1/models/org/mine").json()["state"] == "ready"
    again = fetched(wire, "org/mine", "s3://artifacts/models/of+us/base")
    assert (again["state"], "already" in again["error"]["detail"]) == ("failed", True)


def test_what_is_wrong_with_a_model_at_s3_is_told(start, s3, family, tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    wire, _, _ = start(fetch_dir=folder, models=folder)
    put_model(s3, "good", family / "base")
    weights = s3.buckets["artifacts"]["good/model.safetensors"]
    weights.sha256 = digest(b"another")
    for source, words in (("s3://artifacts/good", "should be"),
                          ("s3://artifacts/none", "there is no file of a model"),
                          ("s3://elsewhere/good", "NoSuchBucket")):
        end = fetched(wire, "wrong", source)
        assert end["state"] == "failed" and words in end["error"]["detail"], end
    assert not (folder / "wrong").exists()
    for source in ("s3://artifacts", "s3://A/b", "s3://artifacts/"):
        answer = wire.post("/v1/models", {"name": "wrong", "source": source})
        assert answer.problem() == "invalid-request"
