# SPDX-License-Identifier: Apache-2.0
"""What documents find when their commands are run: programs, models, a daemon, a finished job."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import environments
import walk
from receiver import Receiver
from s3 import Object
from service import Daemon, free_port
from shell import Shell
from walk import ENVIRONMENT

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MERGE_SECONDS = 300
WARM = ["torch", "peft", "transformers.models.clip.modeling_clip"]

# The demo family as transformers knows it: a vision model of CLIP.
CONFIGURATION = {
    "architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model",
    "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 7, "num_channels": 1, "projection_dim": 64,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "torch_dtype": "float32"}


@pytest.fixture(scope="session")
def programs(didid, didictl, tmp_path_factory):
    return walk.programs(tmp_path_factory.mktemp("programs"), didid=didid, didictl=didictl)


@pytest.fixture(scope="session")
def hub_programs(didid, didictl, tmp_path_factory):
    """The same and `python` from the environment of tests/hub; a skip where that cannot be."""
    with environments.hub_python(didid, tmp_path_factory.mktemp("python"), WARM,
                                 {**os.environ, **ENVIRONMENT}) as python:
        yield walk.programs(tmp_path_factory.mktemp("hub"), didid=didid, didictl=didictl,
                            python=python)


def with_format(path):
    """The file with the mark that transformers wants in what it opens."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = {"__metadata__": {"format": "pt"}, **json.loads(data[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def into_cache(cache, name, source):
    """A model of the demo family as a hub's client keeps it: links to blobs, in a snapshot of one
    commit."""
    repository = cache / f"models--lab--{name}"
    snapshot = repository / "snapshots" / hashlib.sha1(name.encode()).hexdigest()
    for made in (repository / "blobs", repository / "refs", snapshot):
        made.mkdir(parents=True)
    (repository / "refs" / "main").write_text(snapshot.name, encoding="utf-8")
    for file, data in (("model.safetensors", with_format(source / "model.safetensors")),
                       ("config.json", json.dumps(CONFIGURATION, indent=2).encode())):
        blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / file).symlink_to(os.path.relpath(blob, snapshot))


@pytest.fixture
def open_shell(tmp_path):
    """open_shell(programs, words, **environment) -> a Shell in the test's directory."""
    opened = []

    def start(folder, words=None, **environment):
        shell = Shell(tmp_path, folder, words or {}, {**ENVIRONMENT, **environment})
        opened.append(shell)
        return shell

    yield start
    for shell in opened:
        shell.close()


@pytest.fixture
def tutorial(hub_programs, open_shell, tmp_path, family):
    """A shell beside a hub's cache with a base and its fine-tunes, and what measures them."""
    cache = tmp_path / "hub"
    into_cache(cache, "glyph-base", family / "base")
    for task in sorted(path.name for path in (family / "tasks").iterdir()):
        into_cache(cache, f"glyph-{task}", family / "tasks" / task)
    for folder in ("heads", "test"):
        (tmp_path / folder).symlink_to(family / folder, target_is_directory=True)
    address = f"127.0.0.1:{free_port()}"
    return open_shell(hub_programs, {"127.0.0.1:7878": address},
                      DIDI_HOST=f"http://{address}")


@pytest.fixture
def alone(programs, open_shell, tmp_path, family):
    """A shell beside the demo family, and no daemon."""
    shutil.copytree(family, tmp_path / "models")
    address = f"127.0.0.1:{free_port()}"
    return open_shell(programs, {"127.0.0.1:7878": address, "/srv/models": "models"},
                      DIDI_HOST=f"http://{address}")


@pytest.fixture
def scored(alone):
    """The same; /srv/didid is this repository."""
    if not environments.confines_scorers():
        pytest.skip("this kernel has no Landlock to confine scorers with")
    alone.words = {"/srv/didid": str(ROOT), **alone.words}
    return alone


@pytest.fixture
def stored(alone, s3, family, tmp_path):
    """The same beside a server of S3 that has the keys of the page, and a bucket with a model."""
    s3.keys = {"AKIAIOSFODNN7EXAMPLE": ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)}
    s3.buckets["lab"] = {f"models/latin/{path.name}": Object(path.read_bytes())
                         for path in (family / "tasks" / "latin").iterdir()}
    for folder in ("state", "fetched"):
        (tmp_path / folder).mkdir()
    alone.words = {"/var/lib/didid": "state", "/srv/fetched": "fetched",
                   "/etc/didid/s3": "keys-of-s3",
                   "https://s3.example.org": f"{s3.url}\ns3_private = 1", **alone.words}
    return alone


@pytest.fixture(scope="session")
def receiver():
    with Receiver() as listening:
        yield listening


def told(didictl, url, *arguments):
    """What didictl prints."""
    done = subprocess.run([didictl, "--host", url, *arguments], capture_output=True, text=True,
                          timeout=MERGE_SECONDS, check=False, env={**os.environ, **ENVIRONMENT})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def service(didid, didictl, family, receiver, tmp_path_factory):
    """(address of a daemon of the demo family, words that stand for what it has) for documents that
    begin where there is a finished job and a webhook."""
    folder = tmp_path_factory.mktemp("service")
    state, uploads = folder / "state", folder / "uploaded"
    state.mkdir()
    uploads.mkdir()
    tasks = [word for name in ("mnist", "latin", "hiragana")
             for word in ("--task", f"{name}=tasks/{name}")]
    with Daemon(didid, state, family, "--models", str(uploads), "--upload-dir", str(uploads),
                "--webhook-private", "1", environment={"OPENBLAS_NUM_THREADS": "1"}) as daemon:
        job = told(didictl, daemon.url, "submit", "--base", "base", "--name", "first", *tasks,
                   "--budget", "0.5", "--wait", "-q", "-o", "name").strip()
        endpoint = f"{receiver.url}/didi"
        webhook = json.loads(told(didictl, daemon.url, "webhook", "add", endpoint, "-o", "json"))
        yield daemon.url, {"JOB": job, "WEBHOOK": webhook["id"],
                           "https://ci.example/hooks/didi": endpoint}


@pytest.fixture
def served(programs, open_shell, service, family, tmp_path):
    """A shell beside a running daemon. JOB is a finished job, WEBHOOK a webhook."""
    url, words = service
    shutil.copytree(family, tmp_path / "models")
    (tmp_path / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    words = {"127.0.0.1:7878": url.removeprefix("http://"), "/srv/models": "models", **words}
    return open_shell(programs, words, DIDI_HOST=url)


@pytest.fixture
def glyphs(served, didictl, service, tmp_path):
    """The same for man pages, whose models are glyph/NAME, beside specifications, settings, and the
    package of a job."""
    url, words = service
    served.words = {"glyph/base": "base", "glyph/": "tasks/", "/var/lib/didid": "state",
                    "/etc/didid/didid.conf": "didid.conf", **served.words}
    tasks = [{"name": name, "model": f"tasks/{name}"} for name in ("mnist", "latin")]
    text = json.dumps({"base": "base", "budget": 0.5, "tasks": tasks})
    for name in ("merge.json", "merge.yaml"):  # JSON is YAML
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "state").mkdir()
    (tmp_path / "didid.conf").write_text("state_dir = state\nmodels = models\n", encoding="utf-8")
    told(didictl, url, "pull", words["JOB"], str(tmp_path / "out"))
    return served
