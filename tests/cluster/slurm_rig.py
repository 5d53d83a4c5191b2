# SPDX-License-Identifier: Apache-2.0
"""A Slurm of its own on loopback: slurmctld and two slurmd with a core each, in a scratch
directory, without munge or accounting. All processes are ended by their numbers."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

from service import free_port

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
PLACES = "/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin")
START_SECONDS = 60
NODES = ("n0", "n1")

CONFIGURATION = """\
ClusterName=rig
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=5
KillWait=2
MinJobAge=60
MaxArraySize={array_size}
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
{nodes}
PartitionName=main Nodes=n[0-1] Default=YES MaxTime=60 State=UP
PartitionName=closed Nodes=n0 State=DOWN
"""


def is_here():
    """All programs are installed, and we are root, whom slurmd wants to be."""
    return os.geteuid() == 0 and all(shutil.which(name, path=PLACES) for name in PROGRAMS)


def ended_by(pid, kind):
    try:
        os.kill(pid, kind)
    except ProcessLookupError:
        pass


class Slurm:
    """The daemons; `environment` makes commands speak to them."""

    def __init__(self, place, array_size=1001):
        self.place = pathlib.Path(place)
        self.place.mkdir(parents=True, exist_ok=True)
        (self.place / "state").mkdir(exist_ok=True)
        self.configuration = self.place / "slurm.conf"
        nodes = "\n".join(f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 "
                          f"Port={free_port()} CPUs=1 RealMemory=1000 State=UNKNOWN"
                          for name in NODES)
        self.configuration.write_text(CONFIGURATION.format(
            port=free_port(), user="root", place=self.place, nodes=nodes, array_size=array_size))
        self.environment = {"SLURM_CONF": str(self.configuration)}
        self.processes = {}

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def spawn(self, name, *words):
        with open(self.place / f"{name}.out", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [shutil.which(words[0], path=PLACES), "-D", "-f", self.configuration, *words[1:]],
                env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)

    def run(self, *words, check=True):
        """What a command prints."""
        return subprocess.run(words, env={**os.environ, **self.environment, "LC_ALL": "C"},
                              capture_output=True, text=True, timeout=120, check=check).stdout

    def start(self):
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self.wait_nodes(*NODES)
        return self

    def start_controller(self):
        self.spawn("slurmctld", "slurmctld")
        self.wait(lambda: "UP" in self.run("scontrol", "ping", check=False))

    def stop_controller(self):
        self.end("slurmctld", signal.SIGTERM)

    def start_node(self, name):
        self.spawn(name, "slurmd", "-N", name)

    def kill_node(self, name):
        """The machine is gone: its slurmd, and what runs there."""
        mine = [pid for pid in self.steps() if f"/spool-{name}" in self.spool_of(pid)]
        self.end(name, signal.SIGKILL)
        for pid in mine:
            for child in self.descendants(pid):
                ended_by(child, signal.SIGKILL)

    def end(self, name, kind):
        process = self.processes.pop(name, None)
        if process is not None and process.poll() is None:
            process.send_signal(kind)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self):
        if "slurmctld" in self.processes:
            self.run("scancel", "--user=root", check=False)
        for name in [*NODES, "slurmctld"]:
            self.end(name, signal.SIGTERM)
        for pid in self.steps():
            for child in self.descendants(pid):
                ended_by(child, signal.SIGKILL)

    # ---- processes ----

    def steps(self):
        """slurmstepd of this rig, known by the settings in their environment."""
        mine = f"SLURM_CONF={self.configuration}".encode()
        found = []
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if ((place / "comm").read_text().strip() == "slurmstepd"
                        and mine in (place / "environ").read_bytes().split(b"\0")):
                    found.append(int(place.name))
            except OSError:
                pass
        return found

    @staticmethod
    def spool_of(pid):
        try:
            return os.readlink(f"/proc/{pid}/cwd") + " " + " ".join(
                os.readlink(path) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return ""

    @staticmethod
    def descendants(pid):
        """A process and all below it, from the bottom."""
        children = {}
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            children.setdefault(parent, []).append(int(place.name))
        found, at = [pid], 0
        while at < len(found):
            found += children.get(found[at], [])
            at += 1
        return found[::-1]

    # ---- waiting ----

    @staticmethod
    def wait(done, seconds=START_SECONDS):
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, "Slurm does not get there"
            time.sleep(0.1)

    def wait_nodes(self, *names):
        def are_up():
            return {line.split()[0] for line in self.run("sinfo", "-hNo", "%N %t").splitlines()
                    if line.split()[1] in ("idle", "alloc", "mix")} >= set(names)
        self.wait(are_up)
