# SPDX-License-Identifier: Apache-2.0
"""The worked example of docs/operations.md, run as it stands: only places, names and the port are
others, and a few lines of shell stand in for systemd and runuser."""

import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest

from service import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECTION = re.search(r"^## On a network$(.*?)^## ", (ROOT / "docs/operations.md").read_text(),
                    re.MULTILINE | re.DOTALL)[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)

RULES = re.search(r"^```nft\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)[1]
# Two machines on one cable: the first has the rules, the second two addresses.
CABLE = """ip link set lo up
ip link add here type veth peer name there
ip address add 10.0.0.1/8 dev here
ip address add 192.168.7.1/24 dev here
ip link set here up
unshare --net sleep 300 &
other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set there netns $other
nsenter --net=/proc/$other/ns/net sh -eu -c 'ip address add 10.0.0.2/8 dev there
    ip address add 192.168.7.2/24 dev there
    ip link set there up'
nft --file rules
python3 -m http.server --bind 0.0.0.0 7878 > /dev/null 2>&1 &
server=$!
trap 'kill $other $server' EXIT
until curl --fail --silent http://127.0.0.1:7878/ > /dev/null; do sleep 0.05; done
ask() {
    address=$1
    shift
    nsenter --net=/proc/$other/ns/net curl --silent --output /dev/null --write-out "%{http_code} " \
        --interface $address.2 "$@" http://$address.1:7878/ || true
}
ask 10.0.0 --retry 60 --retry-delay 1 --retry-all-errors
ask 192.168.7 --max-time 3
"""

RUNUSER = """shift 3
exec "$@"
"""
# What systemd does: credentials into a directory of the service's own, then the service.
SYSTEMCTL = """[ "$1" = restart ] || exit 0
mkdir -p "$RUN/credentials"
sed -n 's/^LoadCredential=//p' "$ETC/systemd/system/didid.service.d/network.conf" |
while IFS=: read -r name path; do cp "$path" "$RUN/credentials/$name"; done
CREDENTIALS_DIRECTORY="$RUN/credentials" "$DIDID" --config "$ETC/didid/didid.conf" \
    < /dev/null > "$RUN/didid.log" 2>&1 &
echo $! > "$RUN/pid"
"""


class Machine:
    """Runs blocks of the page below a directory."""

    def __init__(self, root, port, didid, didictl):
        self.root, self.port = root, port
        tools = root / "tools"
        for place in ("etc/didid", "var/lib/didid", "admin", "run", "client", "tools"):
            (root / place).mkdir(parents=True)
        for name, text in {"runuser": RUNUSER, "systemctl": SYSTEMCTL,
                           "didid": f'exec {didid} "$@"\n',
                           "didictl": f'exec {didictl} "$@"\n'}.items():
            (tools / name).write_text("#!/bin/sh\nset -eu\n" + text)
            (tools / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DIDI")}
        self.environment = {**kept, "PATH": f"{tools}:{os.environ['PATH']}", "DIDID": str(didid),
                            "RUN": str(root / "run"), "ETC": str(root / "etc"),
                            "XDG_CONFIG_HOME": ""}

    def here(self, text):
        """The page's places as they are here."""
        text = re.sub(r"(?<![\w.])/(etc|var/lib)/", rf"{self.root}/\1/", text)
        return (text.replace("didid.example.org", "localhost").replace("7878", str(self.port))
                .replace("0.0.0.0", "127.0.0.1"))

    def run(self, block, home):
        home = self.root / home
        done = subprocess.run(["sh", "-eu", "-c", self.here(block)], cwd=home, check=False,
                              env={**self.environment, "HOME": str(home)}, capture_output=True,
                              text=True, timeout=120)
        log = self.root / "run" / "didid.log"
        assert done.returncode == 0, (block, done.stdout, done.stderr,
                                      log.read_text() if log.exists() else "")
        return done.stdout

    def stop(self):
        """Ends the daemon, which is no child of ours."""
        if not (self.root / "run" / "pid").exists():
            return
        pid = int((self.root / "run" / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while pathlib.Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
            time.sleep(0.05)


@pytest.fixture
def machine(tmp_path, family, didid, didictl):
    made = Machine(tmp_path / "machine", free_port(), didid, didictl)
    settings = (ROOT / "systemd/didid.conf").read_text().replace("/var/lib/didid-models",
                                                                 str(family))
    (made.root / "etc/didid/didid.conf").write_text(made.here(settings))
    yield made
    made.stop()


def test_the_worked_example(machine):
    *server, client = BLOCKS
    assert "didictl login" in client and len(server) == 5
    said = [machine.run(block, "admin") for block in server]
    assert said[3] == '{"status":"ok"}'
    secrets = [machine.root / "admin/first.token", machine.root / "admin/laptop.token",
               machine.root / "etc/didid/credentials/tls.key"]
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    shutil.copy(machine.root / "etc/didid/credentials/authority.pem", machine.root / "client")
    shutil.copy(machine.root / "admin/laptop.token", machine.root / "client")
    said = machine.run(client, "client")
    assert "ready" in said and not (machine.root / "client/laptop.token").exists()
    # It is the token that lets them in, and TLS that they speak.
    url = f"https://localhost:{machine.port}"
    authority = machine.root / "etc/didid/credentials/authority.pem"
    strangers = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert",
                                authority, url + "/v1/jobs"], check=True, capture_output=True,
                               text=True, timeout=60).stdout
    assert strangers == "401"
    log = (machine.root / "run/didid.log").read_text()
    assert "there is no token" not in log and "Sanitizer" not in log
    # A submitter is no administrator.
    refused = subprocess.run([machine.root / "tools/didictl", "token", "ls"], check=False,
                             env={**machine.environment, "HOME": str(machine.root / "client")},
                             capture_output=True, text=True, timeout=60)
    assert refused.returncode == 4, refused.stderr


def test_the_firewall_lets_only_clients_in(tmp_path):
    lacking = [word for word in ("nft", "ip", "nsenter") if not shutil.which(word)]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"needs root, {', '.join(lacking)}")
    (tmp_path / "rules").write_text(RULES)
    done = subprocess.run(["unshare", "--net", "sh", "-eu", "-c", CABLE], cwd=tmp_path, check=True,
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("200 000 "), (done.stdout, done.stderr)
