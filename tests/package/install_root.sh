#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs inside the booted root of install_root.py; the first command that fails ends it.
set -eu
export DEBIAN_FRONTEND=noninteractive HOME=/root LC_ALL=C.UTF-8

step() {
    printf '\n== %s\n' "$*"
}

ended() {
    status=$?
    [ "$status" -eq 0 ] && return
    systemctl status didid --no-pager --full || true
    journalctl -u didid --no-pager -n 40 || true
    printf '\ninstall_root: failed\n'
}
trap ended EXIT

# ready [HOST]: didid answers within half a minute
ready() {
    for _ in $(seq 60); do
        if didictl ${1:+--host "$1"} version >/dev/null 2>&1; then return 0; fi
        sleep 0.5
    done
    didictl ${1:+--host "$1"} version
}

digests() {
    (cd /var/lib/didid/jobs && find . -path '*/artifacts/*' -type f -exec sha256sum {} + | sort)
}

step install
dpkg -i /try/*.deb
systemctl is-active didid
systemctl is-enabled didid
getent passwd didid
test "$(stat -c '%U %a' /var/lib/didid)" = 'didid 700'
ready

step 'the unit closes what it should and the daemon runs in it'
pid=$(systemctl show -P MainPID didid)
grep -q '^NoNewPrivs:.*1' "/proc/$pid/status"
grep -q '^CapEff:.*0000000000000000' "/proc/$pid/status"
grep -q '^Seccomp:.*2' "/proc/$pid/status"
grep -q '^Max core file size *0 ' "/proc/$pid/limits"
test "$(stat -c %U "/proc/$pid")" = didid
systemd-analyze security --no-pager --threshold=12 didid | tail -n 1

step merge
cp -r /try/family /var/lib/didid-models/glyphmini
chmod -R a+rX /var/lib/didid-models
didictl model rescan
job=$(didictl submit --base glyphmini/base --task latin=glyphmini/tasks/latin \
    --task mnist=glyphmini/tasks/mnist --budget 1.24 --wait --quiet -o name | head -n 1)
didictl pull "$job" /tmp/pulled --quiet
test -s /tmp/pulled/shared.safetensors
journalctl -u didid --no-pager | grep -v 'there is no token' >/tmp/journal
if grep -E 'level=(error|warning)' /tmp/journal; then exit 1; fi
before=$(digests)
test -n "$before"

step 'reload, and a crash that systemd notices'
systemctl reload didid
ready
test "$(systemctl show -P MainPID didid)" = "$pid"
kill -9 "$pid"
sleep 3
ready
test "$(systemctl show -P MainPID didid)" != "$pid"
test "$(systemctl show -P NRestarts didid)" = 1

step 'a socket for a group, and a secret that only root can read'
mkdir -p /etc/didid/credentials /etc/systemd/system/didid.service.d
(umask 077 && echo hf_secret >/etc/didid/credentials/hub-token)
grep -v tls- /usr/share/doc/didid/examples/credentials.conf \
    >/etc/systemd/system/didid.service.d/credentials.conf
cp /etc/didid/didid.conf /tmp/didid.conf
cat >>/etc/didid/didid.conf <<'TEXT'
fetch_dir = /var/lib/didid/hub
hub_endpoint = https://hub.invalid
hub_token_file = /run/credentials/didid.service/hub-token
TEXT
sed -i 's,^listen = .*,listen = unix:/run/didid/didid.sock,' /etc/didid/didid.conf
install -d -o didid -g didid -m 700 /var/lib/didid/hub
systemctl daemon-reload
systemctl restart didid
ready unix:/run/didid/didid.sock
test "$(stat -c '%U %G %a' /run/didid/didid.sock)" = 'didid didid 660'
cp /tmp/didid.conf /etc/didid/didid.conf
rm -r /etc/systemd/system/didid.service.d
systemctl daemon-reload
systemctl restart didid
ready

step upgrade
echo '# edited' >>/etc/didid/didid.conf
dpkg -i /try/newer/*.deb
dpkg-query -W -f '${Package} ${Version}\n' didid didictl libdidi-dev | grep -c '+newer$' | grep -qx 3
ready
tail -n 1 /etc/didid/didid.conf | grep -qx '# edited'
didictl show "$job" -o json | grep -q '"state": "succeeded"'
test "$(digests)" = "$before"

step remove
dpkg -r didid didictl libdidi-dev
test ! -e /usr/bin/didid
test ! -e /lib/systemd/system/didid.service
if systemctl is-active didid; then exit 1; fi
test "$(digests)" = "$before"
test -s /var/lib/didid/didid.db

step purge
dpkg -P didid didictl libdidi-dev
test ! -e /etc/didid/didid.conf
test ! -e /var/lib/didid/didid.db
test "$(digests)" = "$before"
test -d /var/lib/didid-models/glyphmini

printf '\ninstall_root: all passed\n'
