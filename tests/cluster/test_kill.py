# SPDX-License-Identifier: Apache-2.0
"""kill -9 of workers, nodes, the controller and the daemon at random instants of jobs on a real
Slurm: every job ends, with the bytes of an undisturbed one, and nothing is published twice."""

import collections
import json
import os
import signal
import time

import service_client as client
from merges import MERGE

SLOW = {**MERGE, "refine": {"optimizer": "adam", "steps": 3000}}
SLURM = ("--executor", "slurm", "--cluster-tasks", "4", "--cluster-poll-seconds", "1",
         "--cluster-retries", "20")


class Killer:
    """Ends something, and brings back what does not come back by itself."""

    def __init__(self, daemon, slurm, chooser, didid):
        self.daemon, self.slurm, self.chooser = daemon, slurm, chooser
        self.didid = os.path.realpath(didid)
        self.tally = collections.Counter()

    def worker(self):
        running = client.processes(self.didid, "worker")
        if running:
            try:
                os.kill(self.chooser.choice(running), signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(running)

    def daemon_itself(self):
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.daemon.start()
        return True

    def node(self):
        name = self.chooser.choice(["n0", "n1"])
        self.slurm.kill_node(name)
        time.sleep(self.chooser.uniform(0, 2))
        self.slurm.start_node(name)
        return True

    def controller(self):
        self.slurm.end("slurmctld", signal.SIGKILL)
        time.sleep(self.chooser.uniform(0, 3))
        self.slurm.start_controller()
        return True

    def kill(self):
        what = self.chooser.choice(["worker"] * 5 + ["daemon_itself"] * 3 + ["node", "controller"])
        if getattr(self, what)():
            self.tally[what] += 1


def test_killed_at_random_instants(request, run, slurm, didid):
    kills, chooser = client.kills_and_chooser(request.config)
    local = run("own")
    whole = client.submit(local, SLOW, "whole")
    assert client.wait_finished(local, whole)["state"] == "succeeded"
    wanted = client.artifact_digests(local.state / "jobs" / whole / "artifacts")
    local.stop()
    daemon = run("slurm", *SLURM, environment=slurm.environment)
    killer = Killer(daemon, slurm, chooser, didid)
    jobs = []
    while killer.tally.total() < kills:
        jobs.append(client.submit(daemon, SLOW, f"job-{len(jobs)}"))
        while killer.tally.total() < kills and client.call(
                daemon, "GET", f"/v1/jobs/{jobs[-1]}")["state"] not in client.FINISHED:
            time.sleep(chooser.uniform(0, 3))
            killer.kill()
    slurm.wait_nodes("n0", "n1")
    for job in jobs:
        shown = client.wait_finished(daemon, job, 600)
        assert shown["state"] == "succeeded", (shown["error"], daemon.log())
        place = daemon.state / "jobs" / job
        assert client.artifact_digests(place / "artifacts") == wanted
        assert [path.name for path in place.iterdir()] == ["artifacts"]
        events = client.call(daemon, "GET", f"/v1/jobs/{job}/events?limit=1000")["data"]
        ends = [event for event in events if event["kind"] == "state"
                and event["state"] in client.FINISHED]
        assert len(ends) == 1, ends
    print(f"killed {json.dumps(killer.tally)}; {len(jobs)} jobs, all equal")
