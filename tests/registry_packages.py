# SPDX-License-Identifier: Apache-2.0
"""Virtual environments of Python beside the build, with packages from the package registry."""

import contextlib
import fcntl
import pathlib
import shutil
import subprocess
import sys

INSTALL_SECONDS = 600


class Missing(Exception):
    """No registry that answers, or no package."""


@contextlib.contextmanager
def made_once(place, wanted):
    """A context for who makes the folder, one process at a time; it yields False where it was made
    before, from the same text."""
    made = place / "wanted.txt"
    place.parent.mkdir(exist_ok=True)
    with open(place.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and made.read_text(encoding="utf-8") == wanted:
            yield False
            return
        made.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        yield True
        made.write_text(wanted, encoding="utf-8")


def pip(folder):
    """One for all environments: to put it into each takes longer than what it installs there."""
    place = folder / "pip"
    with made_once(place, "") as make:
        if make:
            subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True)
    return place / "bin/pip"


def environment(build, name, wanted, *options, system=False):
    """The folder build/environments/NAME with what the text asks for, as pip reads requirements;
    made anew when that changes. options: pip's; system: Debian's packages are there too."""
    folder = pathlib.Path(build).resolve() / "environments"
    place = folder / name
    with made_once(place, wanted) as make:
        if not make:
            return place
        subprocess.run([sys.executable, "-m", "venv", "--without-pip",
                        *(["--system-site-packages"] if system else []), place],
                       check=True, capture_output=True)
        requirements = place / "requirements.txt"
        requirements.write_text(wanted, encoding="utf-8")
        installed = subprocess.run(
            [pip(folder), "--python", place / "bin/python", "install", "-q", *options,
             "-r", requirements],
            capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        if installed.returncode != 0:
            raise Missing(f"what {name} needs could not be installed from the package registry: "
                          + installed.stderr.strip().splitlines()[-1])
    return place
