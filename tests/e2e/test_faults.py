# SPDX-License-Identifier: Apache-2.0
"""Disks and allocators that fail: a clear error and nothing half-written, or the right result."""

import pytest

import artifacts

# The first passes are the likeliest to be wrong, the later ones are many of a kind.
PASSES = (1, 2, 3, 5, 8, 13, 21, 34)
ALLOCATIONS = (*range(1, 40, 3), 55, 89, 144, 233, 377, 610, 987, 1597)


@pytest.fixture
def survives(run, models, small_specification):
    """Runs with a fault armed; gives the outcome after checking that it is whole or absent."""
    wanted = artifacts.digests(run(small_specification(), models).out)

    def check(fault):
        outcome = run(small_specification(), models, "--workers", "1", status=None,
                      environment={"DIDI_FAULT": fault})
        if outcome.status == 0:
            assert artifacts.digests(outcome.out) == wanted
        else:
            assert outcome.status == 1, (outcome.status, outcome.stderr)
            assert not outcome.out.exists() or not any(outcome.out.iterdir())
        return outcome

    return check


@pytest.mark.parametrize("number", PASSES)
def test_disk_full(survives, number):
    outcome = survives(f"pwrite:{number}+:ENOSPC")
    if outcome.status != 0:
        assert "space" in outcome.stderr


def test_disk_full_is_noticed(survives):
    assert survives("pwrite:1+:ENOSPC").status == 1


@pytest.mark.parametrize("point", ["pwrite", "fsync", "rename"])
@pytest.mark.parametrize("number", PASSES)
def test_disk_that_fails_once(survives, point, number):
    survives(f"{point}:{number}:EIO")


@pytest.mark.parametrize("number", ALLOCATIONS)
def test_out_of_memory(survives, number):
    outcome = survives(f"alloc:{number}")
    if outcome.status != 0:
        assert "memory" in outcome.stderr
