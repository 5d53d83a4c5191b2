# SPDX-License-Identifier: Apache-2.0
"""The executor mpi with MPICH and Open MPI where they are installed, beside the daemon and as a
job of Slurm's. Where only processes count a program that starts no MPI stands in for didid-mpi."""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest

STAND_IN = """\
#!/bin/sh
# A rank: its number is given by MPICH or Open MPI.
rank=${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-alone}}
echo "rank $rank of ${PMI_SIZE:-$OMPI_COMM_WORLD_SIZE}"
cd "$1" || exit 66
echo $$ >"rank-$rank.pid"
case "$(sed -n "s/^$rank //p" plan 2>/dev/null)" in
missing) echo "didid-mpi: no such model" >&2; exit 66 ;;
killed) kill -9 $$ ;;
waits) while [ ! -e go ]; do sleep 0.1; done ;;
esac
"""

COMMANDS = {"mpich": "mpiexec.mpich", "openmpi": "mpiexec.openmpi --oversubscribe"}


@pytest.fixture(params=sorted(COMMANDS))
def words(request):
    """The command that starts ranks."""
    if shutil.which(COMMANDS[request.param].split()[0]) is None:
        pytest.skip(f"{request.param} is not installed")
    return COMMANDS[request.param]


def with_ranks(executor, environment, **settings):
    made = executor(environment, executor="mpi", mpi_ranks="4", **settings)
    program = made.worker.parent / "didid-mpi"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return made


@pytest.fixture
def by_mpi(executor, words):
    return with_ranks(executor, {}, mpi_command=words)


def log_of(made):
    return (made.order / f"{made.name}.log").read_text()


def test_ranks_run(by_mpi):
    assert by_mpi.must("find") == "nothing"
    by_mpi.submit()
    assert set(by_mpi.wait_over().values()) == {("ended", 0, "")}
    assert sorted(line for line in log_of(by_mpi).splitlines() if line.startswith("rank")) == [
        f"rank {number} of 4" for number in range(4)]
    assert by_mpi.must("find") == by_mpi.handle


def test_a_rank_that_fails(by_mpi):
    by_mpi.plan(r1="missing")
    by_mpi.submit()
    found = by_mpi.wait_over()
    assert found[0] == ("failed", 66, "didid-mpi: no such model")


def test_a_rank_that_is_killed(by_mpi):
    by_mpi.plan(r0="waits", r1="waits", r2="waits", r3="waits")
    by_mpi.submit()
    by_mpi.wait(lambda _: (by_mpi.order / "rank-2.pid").exists()
                and (by_mpi.order / "rank-2.pid").read_text())
    os.kill(int((by_mpi.order / "rank-2.pid").read_text()), signal.SIGKILL)
    assert by_mpi.wait_over()[3][0] == "killed"


def test_ranks_are_cancelled(by_mpi):
    by_mpi.plan(r0="waits", r1="waits", r2="waits", r3="waits")
    by_mpi.submit()
    pids = [by_mpi.order / f"rank-{rank}.pid" for rank in range(4)]
    by_mpi.wait(lambda _: all(path.exists() and path.read_text() for path in pids))
    by_mpi.must("cancel", by_mpi.handle)
    assert by_mpi.wait_over()[0][0] == "killed"
    by_mpi.wait(lambda _: not any(pathlib.Path(f"/proc/{path.read_text().strip()}/cwd").exists()
                                  for path in pids))
    by_mpi.must("cancel", by_mpi.handle)


def test_who_waits_for_them_is_killed(by_mpi):
    by_mpi.plan(r0="waits", r1="waits", r2="waits", r3="waits")
    by_mpi.submit()
    pids = [by_mpi.order / f"rank-{rank}.pid" for rank in range(4)]
    by_mpi.wait(lambda _: all(path.exists() and path.read_text() for path in pids))
    os.kill(int((by_mpi.order / f"{by_mpi.name}.lock").read_text()), signal.SIGKILL)
    assert by_mpi.wait_over()[0][0] == "killed"
    by_mpi.wait(lambda _: not any(pathlib.Path(f"/proc/{path.read_text().strip()}/cwd").exists()
                                  for path in pids))


def test_a_program_that_is_not_there(executor, words):
    made = executor({}, executor="mpi", mpi_ranks="2", mpi_command=words)
    made.submit()
    found = made.wait_over()
    assert found[0][0] == "failed" and found[0][2], log_of(made)


def test_ranks_as_a_job_of_slurms(slurm, executor):
    if shutil.which("mpiexec.mpich") is None:
        pytest.skip("MPICH is not installed")
    made = with_ranks(executor, slurm.environment, mpi_allocation="slurm",
                      mpi_command="mpiexec.mpich -launcher fork")
    made.configure(executor="mpi", mpi_ranks="2", mpi_allocation="slurm",
                   mpi_command="mpiexec.mpich -launcher fork")
    assert made.must("find") == "nothing"
    made.submit()
    assert set(made.wait_over().values()) == {("ended", 0, "")}, log_of(made)
    assert "rank 1 of 2" in log_of(made)
    made.name += "1"
    made.plan(r1="missing")
    made.submit()
    assert set(made.wait_over().values()) == {("failed", 66, "didid-mpi: no such model")}
    made.name += "2"
    made.plan(r0="waits", r1="waits")
    made.submit()
    made.wait(lambda found: found[0][0] == "running" and (made.order / "rank-1.pid").exists())
    assert made.must("find") == made.handle
    made.must("cancel", made.handle)
    assert made.wait_over()[0][0] == "killed"


def test_ranks_of_another_mpi(didid, tmp_path):
    """Each would do all of the work."""
    program = pathlib.Path(didid).parent / "didid-mpi"
    if not program.exists():
        pytest.skip("didid-mpi is not built: no MPI was found")
    done = subprocess.run([program, tmp_path], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "OMPI_COMM_WORLD_SIZE": "7"}, check=False)
    assert done.returncode == 67
    assert "7 ranks were started and this program sees 1: it was built with" in done.stderr


def test_usage(didid):
    program = pathlib.Path(didid).parent / "didid-mpi"
    if not program.exists():
        pytest.skip("didid-mpi is not built: no MPI was found")
    for words, code in ((["--help"], 0), ([], 64), (["--x"], 64), (["a", "b"], 64)):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == code
        assert "Usage: mpiexec -n RANKS didid-mpi DIRECTORY" in done.stdout + done.stderr
