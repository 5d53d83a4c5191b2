# SPDX-License-Identifier: Apache-2.0
"""Schedulers and MPIs, where they are installed, and executors from the command line."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "crash")]  # its client

from merges import merged  # noqa: E402 (the path above is needed first)
from slurm_rig import Slurm, is_here  # noqa: E402

STAND_IN = """\
#!/bin/sh
# A worker that does what the file `plan` beside its order says of its task.
test "$1" = worker && test "$3" = --task || exit 64
cd "$2" || exit 66
echo "task $4 on ${SLURMD_NODENAME:-here}"
echo $$ >"task-$4.pid"
case "$(sed -n "s/^$4 //p" plan 2>/dev/null)" in
sleep) sleep 300 ;;
missing) echo "no such model" >&2; exit 66 ;;
killed) kill -9 $$ ;;
waits) while [ ! -e go ]; do sleep 0.1; done ;;
esac
"""


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=int(os.environ.get("DIDI_CRASH_KILLS", "5")),
                     help="how often something is killed")
    parser.addoption("--crash-seed", type=int, default=None, help="repeats a run")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    if not is_here():
        pytest.skip("Slurm is not installed, or we are not root")
    with Slurm(tmp_path_factory.mktemp("slurm")) as rig:
        yield rig


@pytest.fixture(autouse=True)
def clean(request):
    """No test leaves jobs to the next one."""
    yield
    if "slurm" in request.fixturenames:
        rig = request.getfixturevalue("slurm")
        rig.run("scancel", "--user=root")
        rig.wait(lambda: rig.run("squeue", "-h") == "")


class Executor:
    """tests/cluster/probe with settings, one order, and a stand-in for the worker."""

    def __init__(self, probe, place, environment, **settings):
        self.probe, self.place = probe, place
        self.environment = {**os.environ, **environment}
        self.order = place / "order"
        self.order.mkdir()
        self.worker = place / "worker"
        self.worker.write_text(STAND_IN)
        self.worker.chmod(0o755)
        self.settings = place / "settings.conf"
        self.configure(**settings)
        self.handle = None
        self.name = f"didid-{place.name.lower().replace('_', '-')}-0"[-90:]
        self.numbers = "0-3"

    def configure(self, **settings):
        lines = [f"{key} = {value}\n" for key, value in settings.items()]
        self.settings.write_text("state_dir = /nowhere\nmodels = /nowhere\n" + "".join(lines))

    def ask(self, verb, *handle):
        """What the probe prints, and whether it was content."""
        words = [self.probe, self.settings, verb]
        if verb != "max":
            words += [self.name, self.order, self.worker, self.numbers, *handle]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True,
                              timeout=200, check=False)
        assert done.returncode in (0, 1), (done.returncode, done.stdout, done.stderr)
        return done.stdout.strip(), done.returncode == 0

    def must(self, verb, *handle):
        said, fine = self.ask(verb, *handle)
        assert fine, said
        return said

    def plan(self, **tasks):
        """plan(t3="sleep")"""
        (self.order / "plan").write_text("".join(f"{task[1:]} {what}\n"
                                                 for task, what in tasks.items()))

    def submit(self):
        self.handle = self.must("submit")

    def look(self):
        """number -> (state, status, reason)"""
        rows = (line.split(" ", 3) for line in self.must("look", self.handle).splitlines())
        return {int(row[0]): (row[1], int(row[2]), row[3] if len(row) > 3 else "") for row in rows}

    def states(self):
        return {number: row[0] for number, row in self.look().items()}

    def wait(self, done, seconds=90):
        """The first look that is so."""
        deadline = time.monotonic() + seconds
        while not done(found := self.look()):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def wait_over(self, *numbers):
        return self.wait(lambda found: all(
            row[0] not in ("waiting", "running") for number, row in found.items()
            if not numbers or number in numbers))


@pytest.fixture
def executor(tmp_path):
    """executor(environment, **settings)"""
    probe = pathlib.Path(os.environ.get("CLUSTER_PROBE",
                                        TESTS.parent / "build/tests/cluster/probe"))
    assert probe.exists(), f"{probe} is not built"
    made = []

    def make(environment, **settings):
        made.append(Executor(probe, tmp_path, environment, **settings))
        return made[-1]

    yield make
    for one in made:
        if one.handle:  # a test that failed leaves nothing that runs
            one.ask("cancel", one.handle)


@pytest.fixture
def run(start_daemon, family, tmp_path):
    """run(NAME, *arguments) -> a daemon with a state directory below a folder of that name"""
    def start(name, *arguments, environment=None):
        (tmp_path / name).mkdir()
        state = tmp_path / name / "state"
        daemon = start_daemon(family, *arguments, state=state, environment=environment)
        daemon.state = state
        return daemon
    return start


@pytest.fixture
def own(run):
    """What the daemon itself makes of the merge."""
    daemon = run("own")
    digests = merged(daemon)
    daemon.stop()
    return digests
