#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Debian packages in a root of their own under a booted systemd: installed, upgraded, removed.

  install_root.py DIRECTORY

DIRECTORY has the packages. A root is made of Debian's, booted by systemd-nspawn without a network,
and runs install_root.sh as a unit; what that prints and its last word are this program's. Needs to
be root. It stays off the machine's own packages, users and services.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FAMILY = HERE.parent / "family" / "glyphmini"
BOOT_SECONDS = 300
UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /try/try.sh
StandardOutput=file:/try/out
StandardError=file:/try/out
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=default.target
"""


def field(package, name):
    return subprocess.run(["dpkg-deb", "-f", package, name], check=True, capture_output=True,
                          text=True).stdout.strip()


def debian_packages(packages):
    """Names of what the packages depend on; of alternatives, the first."""
    names = set()
    for package in packages:
        for entry in field(package, "Depends").split(","):
            names.add(re.split(r"[\s|(:]", entry.strip())[0])
    return sorted(names - {"", "didid", "didid-mpi", "didictl", "libdidi-dev"})


def make_newer(package, place):
    """The same package under a higher version."""
    with tempfile.TemporaryDirectory() as tree:
        subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
        control = pathlib.Path(tree) / "DEBIAN" / "control"
        control.write_text(re.sub(r"^(Version: .*)$", r"\1+newer", control.read_text(),
                                  flags=re.MULTILINE))
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, place], check=True,
                       stdout=subprocess.DEVNULL)


def make_root(root, packages):
    included = ",".join(["systemd", "systemd-sysv", *debian_packages(packages)])
    subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={included}", "--quiet",
                    "bookworm", root], check=True)
    place = root / "try"
    (place / "newer").mkdir(parents=True)
    for package in packages:
        shutil.copy(package, place)
        make_newer(package, place / "newer")
    shutil.copytree(FAMILY, place / "family")
    shutil.copy(HERE / "install_root.sh", place / "try.sh")
    unit = root / "etc" / "systemd" / "system" / "try.service"
    unit.write_text(UNIT)
    wants = unit.parent / "default.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "try.service").symlink_to("../try.service")


def boot(root):
    """Boots the root until it powers itself off; what the script printed."""
    with tempfile.TemporaryFile() as console:
        done = subprocess.run(
            ["systemd-nspawn", "--quiet", "--directory", root, "--private-network", "--boot",
             "--register=no", "--keep-unit", "--console=pipe"],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, check=False,
            timeout=BOOT_SECONDS)
        out = root / "try" / "out"
        if out.is_file():
            return out.read_text(errors="replace")
        console.seek(0)
        sys.exit(f"install_root: no systemd could be booted here (status {done.returncode}):\n"
                 + console.read().decode(errors="replace")[-3000:])


def main():
    packages = sorted(pathlib.Path(sys.argv[1]).glob("*.deb"))
    packages = [package for package in packages if "dbgsym" not in package.name]
    if not packages:
        sys.exit(f"install_root: no packages in {sys.argv[1]}")
    with tempfile.TemporaryDirectory(prefix="didid-root-") as place:
        root = pathlib.Path(place) / "root"
        make_root(root, packages)
        text = boot(root)
    print(text, end="")
    passed = text.endswith("\ninstall_root: all passed\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
