# SPDX-License-Identifier: Apache-2.0
"""An MLflow server from the package registry, on loopback, in an environment beside the build."""

import base64
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

import environments
from service import free_port

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))
START_SECONDS = 180


@pytest.fixture(scope="session")
def mlflow_programs(didid):
    """The folder of programs."""
    return environments.environment(didid, HERE / "requirements.txt")


class Mlflow:
    """Its REST API, as any client sees it."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, body=None, method=None, **query):
        target = f"{self.url}/api/2.0/mlflow/{path}"
        if query:
            target += "?" + urllib.parse.urlencode(query)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(target, data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read()) from error

    def versions(self, model):
        found = self.ask("model-versions/search", filter=f"name='{model}'")
        return found.get("model_versions", [])

    def model(self, name, versions=1):
        """A registered model with so many versions."""
        self.ask("registered-models/create", {"name": name})
        for _ in range(versions):
            self.ask("model-versions/create", {"name": name, "source": "s3://bucket/model"})

    def alias(self, name, alias, version):
        self.ask("registered-models/alias", {"name": name, "alias": alias, "version": version})


@pytest.fixture(scope="session")
def mlflow(mlflow_programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    environment = {
        **os.environ, "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
        # else it remembers for a minute which webhooks there are: a test would miss its own
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        # processes for its own evaluations, which take twice the time of all else here
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "https",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(b"k" * 32).decode()}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [mlflow_programs / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
             "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
             "--artifacts-destination", str(folder / "artifacts")],
            env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)
    try:
        server = Mlflow(f"http://127.0.0.1:{port}")
        wait_until_up(process, server, folder / "log")
        yield server
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def wait_until_up(process, server, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.url + "/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"MLflow did not start:\n{log.read_text(errors='replace')[-4000:]}")
