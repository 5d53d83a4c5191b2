# SPDX-License-Identifier: Apache-2.0
"""A merge on a cluster, simulated event by event: tasks of items, nodes, a file system that all
share, a scheduler that takes its time, nodes that fail. docs/scale.md says what is modelled.

Times are seconds of the simulated clock. Nothing here measures; costs come from cluster_costs.py.
"""

import collections
import dataclasses
import heapq
import itertools
import math
import random


@dataclasses.dataclass
class Item:
    """A piece of a row. `span` are the CPU seconds that no helper thread takes away."""

    cpu: float
    span: float = None
    read_bytes: float = 0
    written_bytes: float = 0
    memory_bytes: float = 0
    weight: float = None  # what a task's size is judged by before it runs; None: cpu
    streams: bool = False  # reads, computes and writes at once, rather than one after the other

    def seconds(self, cores):
        """At most, on so many cores: what any greedy schedule of its loops keeps to (Brent)."""
        span = self.cpu if self.span is None else min(self.span, self.cpu)
        return (self.cpu - span) / cores + span


@dataclasses.dataclass
class Row:
    """A barrier follows. `place`: "cluster", "owner" (items side by side on its cores), "once"."""

    name: str
    items: list
    place: str = "cluster"
    open_cpu: float = 0  # of a worker, before its first item
    open_operations: float = 0
    open_bytes: float = 0


@dataclasses.dataclass
class Machine:
    nodes: int = 1
    node_cores: int = 64
    owner_cores: int = 4
    total_bandwidth: float = 10e9  # of the shared file system, bytes a second
    client_bandwidth: float = 1e9  # of one process
    operation_seconds: float = 0.5e-3  # one opening of a file, nobody else asking
    total_operations: float = 50e3  # a second, of all
    slow_share: float = 0  # of the nodes, each `slow_factor` slower
    slow_factor: float = 1.5
    spread: float = 0  # of an item's time: sigma of a log-normal of mean 1
    node_mtbf: float = None  # seconds between failures of one node; None: never
    repair_seconds: float = 900


@dataclasses.dataclass
class Policy:
    """How the daemon hands out a row. `start` is from submission, or a core becoming free, to the
    program's start; an `mpi` order starts its ranks once, and they then ask for one task after
    another. A task runs as many of its items at once as it has cores; idle cores help."""

    tasks: int = 64
    task_cores: int = 1
    wide_cores: int = None  # at most, of an item too heavy for one core; None: it has task_cores
    submit_seconds: float = 0.5
    start_seconds: tuple = (1.0, 3.0)
    poll_seconds: float = 5.0
    requeue_seconds: float = 30.0
    mpi: bool = False
    mpi_start_seconds: float = 3.0


class Clock:
    """Events in order of time, then of their making."""

    def __init__(self):
        self.now = 0.0
        self._heap, self._count = [], itertools.count()

    def at(self, when, call):
        entry = [max(when, self.now), next(self._count), call]
        heapq.heappush(self._heap, entry)
        return entry

    def after(self, delay, call):
        return self.at(self.now + delay, call)

    @staticmethod
    def drop(entry):
        entry[2] = None

    def run_until(self, done):
        while not done():
            when, _, call = heapq.heappop(self._heap)
            if call is not None:
                self.now = when
                call()


class Link:
    """Shared evenly: each user gets its share of `total`, `each` at most. One that leaves early is
    not served further."""

    def __init__(self, clock, total, each):
        self._clock, self._total, self._each = clock, total, each
        self._users, self._served, self._since, self._next = [], 0.0, 0.0, None
        self._count, self._gone, self._active = itertools.count(), set(), 0
        self.moved = self.busiest = 0.0

    def _rate(self):
        return min(self._each, self._total / self._active) if self._active else 0.0

    def _advance(self):
        self._served += self._rate() * (self._clock.now - self._since)
        self._since = self._clock.now

    def _plan(self):
        if self._next is not None:
            self._clock.drop(self._next)
            self._next = None
        while self._users and self._users[0][1] in self._gone:
            self._gone.discard(heapq.heappop(self._users)[1])
        if self._users:
            wait = max(self._users[0][0] - self._served, 0.0) / self._rate()
            self._next = self._clock.after(wait, self._finish)
        self.busiest = max(self.busiest, self._rate() * self._active)

    def _finish(self):
        self._next = None
        self._served = self._users[0][0]
        self._since = self._clock.now
        _, _, call = heapq.heappop(self._users)  # none that left: `leave` plans anew
        self._active -= 1
        self._plan()
        call()

    def use(self, amount, call):
        """Calls back when `amount` has passed; returns what `leave` takes."""
        self._advance()
        self._active += 1
        self.moved += amount
        number = next(self._count)
        heapq.heappush(self._users, (self._served + amount, number, call))
        self._plan()
        return number

    def leave(self, number):
        self._advance()
        self._active -= 1
        self._gone.add(number)
        self._plan()


def batch(items, count):
    """Items -> at most `count` tasks of about the same weight, heaviest first: each item, heaviest
    first, goes to the task that has least."""
    count = max(1, min(count, len(items)))
    heap = [(0.0, 0, index) for index in range(count)]
    tasks = [[] for _ in range(count)]
    weights = [0.0] * count
    for item in sorted(items, key=weight_of, reverse=True):
        weight, held, index = heapq.heappop(heap)
        tasks[index].append(item)
        weights[index] = weight + weight_of(item)
        heapq.heappush(heap, (weights[index], held + 1, index))
    order = sorted(range(count), key=lambda index: -weights[index])
    return [tasks[index] for index in order if tasks[index]]


def after_all(count, call):
    """What calls back once it was called `count` times."""
    left = [count]

    def one():
        left[0] -= 1
        if left[0] == 0:
            call()

    return one


def weight_of(item):
    return item.cpu if item.weight is None else item.weight


def widen(items, cores, most):
    """Which items get several cores, so that a row ends soonest: [(item, cores)], the others, and
    how many cores are left to these. Found by halving: the least time within which every item can
    end on `most` cores at most, and the others, batched, on what is left."""
    order = sorted(items, key=lambda item: item.cpu, reverse=True)

    def within(limit):
        wide, left = [], cores
        for index, item in enumerate(order):
            if item.cpu <= limit or left < 2:
                break
            wanted = next((count for count in range(2, most + 1) if item.seconds(count) <= limit),
                          most)
            wide.append((item, min(wanted, left)))
            left -= wide[-1][1]
        rest = order[len(wide):]
        longest = max([item.seconds(count) for item, count in wide], default=0)
        if rest:
            tasks = batch(rest, left) if left > 0 else [rest]
            longest = max([longest, *(sum(item.cpu for item in task) for task in tasks)])
            longest = longest if left > 0 else math.inf
        return longest, (wide, rest, left)

    low, high = 0.0, sum(item.cpu for item in items)
    best = within(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = within(middle)
        best = min(best, found, key=lambda pair: pair[0])
        low, high = (low, middle) if found[0] <= middle else (middle, high)
    return best[1]


HALVINGS = 25


class Node:
    def __init__(self, cores, factor):
        self.cores = self.free = cores
        self.factor, self.running, self.up = factor, set(), True


class Running:
    """An item under way: on a link, or computing with `left` of it to do at `rate` a second."""

    def __init__(self, task, item):
        self.task, self.item = task, item
        self.link = self.number = self.entry = None
        self.computes, self.left, self.rate, self.since = False, 1.0, 0.0, 0.0
        self.began, self.factor = 0.0, 1.0

    def stop(self, clock):
        if self.entry is not None:
            clock.drop(self.entry)
        if self.link is not None:
            self.link.leave(self.number)


class Task:
    """Items that wait, and those under way; what a failure of its node leaves is a task again."""

    def __init__(self, items, cores):
        self.items, self.cores = collections.deque(items), cores
        self.node, self.running, self.opening = None, [], None


class Simulation:
    """One merge. `run` gives the whole time; `rows` tells where it went."""

    def __init__(self, machine, policy, seed=0):
        self.machine, self.policy, self.random = machine, policy, random.Random(seed)
        self.clock = Clock()
        self.bytes = Link(self.clock, machine.total_bandwidth, machine.client_bandwidth)
        self.operations = Link(self.clock, machine.total_operations,
                               1 / machine.operation_seconds)
        slow = self.random.sample(range(machine.nodes), round(machine.slow_share * machine.nodes))
        self.nodes = [Node(machine.node_cores, machine.slow_factor if index in slow else 1.0)
                      for index in range(machine.nodes)]
        self.failures, self.lost_seconds, self.rows = 0, 0.0, []
        if machine.node_mtbf is not None:
            for node in self.nodes:
                self._plan_failure(node)

    # ---- nodes ----

    def _plan_failure(self, node):
        self.clock.after(self.random.expovariate(1 / self.machine.node_mtbf),
                         lambda: self._fail(node))

    def _fail(self, node):
        self.failures += 1
        node.up, node.free = False, 0
        for task in list(node.running):
            self._stop(task)
            self.clock.after(self.policy.requeue_seconds, lambda task=task: self._queue(task))
        node.running.clear()
        self.clock.after(self.machine.repair_seconds, lambda: self._mend(node))

    def _stop(self, task):
        for running in [*task.running, *filter(None, [task.opening])]:
            self.lost_seconds += self.clock.now - running.began
            running.stop(self.clock)
        task.items.extendleft(running.item for running in reversed(task.running))
        task.running, task.opening, task.node = [], None, None

    def _mend(self, node):
        node.up, node.free = True, node.cores
        self._plan_failure(node)
        self._dispatch()

    # ---- tasks ----

    def _queue(self, task):
        self.waiting.append(task)
        self._dispatch()

    def _place(self, task):
        fitting = [node for node in self.nodes if node.up and node.free >= task.cores]
        return max(fitting, key=lambda node: node.free, default=None)

    def _dispatch(self):
        while self.waiting:
            node = self._place(self.waiting[0])
            if node is None:
                return
            task = self.waiting.popleft()
            node.free -= task.cores
            node.running.add(task)
            task.node, task.opening = node, self._running(task, None)
            delay = (self.policy.mpi_start_seconds if self.policy.mpi
                     else self.random.uniform(*self.policy.start_seconds))
            self.starting += delay
            self._wait(task.opening, delay, lambda task=task: self._open(task))

    def _running(self, task, item):
        found = Running(task, item)
        found.began = self.clock.now
        return found

    def _wait(self, running, seconds, call):
        def waited():
            running.entry = None
            call()

        running.entry = self.clock.after(seconds, waited)

    def _share(self, running, link, amount, call):
        """`call` once `amount` has passed the link; at once for nothing."""
        if amount <= 0:
            call()
            return
        began = self.clock.now

        def passed():
            running.link = None
            self.sharing += self.clock.now - began
            call()

        running.link = link
        running.number = link.use(amount, passed)

    def _open(self, task):
        row, at = self.row, task.opening
        began = self.clock.now

        def opened():
            self.opening += self.clock.now - began
            task.opening = None
            self._fill(task)

        self._share(at, self.operations, row.open_operations, lambda: self._share(
            at, self.bytes, row.open_bytes,
            lambda: self._wait(at, row.open_cpu * task.node.factor, opened)))

    def _spread(self):
        sigma = self.machine.spread
        return self.random.lognormvariate(-sigma * sigma / 2, sigma) if sigma > 0 else 1.0

    def _fill(self, task):
        """Starts items while cores are idle; a task with none left ends."""
        while len(task.running) < task.cores:
            if not task.items and self.policy.mpi and self.handing:
                task.items.extend(self.handing.popleft())
            if not task.items:
                break
            running = self._running(task, task.items.popleft())
            running.factor = self._spread() * task.node.factor
            task.running.append(running)
            self._share(running, self.bytes, running.item.read_bytes,
                        lambda running=running: self._compute(running))
        if not task.running:
            node, task.node = task.node, None
            node.running.discard(task)
            node.free += task.cores
            self._dispatch()

    def _compute(self, running):
        running.computes, running.since = True, self.clock.now
        self._lend(running.task)

    def _lend(self, task):
        """Cores that no item of the task has are lent to those that compute, evenly."""
        busy = [running for running in task.running if running.computes]
        spare = task.cores - len(task.running)
        for index, running in enumerate(busy):
            cores = 1 + spare // len(busy) + (index < spare % len(busy))
            running.left -= running.rate * (self.clock.now - running.since)
            running.since = self.clock.now
            seconds = self._seconds(running, cores)
            running.rate = 1 / seconds if seconds > 0 else 0.0
            if running.entry is not None:
                self.clock.drop(running.entry)
            self._wait(running, max(running.left, 0.0) * seconds,
                       lambda running=running: self._computed(running))

    def _seconds(self, running, cores):
        item = running.item
        seconds = item.seconds(cores) * running.factor
        if item.streams:  # the slower of both
            moved = item.read_bytes + item.written_bytes
            seconds = max(seconds - moved / self.machine.client_bandwidth, 0.0)
        return seconds

    def _computed(self, running):
        running.computes = False
        self._share(running, self.bytes, running.item.written_bytes, lambda: self._done(running))

    def _done(self, running):
        task = running.task
        task.running.remove(running)
        self.left -= 1
        if self.left == 0:
            self.ended = self.clock.now
        self._fill(task)
        self._lend(task)

    # ---- rows ----

    def _tasks(self, row):
        policy = self.policy
        if policy.wide_cores is None:
            return [Task(items, policy.task_cores) for items in batch(row.items, policy.tasks)]
        wide, rest, count = widen(row.items, policy.tasks * policy.task_cores, policy.wide_cores)
        tasks = [Task([item], max(cores, policy.task_cores)) for item, cores in wide]
        return tasks + [Task(items, policy.task_cores)
                        for items in batch(rest, max(count // policy.task_cores, 1))]

    def _run_cluster(self, row):
        policy, began = self.policy, self.clock.now
        self.row, self.left, self.ended = row, len(row.items), None
        self.waiting, self.handing = collections.deque(), collections.deque()
        self.starting = self.opening = self.sharing = 0.0
        tasks = self._tasks(row)
        if policy.mpi:
            ranks = max(1, self.machine.nodes * self.machine.node_cores // policy.task_cores)
            self.handing.extend(task.items for task in tasks[ranks:])
            tasks = tasks[:ranks]
        self.clock.after(policy.submit_seconds, lambda: (self.waiting.extend(tasks),
                                                         self._dispatch()))
        self.clock.run_until(lambda: self.ended is not None)
        if policy.poll_seconds > 0:  # the daemon looks at fixed times
            looks = -(-(self.clock.now - began) // policy.poll_seconds)
            until = began + looks * policy.poll_seconds
            reached = []
            self.clock.at(until, lambda: reached.append(True))
            self.clock.run_until(lambda: reached)
        self.rows.append({
            "row": row.name, "seconds": self.clock.now - began, "worked": self.ended - began,
            "cpu": sum(item.cpu for item in row.items), "tasks": len(tasks),
            "longest": max(item.seconds(max(task.cores for task in tasks)) for item in row.items),
            "cores": max(task.cores for task in tasks),
            "starting": self.starting, "opening": self.opening, "sharing": self.sharing})

    def _run_owner(self, row):
        """Items side by side on the owner's cores, or the only one."""
        began, cores = self.clock.now, self.machine.owner_cores
        waiting, state = collections.deque(row.items), {"left": len(row.items)}

        def begin():
            if not waiting:
                return
            item = waiting.popleft()
            own = cores if row.place == "once" else 1

            def transfer(amount, call):
                if amount > 0:
                    self.bytes.use(amount, call)
                else:
                    call()

            def ended():
                state["left"] -= 1
                begin()

            if item.streams:
                ended = after_all(3, ended)
                transfer(item.read_bytes, ended)
                transfer(item.written_bytes, ended)
                self.clock.after(item.seconds(own), ended)
            else:
                transfer(item.read_bytes, lambda: self.clock.after(
                    item.seconds(own), lambda: transfer(item.written_bytes, ended)))

        for _ in range(1 if row.place == "once" else cores):
            begin()
        self.clock.run_until(lambda: state["left"] == 0)
        self.rows.append({"row": row.name, "seconds": self.clock.now - began,
                          "cpu": sum(item.cpu for item in row.items)})

    def run(self, rows):
        for row in rows:
            if row.items and row.place == "cluster":
                self._run_cluster(row)
            elif row.items:
                self._run_owner(row)
        return self.clock.now


def whole_cpu(rows):
    return sum(item.cpu for row in rows for item in row.items)


def efficiency(rows, seconds, cores):
    """CPU seconds of the items, were they run on one core, against what the cores were held for."""
    return whole_cpu(rows) / (seconds * cores)
