# SPDX-License-Identifier: Apache-2.0
"""Health, version, routes and methods."""

import pathlib
import re
import subprocess

import environments

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_health(wire):
    for path in ("/livez", "/readyz"):
        answer = wire.get(path)
        expected = {"status": "ok"} | ({"warnings": []} if path == "/readyz" else {})
        assert (answer.status, answer.json()) == (200, expected)


def test_version_gives_limits(wire):
    version = wire.get("/v1/version").json()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version["version"])
    assert version["api"] == "v1"
    assert version["limits"]["body_bytes"] == 65536
    assert version["blas"]["flavour"]


def test_contract_is_served(wire):
    answer = wire.get("/v1/openapi.yaml")
    assert answer.headers["Content-Type"] == "application/yaml"
    assert answer.body.decode() == (ROOT / "proto/openapi.yaml").read_text(encoding="utf-8")


def test_unknown_paths(wire):
    for path in ("/", "/v1", "/v1/job", "/v1/jobs/x/y", "/v1/jobs/x/cancel/y", "/v2/jobs"):
        assert wire.get(path).problem() == "not-found", path


def test_other_methods_are_refused_with_allow(wire):
    for method, path, allowed in (("PUT", "/v1/jobs", "GET, HEAD, POST"),
                                  ("POST", "/livez", "GET, HEAD"),
                                  ("PUT", "/v1/models/rescan", "POST, DELETE, GET, HEAD"),
                                  ("PUT", "/v1/models/uploads", "GET, HEAD, POST"),
                                  ("PATCH", "/v1/jobs/x", "GET, HEAD, DELETE"),
                                  ("OPTIONS", "/v1/jobs", "GET, HEAD, POST"),
                                  ("PUT", "/v1/models/base", "DELETE, GET, HEAD")):
        answer = wire.request(method, path)
        assert answer.problem() == "method-not-allowed", (method, path)
        assert answer.headers["Allow"] == allowed


def test_head_has_the_headers_of_get(wire, finished):
    for path in ("/livez", "/v1/jobs", f"/v1/jobs/{finished}/artifacts/shared.safetensors"):
        get, head = wire.get(path), wire.request("HEAD", path)
        assert head.status == 200 and head.body == b""
        for name in ("Content-Type", "Content-Length", "ETag"):
            assert head.headers[name] == get.headers[name]


def test_unknown_query_parameters_are_refused(wire):
    for path in ("/livez?x=1", "/v1/jobs?colour=red", "/v1/models?state=ready"):
        answer = wire.get(path)
        assert answer.problem() == "invalid-parameter"
        assert answer.json()["parameter"] in path


def test_a_body_where_none_is_taken_is_refused(wire):
    answer = wire.post("/v1/models/rescan", {})
    assert (answer.status, answer.problem()) == (400, "malformed-request")


def test_replies_are_not_sniffed_or_cached(wire):
    headers = wire.get("/v1/jobs").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_json_is_asked_for_again_by_its_etag(wire, finished):
    for path in ("/v1/jobs", f"/v1/jobs/{finished}", "/v1/models", "/v1/version"):
        first = wire.get(path)
        etag = first.headers["ETag"]
        again = wire.get(path, If_None_Match=etag)
        assert (first.status, again.status, again.body) == (200, 304, b""), path
        assert again.headers["ETag"] == etag
        other = wire.get(path, If_None_Match='"another"')
        assert (other.status, other.body) == (200, first.body), path


def test_refusals_and_changes_have_no_etag(wire, finished):
    assert "ETag" not in wire.get("/v1/jobs/" + "0" * 26).headers
    assert "ETag" not in wire.post(f"/v1/jobs/{finished}/cancel").headers


def test_a_scorer_that_cannot_run_ends_the_start(didid, family, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "plain").write_text("echo 1")
    for command, said in (("/no/such/program", "there is no program /no/such/program"),
                          (str(tmp_path / "plain"), "is not executable"),
                          ("sh -c 'echo 1'", "quote")):
        ended = subprocess.run([didid, "--state-dir", tmp_path / "state", "--models", family,
                                "--listen", "127.0.0.1:0", "--scorer", command],
                               capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert said in ended.stderr and "cannot start" in ended.stderr


def test_a_scorer_that_is_there_is_taken(start_daemon, family):
    confine = "1" if environments.confines_scorers() else "0"
    daemon = start_daemon(family, "--scorer", "sh anything", "--scorer-confine", confine)
    assert daemon.process.poll() is None
