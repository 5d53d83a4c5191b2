# SPDX-License-Identifier: Apache-2.0
"""The simulator of a cluster on cases whose answers are known."""

import pathlib
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

BENCH = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent / "family")]
import draw_scale  # noqa: E402 (the paths above are needed first)
from cluster_costs import EACH, Costs, fit, rows_of
from cluster_model import (Clock, Item, Link, Machine, Policy, Row, Simulation, batch, efficiency,
                           whole_cpu, widen)
from families import FAMILIES

# a scheduler that takes no time
AT_ONCE = {"submit_seconds": 0, "start_seconds": (0, 0), "poll_seconds": 0, "requeue_seconds": 0}


def simulate(rows, tasks=1, nodes=1, node_cores=1, policy=None, seed=0, **machine):
    simulation = Simulation(Machine(nodes=nodes, node_cores=node_cores, **machine),
                            Policy(**{"tasks": tasks, **AT_ONCE, **(policy or {})}), seed)
    return simulation.run(rows), simulation


def test_one_core_takes_the_sum():
    rows = [Row("first", [Item(cpu) for cpu in (5, 3, 2)]),
            Row("only", [Item(4)], place="once"), Row("last", [Item(1), Item(7)])]
    seconds, _ = simulate(rows, owner_cores=1)
    assert seconds == pytest.approx(22)
    assert efficiency(rows, seconds, 1) == pytest.approx(1)


def test_what_divides_evenly_is_as_many_times_faster():
    rows = [Row("row", [Item(3.0) for _ in range(64)])]
    for cores in (2, 4, 8, 64):
        seconds, _ = simulate(rows, tasks=cores, nodes=cores // 2, node_cores=2)
        assert seconds == pytest.approx(64 * 3 / cores)


def test_a_row_waits_for_the_one_before():
    # alone each row takes its longest item; without the barrier 10 + 1 would run beside 1 + 10
    rows = [Row("first", [Item(10), Item(1)]), Row("second", [Item(1), Item(10)])]
    seconds, _ = simulate(rows, tasks=2, node_cores=2)
    assert seconds == pytest.approx(20)


def test_the_longest_item_is_a_floor_unless_it_has_helpers():
    rows = [Row("row", [Item(80, span=20)] + [Item(1) for _ in range(16)])]
    assert simulate(rows, tasks=17, node_cores=64)[0] == pytest.approx(80)
    assert Item(80, span=20).seconds(1) == 80
    # 15 of 20 cores for it, 4 seconds and the span; 5 cores do the rest beside it
    assert simulate(rows, tasks=20, node_cores=64,
                    policy={"wide_cores": 15})[0] == pytest.approx(60 / 15 + 20)


def test_idle_cores_of_a_task_help():
    # 8 and 4 side by side on 2 cores: at 4 the second core is idle and halves what is left
    rows = [Row("row", [Item(8, span=0), Item(4, span=0)])]
    assert simulate(rows, policy={"task_cores": 2}, node_cores=2)[0] == pytest.approx(6)
    # what cannot be shared is not
    rows = [Row("row", [Item(8), Item(4)])]
    assert simulate(rows, policy={"task_cores": 2}, node_cores=2)[0] == pytest.approx(8)


def test_items_that_need_many_cores_get_them():
    items = [Item(40, span=0), Item(40, span=0), *[Item(10) for _ in range(8)]]
    wide, rest, left = widen(items, 16, 16)
    assert [cores for _, cores in wide] == [4, 4] and len(rest) == 8 and left == 8
    assert widen([Item(1) for _ in range(4)], 4, 4) == ([], [Item(1)] * 4, 4)


@pytest.mark.parametrize("readers, seconds", [(1, 10), (2, 10), (4, 20), (8, 40)])
def test_readers_share_the_file_system(readers, seconds):
    # 1 GB each at 0.1 GB/s of one reader, 0.2 GB/s of all
    rows = [Row("row", [Item(0, read_bytes=1e9) for _ in range(readers)])]
    found, simulation = simulate(rows, tasks=readers, node_cores=readers, total_bandwidth=2e8,
                                 client_bandwidth=1e8)
    assert found == pytest.approx(seconds)
    assert simulation.bytes.moved == pytest.approx(readers * 1e9)
    assert simulation.bytes.busiest <= 2e8 * (1 + 1e-9)


def test_who_leaves_a_link_makes_room():
    clock, ended = Clock(), {}
    link = Link(clock, 10.0, 10.0)
    link.use(100.0, lambda: ended.setdefault("stays", clock.now))
    number = link.use(100.0, lambda: ended.setdefault("gone", clock.now))
    clock.at(10.0, lambda: link.leave(number))  # by then 50 of each have passed
    clock.run_until(lambda: ended)
    assert ended == {"stays": pytest.approx(15.0)}


def test_what_a_start_costs():
    # submitted after 1, started after 2, 100 openings of 0.01 s, 10 MB at 10 MB/s, 3 s of CPU, 5 s
    # of work: ends at 13, seen at 15
    row = Row("row", [Item(5)], open_cpu=3, open_operations=100, open_bytes=1e7)
    seconds, simulation = simulate(
        [row], operation_seconds=0.01, client_bandwidth=1e7,
        policy={"submit_seconds": 1, "start_seconds": (2, 2), "poll_seconds": 5})
    assert simulation.rows[0]["worked"] == pytest.approx(13)
    assert simulation.rows[0]["opening"] == pytest.approx(5)
    assert seconds == pytest.approx(15)


def test_ranks_of_mpi_start_once():
    rows = [Row("row", [Item(1) for _ in range(40)], open_cpu=3)]
    policy = {"start_seconds": (2, 2), "mpi_start_seconds": 2}
    # array: 10 tasks on each of 4 cores, each with its start; MPI: one start, then all the items
    assert simulate(rows, tasks=40, node_cores=4, policy=policy)[0] == pytest.approx(10 * 6)
    assert simulate(rows, tasks=40, node_cores=4,
                    policy={**policy, "mpi": True})[0] == pytest.approx(5 + 10)


def test_tasks_are_heaviest_first_and_alike():
    items = [Item(cpu) for cpu in (7, 1, 5, 3, 3, 5, 1, 7)]
    tasks = batch(items, 4)
    assert [sum(item.cpu for item in task) for task in tasks] == [8, 8, 8, 8]
    assert all(task[0].cpu >= task[-1].cpu for task in tasks)
    assert sorted(item.cpu for task in tasks for item in task) == sorted(i.cpu for i in items)
    assert len(batch(items, 100)) == 8


def test_nodes_that_fail_lose_time_and_no_item():
    rows = [Row(name, [Item(10) for _ in range(32)]) for name in ("first", "second")]
    plain, _ = simulate(rows, tasks=8, nodes=4, node_cores=2)
    seconds, simulation = simulate(rows, tasks=8, nodes=4, node_cores=2, node_mtbf=100.0,
                                   repair_seconds=30.0)
    assert simulation.failures > 0 and simulation.lost_seconds > 0
    assert seconds > plain
    assert simulation.left == 0
    assert all(node.free <= node.cores for node in simulation.nodes)
    again, _ = simulate(rows, tasks=8, nodes=4, node_cores=2, node_mtbf=100.0, repair_seconds=30.0)
    assert again == seconds  # the same seed


def test_a_slow_node_holds_up_its_row():
    rows = [Row("row", [Item(10) for _ in range(4)])]
    seconds, _ = simulate(rows, tasks=4, nodes=4, slow_share=0.25, slow_factor=2.0)
    assert seconds == pytest.approx(20)


def test_the_law_finds_what_made_its_figures():
    generator = np.random.default_rng(0)
    inputs = generator.uniform(1, 100, (12, 3))
    truth = np.array([2.0, 0.0, 0.5])
    assert fit(inputs, inputs @ truth) == pytest.approx(truth, abs=1e-6)
    # one that would be below 0 is left out
    assert fit(inputs[:, :2], inputs @ np.array([2.0, -0.01, 0])).min() >= 0


def test_families_are_whole():
    costs = Costs()
    parameters = {"Llama-8B x 4": 8.03e9, "Llama-70B x 8": 70.55e9, "ViT-L x 200": 0.302e9}
    for name, wanted in parameters.items():
        family = FAMILIES[name]
        assert family.numbers() + family.whole_numbers() == pytest.approx(wanted, rel=0.01)
        rows = rows_of(costs, name)
        assert [row.name for row in rows if row.place == "cluster"] == ["digest", *EACH]
        spans = [item for row in rows if row.name in EACH for item in row.items
                 if item.span is not None]
        assert len(spans) == len(EACH) * len(family.matrices())
        assert all(0 < item.span <= item.cpu for item in spans)


def test_a_family_is_drawn():
    picture = ElementTree.fromstring(draw_scale.picture("F", {"a": {1: (9, 1.0), 4: (3, 0.75)}}))
    line = picture.find("{*}polyline").get("points").split()
    (left, top), (right, lower) = (map(float, point.split(",")) for point in line)
    assert left < right and top < lower


def test_items_that_only_move_bytes_end():
    rows = [Row("row", [Item(0.5, read_bytes=1e6, streams=True) for _ in range(6)])]
    seconds, _ = simulate(rows, policy={"task_cores": 3}, node_cores=3, client_bandwidth=1e6,
                          total_bandwidth=1e9)
    assert seconds == pytest.approx(2)  # two after the other, as long as the bytes take
