# SPDX-License-Identifier: Apache-2.0
"""Common mistakes: each is answered by what is wrong, where, and what to do next."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from fake import JOB, Answer, job, page, problem
from service import Daemon

TASKS = ("--task", "latin=tasks/latin", "--task", "mnist=tasks/mnist")
MERGE = ("--base", "base", *TASKS)


@pytest.fixture
def real(call, start_daemon, family):
    """real(*words, ...) -> stderr of didictl with a daemon that has the demo family."""
    host = start_daemon(family).url
    return lambda *words, status=1, **more: call(*words, status=status, DIDI_HOST=host,
                                                 **more).stderr


def told(said, wrong, what_next):
    """One line says what is wrong and where, the next one what to do."""
    lines = said.splitlines()
    assert len(lines) == 2, said
    assert re.fullmatch(f"didictl: .*{wrong}.*", lines[0]), said
    assert re.fullmatch(f"next: .*{what_next}.*", lines[1]), said


def problem_of(status, name, detail, **more):
    return problem(status, "T", detail, **more, type=f"urn:didid:problem:{name}")


@pytest.mark.parametrize("words, wrong", [
    (["--base", "bsae", *TASKS], r'no model "bsae" \(at /base\); did you mean \'base\'\?'),
    (["--base", "base", "--task", "x=latin", "--task", "m=tasks/mnist"],
     r"\(at /tasks/0/model\); did you mean 'tasks/latin'\?"),
    (["--base", "base", *TASKS, "--task", "x=tasks/mnits"],
     r"\(at /tasks/2/model\); did you mean 'tasks/mnist'\?"),
    (["--base", "base", *TASKS, "--task", "x=wholly/other"],
     r'"wholly/other" \(at /tasks/2/model\)'),
])
def test_a_wrong_model_name(real, words, wrong):
    told(real("submit", *words, "--budget", "1.24"), wrong, "didictl model ls")
    told(real("plan", *words, "--budget", "1.24"), wrong, "didictl model ls")


def test_a_model_to_show_that_is_not_there(real):
    told(real("model", "show", "tasks/lattin"), "did you mean 'tasks/latin'", "didictl model ls")


@pytest.mark.parametrize("budget", ["120%", "120 %", "a lot", "-1"])
def test_a_budget_as_percent(real, budget):
    told(real("submit", *MERGE, "--budget", budget), r"\(at /budget\)", r"1\.2 is 120 %.*bytes=N")


def test_a_budget_that_is_too_small(real):
    told(real("submit", *MERGE, "--budget", "0.0001"), r"\(at /budget\)", "didictl plan .*--budget")


@pytest.mark.parametrize("task, wrong", [
    ("latin=tasks/orient", r'task "latin" is there twice \(at /tasks/2/name\)'),
    ("again=tasks/latin", r'"tasks/latin" of task "again" is task "latin" already '
                          r"\(at /tasks/2/model\)"),
    ("base=base", r'task "base" is the base "base" itself \(at /tasks/2/model\)'),
])
def test_a_task_twice_or_the_base_as_one(real, task, wrong):
    told(real("submit", *MERGE, "--task", task, "--budget", "1.24"), wrong,
         "--task NAME=MODEL; didictl model ls")


def test_no_server(call):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        told(call("jobs", status=5, DIDI_HOST=f"http://127.0.0.1:{port}").stderr,
             f"http://127.0.0.1:{port}: .*connect", "start the server there.*--host URL")
    told(call("--host", "unix:/nonexistent/socket", "jobs", status=5).stderr,
         "unix:/nonexistent/socket: no server listens there", "--host unix:/PATH")
    told(call("--host", "http://didid.invalid", "jobs", status=5).stderr,
         "didid.invalid: .*resolve", "check the name in --host")


@pytest.fixture
def other():
    """A folder that others reach, unlike those below tmp_path, and how to be one of them."""
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        # a build that counts its lines would say that it cannot among those of root
        yield folder, user, {"GCOV_PREFIX": folder}


def test_a_socket_this_user_may_not_use(didictl, environment, other):
    folder, user, counts = other
    path = f"{folder}/didictl.sock"
    program = shutil.copy(didictl, folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o600 if user else 0)
        done = subprocess.run([program, "--host", f"unix:{path}", "jobs"], check=False,
                              env={**environment, **counts, "HOME": "/"}, capture_output=True,
                              text=True, **user)
    assert done.returncode == 5
    told(done.stderr, f"unix:{path}: permission denied", "group that the socket belongs to")


@pytest.fixture
def guarded(didid, family, tmp_path):
    """A daemon that wants tokens, and make(scope, *options) -> a file with one."""
    state = tmp_path / "guarded"
    state.mkdir()

    def make(scope, *options):
        done = subprocess.run([didid, "token", "create", "--state-dir", state, "--name",
                               f"n{len(list(tmp_path.iterdir()))}", "--scope", scope, *options],
                              check=True, capture_output=True, text=True)
        path = tmp_path / f"token-{scope}{len(options)}"
        path.write_text(re.search(r"didi_\S+|^\S+$", done.stdout, re.M)[0] + "\n")
        path.chmod(0o600)
        return str(path)

    make("read")
    with Daemon(didid, state, family) as daemon:
        yield daemon, make


def test_tokens(call, guarded, tmp_path):
    daemon, make = guarded
    host = {"DIDI_HOST": daemon.url}
    told(call("jobs", status=4, **host).stderr, "needs a valid token",
         f"didictl login {daemon.url} with a token, or --token-file FILE.*didid token create")
    gone = tmp_path / "gone"
    gone.write_text("didi_" + "a" * 43 + "\n")
    gone.chmod(0o600)
    told(call("jobs", "--token-file", str(gone), status=4, **host).stderr, "needs a valid token",
         f"expired, was revoked, or is another server's: didictl login {daemon.url}")
    told(call("submit", *MERGE, "--budget", "1.24", "--token-file", make("read"), status=4,
              **host).stderr, "token does not allow this", "wider scope.*token create NAME --scope")
    told(call("jobs", "--token-file", str(tmp_path / "none"), status=2, **host).stderr,
         "none: .*No such file", "write the token into it")
    gone.chmod(0o644)
    told(call("jobs", "--token-file", str(gone), status=2, **host).stderr,
         "others can use the file", f"chmod 600 {gone}")
    gone.chmod(0o600)
    told(call("jobs", "--token-file", str(gone), status=2, DIDI_HOST="http://h.invalid").stderr,
         "not sent over http to another machine", "https://")


def test_the_servers_disk_is_full(call, fake):
    fake.on("POST", "/v1/jobs", problem_of(507, "disk-full", "no room for the job"))
    told(call("submit", *MERGE, "--budget", "1", status=1).stderr, "no room for the job",
         "didictl status.*didictl rm ID")
    failed = job(state="failed", error={"type": "urn:didid:problem:disk-full", "title": "Full",
                                        "detail": "no room", "subject": ""})
    fake.on("GET", f"/v1/jobs/{JOB}", failed)
    fake.on("GET", f"/v1/jobs/{JOB}/events", page([]))
    said = call("wait", JOB, status=3).stderr
    told(said, f"job {JOB} failed: Full: no room", "didictl status.*didictl rm ID")


def test_a_job_that_failed(call, fake):
    fake.on("GET", f"/v1/jobs/{JOB}", job(state="failed"))
    fake.on("GET", f"/v1/jobs/{JOB}/events", page([]))
    told(call("wait", JOB, status=3).stderr, f"job {JOB} failed",
         f"didictl events {JOB} .*didictl retry {JOB}")


def test_jobs_in_the_wrong_state(real, call, start_daemon, family, tmp_path):
    slow = ("--set", "ranks.allocator=differentiable", "--set", "ranks.steps=100000")
    host = {"DIDI_HOST": start_daemon(family).url}
    name = call("submit", *MERGE, "--budget", "1.24", *slow, **host).stdout.strip()
    told(call("pull", name, str(tmp_path / "out"), status=1, **host).stderr, "no result yet",
         f"didictl wait {name} ")
    told(call("rm", name, status=1, **host).stderr, "forbids it", f"didictl show {name}")
    call("cancel", name, **host)
    call("wait", name, status=3, **host)
    told(call("cancel", name, status=1, **host).stderr, "already", f"didictl show {name} tells")
    call("retry", name, **host)
    told(call("retry", name, status=1, **host).stderr, "only a failed or cancelled job",
         f"didictl show {name} tells")
    call("cancel", name, **host)


def test_wrong_ids(call, fake):
    others = [job(), job("01h000000000000000000zzzzz", name="nightly")]
    fake.on("GET", "/v1/jobs", page(others))
    for method in ("GET", "POST"):
        fake.on(method, "/v1/jobs/[0-9a-z]+(/cancel)?", problem_of(404, "unknown-job", "no job"))
    near = JOB[:-1] + "b"
    told(call("show", near, status=1).stderr, f"{near}: no job has such an id; did you mean {JOB}",
         "didictl jobs --all")
    told(call("cancel", near, status=1).stderr, f"did you mean {JOB}", "didictl jobs --all")
    told(call("show", "nightly", status=1).stderr,
         f"did you mean {others[1]['id']}, which has this name", "didictl jobs --all")
    told(call("show", "01h", status=1).stderr, "more than one job begins like this", "more charact")
    told(call("show", "a/b", status=2).stderr, "a/b: this is not the id of a job",
         "didictl show --help")


@pytest.mark.parametrize("words, wrong, what_next", [
    (["sumbit"], "no command 'sumbit'; did you mean 'submit'", "didictl --help"),
    (["model", "lst"], "did you mean 'model ls'", "didictl --help"),
    (["modle", "ls"], "no command 'modle'; did you mean 'model'", "didictl --help"),
    (["model"], "model: a word must follow: ls, show", "didictl model WORD --help"),
    (["jobs", "--lable", "a=b"], "unknown option --lable; did you mean --label", "jobs --help"),
    (["submit", "--bugdet=1"], "unknown option --bugdet=1; did you mean --budget", "submit --help"),
    (["submit", "--budget"], "--budget needs a value: X", "didictl submit --help"),
    (["pull", JOB], "too few words: didictl pull JOB DIR", "didictl pull --help"),
    (["submit"], "no budget: give a specification file, or --base", "didictl submit --help"),
    (["jobs", "-o", "yml"], "--output: 'yml' is not table, json", "didictl jobs --help"),
    (["--host", "ftp://x", "jobs"], "--host: 'ftp://x' is not http", "didictl jobs --help"),
])
def test_the_command_line(call, fake, words, wrong, what_next):
    told(call(*words, status=2).stderr, wrong, what_next)
    assert fake.seen == []


@pytest.mark.parametrize("words, wrong, what_next", [
    (["--method", "ddi"], r"no method 'ddi'; did you mean 'didi'\?.* \(at /method\)",
     "didictl methods"),
    (["--method", "task_arithmetic", "--set", "method_options.scal=1"],
     "has no option 'scal'.*method_options/scal", "didictl methods"),
    (["--budget", "1.24", "--set", "ranks.alocator=exact"],
     r'unknown field "alocator"; did you mean "allocator"\? \(at /ranks/alocator\)', "man didictl"),
    (["--budget", "1.24", "--set", "ranks.allocator=best"], r"\(at /ranks/allocator\)", "didictl"),
    (["--budget", "1.24", "--dtype", "int5"], r"f32, bf16.* \(at /output/dtype\)", "didictl"),
])
def test_unknown_methods_options_and_fields(real, words, wrong, what_next):
    told(real("submit", *MERGE, *words), wrong, what_next)


def test_lists_by_a_state_there_is_not(real):
    told(real("jobs", "--state", "runing"), "state must be queued, running", "COMMAND --help")


def test_files(call, fake, tmp_path):
    none = str(tmp_path / "none.json")
    told(call("submit", none, status=1).stderr, f"{none}: No such file", f"ls -l {none}")
    broken = tmp_path / "merge.json"
    broken.write_text('{"base": "b",\n "tasks": [}\n')
    told(call("submit", str(broken), status=1).stderr, r"merge\.json: not JSON: line 2, column \d+",
         f"mend .*didictl plan {broken}")
    broken = tmp_path / "merge.yaml"
    broken.write_text("base: b\ntasks: [\nbudget: 1\n")
    told(call("submit", str(broken), status=1).stderr, r"merge\.yaml: not YAML: line \d, column \d",
         f"mend .*didictl plan {broken}")
    assert fake.seen == []


def test_contexts(call, tmp_path):
    config = tmp_path / "config"
    config.write_text("[work]\nhost = http://127.0.0.1:1\n")
    told(call("--context", "wrok", "jobs", status=2, DIDI_CONFIG=str(config)).stderr,
         "wrok: there is no context of this name; did you mean work",
         "didictl context ls.*didictl login URL --name wrok")


@pytest.fixture
def encrypted(didid, family, tmp_path):
    """A daemon with a certificate that nobody signed."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "key.pem", "-out",
                    tmp_path / "certificate.pem", "-days", "1", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    (tmp_path / "key.pem").chmod(0o600)
    state = tmp_path / "encrypted"
    state.mkdir()
    daemon = Daemon(didid, state, family, "--tls-certificate", str(tmp_path / "certificate.pem"),
                    "--tls-key", str(tmp_path / "key.pem"),
                    listen=("http://127.0.0.1:{port}", "127.0.0.1:0"))
    with daemon:
        daemon.wait_logged("message=\"ready\"")
        ports = set(re.findall(r"127\.0\.0\.1:(\d+)", daemon.log()))
        ports -= {daemon.url.rsplit(":", 1)[1], "0"}
        assert len(ports) == 1, daemon.log()
        yield daemon.url, ports.pop(), tmp_path / "certificate.pem"


def test_certificates_and_ports(call, encrypted):
    plain, port, certificate = encrypted
    told(call("--host", f"https://127.0.0.1:{port}", "jobs", status=5).stderr,
         f"https://127.0.0.1:{port}: .*certificate", r"--ca-file FILE \(or DIDI_CA_FILE\)")
    call("--host", f"https://127.0.0.1:{port}", "--ca-file", str(certificate), "jobs")
    told(call("--host", f"http://127.0.0.1:{port}", "jobs", status=1).stderr,
         "this port speaks HTTPS, and was sent HTTP", "--host https://HOST:PORT")
    told(call("--host", plain.replace("http:", "https:"), "jobs", status=5).stderr,
         f"{plain[7:]}: .*", "plain http there: --host http://HOST:PORT")


def test_too_many_requests(call, fake):
    fake.on("GET", "/v1/jobs", Answer(
        {"type": "urn:didid:problem:too-many-requests", "title": "Too much", "status": 429,
         "detail": "100 requests"}, 429, "application/problem+json", {"Retry-After": "90"}))
    told(call("jobs", status=1).stderr, "100 requests; it asks to come back in 90 s",
         "the same command again in a while; didictl status")


def test_a_broken_model(call, start_daemon, family, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(family, models)
    (models / "tasks" / "latin" / "model.safetensors").write_bytes(b"\x00" * 20)
    host = {"DIDI_HOST": start_daemon(models).url}
    told(call("submit", *MERGE, "--budget", "1.24", status=1, **host).stderr,
         "file is malformed.*tasks/latin", "didictl model ls --state broken.*didictl model rescan")


def test_tasks_there_are_not(call, start_daemon, family, tmp_path):
    host = {"DIDI_HOST": start_daemon(family).url}
    name = call("submit", *MERGE, "--budget", "1.24", "--wait", "-q", **host).stdout.strip()
    out = str(tmp_path / "out")
    told(call("pull", name, out, "--task", "latn", status=1, **host).stderr,
         "--task: the job has no task 'latn'; did you mean 'latin'", f"didictl show {name}")
    told(call("pull", name, out, "--task", "latn", "--format", "peft", status=1, **host).stderr,
         '"latn" is not among the tasks', f"didictl show {name}")
    told(call("extend", name, "--remove", "latn", status=1, **host).stderr,
         'no task "latn".*it has latin, mnist', f"didictl show {name}")
    (tmp_path / "file").write_text("x")
    told(call("pull", name, str(tmp_path / "file"), status=1, **host).stderr,
         "file: this directory cannot be made or opened", "name a directory")


# ---- of the server itself


@pytest.fixture
def refused(didid):
    """refused(*words, ...) -> the one line of stderr by which didid ends."""

    def run(*words, program=didid, **more):
        done = subprocess.run([program, *words], check=False, capture_output=True, text=True,
                              timeout=60, **more)
        assert done.returncode != 0
        return done.stderr.strip().splitlines()[-1]

    return run


def test_where_didid_may_not_write(refused, didid, tmp_path, other):
    folder, user, counts = other
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    said = refused("--state-dir", str(closed / "state"), "--models", "/usr", "--listen",
                   "127.0.0.1:0", program=shutil.copy(didid, folder),
                   env={**os.environ, **counts}, **user)
    uid = user.get("user", os.geteuid())
    assert f"{closed}/state as user {uid}" in said and "--state-dir names another" in said
    assert "Permission denied" in said


def test_places_that_are_taken(refused, start_daemon, family, tmp_path):
    specification = tmp_path / "merge.json"
    specification.write_text(json.dumps({
        "base": "base", "budget": 1.24,
        "tasks": [{"name": name, "model": f"tasks/{name}"} for name in ("latin", "mnist")]}))
    said = refused("run", str(specification), "--models", str(family), "--out", str(tmp_path))
    assert f"{tmp_path} exists and is not an empty directory; --out must name another" in said
    daemon = start_daemon(family)
    other = tmp_path / "other"
    said = refused("--state-dir", str(other), "--models", str(family), "--listen",
                   daemon.url.removeprefix("http://"))
    assert "the address is in use; --listen names another" in said
    assert "did you mean --state-dir?; see didid --help" in refused("--statedir", str(other))
    (tmp_path / "conf").write_text("worker = 3\n")
    assert "unknown setting 'worker'; did you mean 'workers'?" in refused(
        "--config", str(tmp_path / "conf"))
