# SPDX-License-Identifier: Apache-2.0
"""A merge on a cluster, reckoned: the law of item costs, simulated runs on 1 to 512 cores, what
limits them, and the simulator beside real runs on this machine. The figures of docs/scale.md.

Costs are those of item_costs.json, which item_costs.py measures anew; only the comparison with real
runs measures anything here.
"""

import contextlib
import dataclasses
import pathlib
import subprocess
import time

import cluster_costs
import cluster_model
import common
import draw_scale
import families
import item_costs
import make_family

CORES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
NODE_CORES = 64
EFFICIENCY_MIN, AT_CORES, OF = 0.7, 64, "Llama-8B x 4"
# of one machine: what the simulator may be off by
ERROR_MAX = 0.25
REAL_BLOCKS, REAL_TASKS, REAL_BUDGET = 12, 8, 0.05


@dataclasses.dataclass(frozen=True)
class Way:
    """How a cluster is used: of the daemon, of the scheduler, and of the code."""

    name: str
    policy: dict = dataclasses.field(default_factory=dict)
    rows: dict = dataclasses.field(default_factory=dict)  # of cluster_costs.rows_of


ONE = Way("1 core a task")
EIGHT = Way("8 cores a task", {"task_cores": 8})
NODE = Way("64 cores a task", {"task_cores": NODE_CORES})
NEED = Way("cores by need", {"wide_cores": NODE_CORES})
WAYS = (ONE, EIGHT, NODE, NEED)
# what could be otherwise, one change at a time
STEPS = (NEED, Way("and files by the cluster", NEED.policy, {"publish": "cluster"}),
         Way("and `once` rows handed over", NEED.policy,
             {"publish": "cluster", "once_again": False}),
         Way("by need, by ranks of MPI", {**NEED.policy, "mpi": True}))


def machine_of(cores, **fields):
    nodes = max(cores // NODE_CORES, 1)
    return cluster_model.Machine(nodes=nodes, node_cores=cores // nodes, **fields)


def simulate(costs, family, way, cores, machine=None, policy=None, seed=0):
    """(seconds, efficiency, simulation); None where a task has more cores than there are."""
    task_cores = min(way.policy.get("task_cores", 1), NODE_CORES)
    if task_cores > cores:
        return None
    simulation = cluster_model.Simulation(
        machine_of(cores, **(machine or {})),
        cluster_model.Policy(**{"tasks": cores // task_cores, **way.policy, **(policy or {})}),
        seed)
    rows = cluster_costs.rows_of(costs, family, **way.rows)
    seconds = simulation.run(rows)
    return seconds, cluster_model.efficiency(rows, seconds, cores), simulation


def print_table(head, rows):
    """As Markdown, so that a page shows what is printed."""
    print("| " + " | ".join(map(str, head)) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def hours(seconds):
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.0f} s"


def print_law(costs):
    rows = []
    for field in ("cpu", "span"):
        for row in cluster_costs.EACH:
            errors = sorted(abs(law / measured - 1)
                            for _, _, measured, law in costs.errors(row, field))
            rows.append((row, field, *(f"{value:.2g}" for value in costs.laws[row, field]),
                         len(errors), f"{errors[len(errors) // 2]:.0%}", f"{errors[-1]:.0%}"))
    print_table(("row", "of", *"abcdef", "shapes", "median error", "most"), rows)


def print_rows(costs):
    for family in families.FAMILIES:
        rows = cluster_costs.rows_of(costs, family)
        print(f"{family}: {hours(cluster_model.whole_cpu(rows))} of CPU")
        print_table(("row", "items", "CPU", "longest item", "its span", "GB read", "GB written",
                     "to open"),
                    [(row.name, len(row.items), hours(sum(item.cpu for item in row.items)),
                      hours(max(item.cpu for item in row.items)),
                      hours(max(item.cpu if item.span is None else item.span
                                for item in row.items)),
                      f"{sum(item.read_bytes for item in row.items) / 1e9:.1f}",
                      f"{sum(item.written_bytes for item in row.items) / 1e9:.1f}",
                      f"{row.open_cpu:.2f} s" if row.open_cpu else "")
                     for row in rows])


def efficiencies(costs):
    """family -> way -> {cores: (seconds, efficiency)}."""
    found = {}
    for family in families.FAMILIES:
        for way in WAYS:
            runs = {cores: simulate(costs, family, way, cores) for cores in CORES}
            found.setdefault(family, {})[way.name] = {
                cores: run[:2] for cores, run in runs.items() if run is not None}
    return found


def print_efficiencies(found):
    for family, ways in found.items():
        print(f"{family}: efficiency by cores")
        print_table(("tasks", *CORES), [
            (way, *(f"{runs[cores][1]:.0%}" if cores in runs else "" for cores in CORES))
            for way, runs in ways.items()])
        print_table(("time", *CORES), [
            (way, *(hours(runs[cores][0]) if cores in runs else "" for cores in CORES))
            for way, runs in ways.items()])


def print_where(costs):
    """Row by row beside what the cores could do, at two sizes."""
    for family in families.FAMILIES:
        for way, cores in ((ONE, 64), (NEED, 64), (NEED, 512)):
            seconds, share, simulation = simulate(costs, family, way, cores)
            print(f"{family}, {way.name}, {cores} cores: {hours(seconds)}, {share:.0%}")
            print_table(("row", "seconds", "were all cores busy", "longest item", "its cores"),
                        [(row["row"], f"{row['seconds']:.0f}", f"{row['cpu'] / cores:.1f}",
                          f"{row['longest']:.0f}" if "longest" in row else "",
                          row.get("cores", "")) for row in simulation.rows])


NO_WAIT = {"submit_seconds": 0, "start_seconds": (0, 0), "poll_seconds": 0,
           "mpi_start_seconds": 0}
FREE_FILES = {"total_bandwidth": 1e15, "client_bandwidth": 1e13, "operation_seconds": 1e-9,
              "total_operations": 1e12}


def print_gains(costs):
    """What each limit costs: the same run without it."""
    for family in families.FAMILIES:
        rows = []
        for way, cores in ((NEED, 64), (NEED, 512)):
            base = simulate(costs, family, way, cores)[1]
            cells = [f"{base:.0%}"]
            for machine, policy in (({}, NO_WAIT), (FREE_FILES, {}),
                                    ({"owner_cores": NODE_CORES}, {})):
                cells.append(f"{simulate(costs, family, way, cores, machine, policy)[1]:.0%}")
            rows.append((f"{way.name}, {cores}", *cells))
        print(f"{family}: efficiency without a limit")
        print_table(("tasks, cores", "as it is", "scheduler at once", "file system at once",
                     f"{NODE_CORES} cores for the owner"), rows)


def print_steps(costs):
    for family in families.FAMILIES:
        print(f"{family}: efficiency, one change after the other")
        print_table(("tasks", 64, 512), [
            (way.name, *(f"{simulate(costs, family, way, cores)[1]:.0%}" for cores in (64, 512)))
            for way in STEPS])


TASK_CORES = (1, 2, 4, 8, 16, 32, 64)
SHARES = (1, 2, 4, 8)  # tasks for each that can run at once
UNEVEN = {"spread": 0.2, "slow_share": 0.25}


def print_task_cores(costs):
    """Of the code as it is, by cores of a task; then by tasks of one order, where all that can run
    at once is one share, on nodes that are alike and on nodes that are not."""
    for family in families.FAMILIES:
        rows = []
        for cores in (64, 256):
            ways = [Way("", {"task_cores": count}) for count in TASK_CORES]
            rows.append((cores, *(f"{simulate(costs, family, way, cores)[1]:.0%}"
                                  for way in ways)))
        print(f"{family}: efficiency by task_cores")
        print_table(("cores", *TASK_CORES), rows)
        rows = []
        for count in (1, 8):
            for what, machine in (("alike", {}), ("uneven", UNEVEN)):
                cells = []
                for share in SHARES:
                    policy = {"task_cores": count, "tasks": 256 // count * share}
                    run = simulate(costs, family, Way("", {"task_cores": count}), 256, machine,
                                   policy)
                    cells.append(f"{run[1]:.0%}")
                rows.append((count, what, *cells))
        print(f"{family}, 256 cores: efficiency by cluster_tasks, as shares of what runs at once")
        print_table(("task_cores", "nodes", *SHARES), rows)


SWEEPS = {
    "start of a task": ("policy", "start_seconds", ((0, 0), (1, 3), (5, 15), (30, 90)), str),
    "poll": ("policy", "poll_seconds", (1, 5, 15, 60), lambda value: f"{value} s"),
    "file system, GB/s of all": ("machine", "total_bandwidth", (0.25e9, 1e9, 4e9, 10e9),
                                 lambda value: f"{value / 1e9:g}"),
    "one opening of a file": ("machine", "operation_seconds", (0.1e-3, 0.5e-3, 2e-3, 10e-3),
                              lambda value: f"{1e3 * value:g} ms"),
    "spread of an item's time": ("machine", "spread", (0, 0.1, 0.2, 0.4), str),
    "failures of a node": ("machine", "node_mtbf", (None, 30 * 86400, 86400, 6 * 3600),
                           lambda value: "never" if value is None else f"each {hours(value)}"),
    "nodes that are 1.5 times slower": ("machine", "slow_share", (0, 0.125, 0.25, 0.5),
                                        lambda value: f"{value:.0%}"),
}
SEEDS = 3


def print_sweeps(costs, cores=256):
    for family in families.FAMILIES:
        rows = []
        for what, (kind, field, values, text) in SWEEPS.items():
            cells = []
            for value in values:
                runs = [simulate(costs, family, NEED, cores, seed=seed,
                                 **{kind: {field: value}})[1] for seed in range(SEEDS)]
                cells.append(f"{text(value)}: {sum(runs) / SEEDS:.0%}")
            rows.append((what, *cells))
        print(f"{family}, {NEED.name}, {cores} cores: efficiency, one thing changed")
        print_table(("what", *[""] * 4), rows)


def print_files(costs):
    rows = []
    for family in families.FAMILIES:
        for cores in (64, 512):
            seconds, _, simulation = simulate(costs, family, NEED, cores)
            rows.append((family, cores, f"{simulation.bytes.moved / 1e12:.2f} TB",
                         f"{simulation.bytes.moved / seconds / 1e9:.2f} GB/s",
                         f"{simulation.bytes.busiest / 1e9:.1f} GB/s",
                         f"{simulation.operations.moved:.0f}",
                         f"{costs.plans[family]['disk_bytes'] / 1e12:.2f} TB"))
    print_table(("family", "cores", "moved", "mean", "most", "openings of files",
                 "disk, at most"), rows)


def print_memory(costs):
    rows = []
    for family in families.FAMILIES:
        memory = costs.plans[family]["memory"]
        for shape in dict.fromkeys((row[2], row[3]) for row in memory):
            most = {workers: max(row[4] for row in memory
                                 if row[0] == workers and (row[2], row[3]) == shape)
                    for workers in item_costs.PLAN_THREADS}
            rows.append((family, f"{shape[0]} x {shape[1]}",
                         *(f"{value / 1e9:.1f} GB" for value in most.values())))
    print_table(("family", "matrix", *(f"{workers} threads" if workers > 1 else "1 thread"
                                       for workers in item_costs.PLAN_THREADS)), rows)


# ---- beside real runs ----

def local_rows(lines):
    """Rows as they were measured item by item, on one thread."""
    rows = {}
    for line in lines:
        if line["row"] == "open":
            continue
        item = cluster_model.Item(cpu=line["cpu"], span=line["span"])
        place = "once" if line["row"] in ("schedule", "ranks", "seal") else "cluster"
        rows.setdefault(line["row"], cluster_model.Row(line["row"], [], place)).items.append(item)
    return list(rows.values())


def waited_seconds(pid):
    """How long threads of a process were ready to run while others had the processors."""
    waited = 0
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError):
            waited += int(path.read_text().split()[1])
    return waited / 1e9


def run_alone(words, workers):
    """Seconds that a merge takes, less what it waited for other programs: about what it would take
    on an idle machine."""
    started, waited = time.monotonic(), 0.0
    with item_costs.pinned_kernel():
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
    while process.poll() is None:
        waited = max(waited, waited_seconds(process.pid))
        time.sleep(common.SAMPLE_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"didid run ended with {process.returncode}")
    seconds = time.monotonic() - started
    return seconds - waited / workers, seconds


def compare(arguments, scratch):
    """Real merges of 12 blocks with 1 and 2 workers, and the simulator's time for each from the
    items of a run on one thread."""
    models, program = scratch / "models", scratch / "item_costs"
    tasks = make_family.write_family(models, "vitb32", REAL_BLOCKS, REAL_TASKS, "BF16")
    item_costs.compile_program(arguments.build, program)
    text = common.specification("base", {task: task for task in tasks}, REAL_BUDGET)
    measured = local_rows(item_costs.run_once(program, models, REAL_BUDGET, 2, "", scratch))
    rows, held = [], True
    for workers in (1, 2):
        simulation = cluster_model.Simulation(
            cluster_model.Machine(node_cores=workers, owner_cores=workers, **FREE_FILES),
            cluster_model.Policy(tasks=1, task_cores=workers, **NO_WAIT))
        simulated = simulation.run(measured)
        alone, seconds = run_alone(common.command(arguments.build, text, models,
                                                  scratch / f"out{workers}", workers), workers)
        off = simulated / alone - 1
        held = held and abs(off) <= ERROR_MAX
        rows.append((workers, f"{simulated:.1f}", f"{alone:.1f}", f"{off:+.0%}",
                     f"{seconds:.1f}"))
    print_table(("workers", "simulated, s", "real, less what it waited for others, s", "off by",
                 "real, s"), rows)
    return common.verdict("simulated time of 12 blocks against real runs",
                          ", ".join(row[3] for row in rows), f"within {ERROR_MAX:.0%}", held)


def measure(arguments, scratch):
    costs = cluster_costs.Costs()
    print_law(costs)
    print_rows(costs)
    found = efficiencies(costs)
    print_efficiencies(found)
    for show in (print_steps, print_task_cores, print_where, print_gains, print_sweeps,
                 print_files, print_memory):
        show(costs)
    draw_scale.draw(found, pathlib.Path(scratch))
    held = True
    for way in (ONE, NEED):
        share = found[OF][way.name][AT_CORES][1]
        held = common.verdict(f"{OF} at {AT_CORES} cores, {way.name}", f"{share:.0%}",
                              f"{EFFICIENCY_MIN:.0%}", share >= EFFICIENCY_MIN)
    return compare(arguments, scratch) and held
