# SPDX-License-Identifier: Apache-2.0
"""Clients behind a trusted proxy: limits, refusals and the log go by their addresses."""

import json
import subprocess
import time

import pytest

from wire import Wire

LIMITS = ["--http-requests-per-second", "1", "--http-requests-burst", "3", "--log-requests", "1"]


def of(client):
    return {"X-Forwarded-For": client}


def lines_now(daemon, address):
    return [line for line in daemon.log().splitlines() if f"address={address} " in line]


def lines(daemon, address):
    """Lines of the log that name this address; they are written beside the answer."""
    for _ in range(100):
        if found := lines_now(daemon, address):
            return found
        time.sleep(0.05)
    return []


@pytest.fixture
def behind(family, start_daemon):
    return start_daemon(family, *LIMITS, "--trusted-proxies", "127.0.0.1,192.0.2.0/24")


def test_each_client_has_a_rate_of_its_own(behind):
    wire = Wire(behind.url)
    # The left of the list is what the client says itself: it changes nothing.
    seen = [wire.request("GET", "/v1/version", headers=of(f"203.0.113.{i}, 198.51.100.1")).status
            for i in range(8)]
    assert seen[:3] == [200] * 3 and 429 in seen
    assert wire.request("GET", "/v1/version", headers=of("198.51.100.2")).status == 200
    assert wire.request("GET", "/v1/version", headers={
        "Forwarded": "for=198.51.100.3;proto=https"}).status == 200
    assert wire.request("GET", "/v1/version").status == 200
    # One household of IPv6 is one.
    seen = [wire.request("GET", "/v1/version", headers=of(f"2001:db8::{i}")).status
            for i in range(1, 9)]
    assert 429 in seen
    for address in ["198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1", "127.0.0.1"]:
        assert lines(behind, address), address
    assert not lines_now(behind, "203.0.113.1")


@pytest.mark.parametrize("headers", [
    {"X-Forwarded-For": "unknown"}, {"X-Forwarded-For": ""}, {"Forwarded": "for=_hidden"},
    {"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=198.51.100.1"}])
def test_what_names_no_address_is_refused(behind, headers):
    answer = Wire(behind.url).request("GET", "/v1/version", headers=headers)
    assert answer.status == 400 and answer.problem() == "malformed-request"
    assert answer.json()["parameter"] in headers


def test_others_are_not_believed(family, start_daemon):
    daemon = start_daemon(family, *LIMITS, "--trusted-proxies", "192.0.2.0/24")
    wire = Wire(daemon.url)
    seen = [wire.request("GET", "/v1/version", headers=of(f"198.51.100.{i}")).status
            for i in range(8)]
    assert 429 in seen
    assert lines(daemon, "127.0.0.1") and not lines_now(daemon, "198.51.100.1")
    wire = Wire(start_daemon(family).url)
    assert wire.request("GET", "/v1/version", headers=of("nonsense")).status == 200


def test_wrong_tokens_count_for_the_client(didid, family, tmp_path, start_daemon):
    state = tmp_path / "state"
    subprocess.run([didid, "token", "create", "--state-dir", state, "--name", "a", "--scope",
                    "admin"], check=True, capture_output=True, timeout=60)
    daemon = start_daemon(family, "--trusted-proxies", "127.0.0.1", state=state)
    wire = Wire(daemon.url)
    wrong = {"Authorization": "Bearer wrong"}
    seen = [wire.request("GET", "/v1/jobs", headers=wrong | of("198.51.100.1")).status
            for _ in range(12)]
    assert seen == [401] * 10 + [429] * 2
    assert wire.request("GET", "/v1/jobs", headers=wrong | of("198.51.100.2")).status == 401
    assert lines(daemon, "198.51.100.2")


def test_bad_deliveries_count_for_the_client(behind_hooks):
    seen = [behind_hooks("198.51.100.1") for _ in range(11)]
    assert seen == [404] * 10 + [429]
    assert behind_hooks("198.51.100.2") == 404


def test_bad_deliveries_of_one_network_of_ipv6_count_together(behind_hooks):
    seen = [behind_hooks(f"2001:db8::{i:x}") for i in range(1, 12)]
    assert seen == [404] * 10 + [429]
    assert behind_hooks("2001:db8:0:1::1") == 404


@pytest.fixture
def behind_hooks(family, start_daemon):
    """Sends a delivery to a hook that is not there, of a client's address: the status."""
    wire = Wire(start_daemon(family, "--trusted-proxies", "127.0.0.1").url)
    return lambda client: wire.request("POST", "/v1/hooks/none", json.dumps({}), of(client) | {
        "Content-Type": "application/json"}).status


@pytest.mark.parametrize("value", ["proxy.example.org", "10.0.0.0/33", "127.0.0.1,"])
def test_a_bad_setting_ends_the_start(didid, family, tmp_path, value):
    done = subprocess.run([didid, "--state-dir", tmp_path / "state", "--models", family, "--listen",
                           "127.0.0.1:0", "--trusted-proxies", value], check=False,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "trusted_proxies" in done.stderr
