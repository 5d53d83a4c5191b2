# SPDX-License-Identifier: Apache-2.0
"""Hooks by didictl, against the real daemon."""

import json
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "docs/hooks"
RELEASE = {"action": "published", "release": {"tag_name": "v1", "prerelease": False}}


@pytest.fixture
def host(start_daemon, family):
    return start_daemon(family).url


def read(call, *arguments):
    return json.loads(call(*arguments, "-o", "json").stdout)


def test_a_hook_from_its_making_to_its_end(call, tmp_path):
    (tmp_path / "secret").write_text("the secret of this test\n")
    (tmp_path / "payload").write_text(json.dumps(RELEASE))
    example = str(EXAMPLES / "github.json")
    call("hook", "add", "gh", example, status=1)
    made = call("hook", "add", "gh", example, "--new-secret")
    assert len(made.stdout.strip()) == 64 and "/v1/hooks/gh" in made.stderr
    kept = call("hook", "add", "gh", example, "--secret-file", str(tmp_path / "secret"))
    assert kept.stdout == ""
    table = call("hook", "ls").stdout
    assert "gh" in table and "github" in table
    shown = call("hook", "show", "gh").stdout
    assert json.loads(shown)["definition"] == json.loads(pathlib.Path(example).read_text())
    assert "the secret" not in shown + table
    tried = read(call, "hook", "try", "gh", str(tmp_path / "payload"),
                 "--header", "X-GitHub-Event=release")
    assert tried["rule"] == "release" and tried["plan"]["tasks"] == 2
    nothing = call("hook", "try", "gh", str(tmp_path / "payload"))
    assert "no rule matches" in nothing.stderr
    assert read(call, "hook", "deliveries", "gh") == []
    call("hook", "poll", "gh")
    call("hook", "rm", "gh")
    assert "no hook" in call("hook", "rm", "gh", status=1).stderr


def test_a_job_that_would_be_refused_is_status_1(call, tmp_path):
    document = json.loads((EXAMPLES / "github.json").read_text())
    document["rules"][0]["submit"]["tasks"][0]["model"] = "tasks/{{/release/tag_name}}"
    (tmp_path / "hook").write_text(json.dumps(document))
    call("hook", "add", "gh", str(tmp_path / "hook"), "--new-secret")
    tried = call("hook", "try", "gh", "-", "--header", "X-GitHub-Event=release", status=1,
                 stdin=json.dumps(RELEASE))
    assert "tasks/v1" in tried.stderr and json.loads(tried.stdout)["plan"] is None


@pytest.mark.parametrize("arguments", [
    ["hook", "add", "a/b", "x"], ["hook", "add", "a"], ["hook", "show", "../x"],
    ["hook", "try", "a", "-", "--header", "x"], ["hook", "deliveries", "a", "--limit", "0"]])
def test_misuse_is_status_2(call, arguments):
    call(*arguments, status=2)
