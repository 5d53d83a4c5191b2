# SPDX-License-Identifier: Apache-2.0
"""What surrounds tests: Python environments beside the build, with packages from the package
registry, and the kernel."""

import ctypes
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from warm_python import Warm

INSTALL_SECONDS = 600


def environment(didid, requirements, *, system=False):
    """The folder of programs of an environment named after the folder that the requirements lie in;
    made anew when they change, by one suite at a time; a skip where no registry answers.

    Modules are compiled as they are first used, not all of them here, which takes longer than the
    rest: so whoever runs a program of it from here on may keep what it compiled."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    build = pathlib.Path(didid).resolve().parents[1]
    place = build / "environments" / requirements.parent.name
    wanted = requirements.read_text(encoding="utf-8")
    made = place / "requirements.txt"
    place.parent.mkdir(exist_ok=True)
    with open(place.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(place, ignore_errors=True)
            options = ["--system-site-packages"] if system else []
            subprocess.run([sys.executable, "-m", "venv", *options, place], check=True,
                           capture_output=True)
            installed = subprocess.run(
                [place / "bin/pip", "install", "-q", "--no-deps", "--no-compile", "-r",
                 requirements], capture_output=True, text=True, timeout=INSTALL_SECONDS,
                check=False)
            if installed.returncode != 0:
                pytest.skip(f"what {requirements.parent.name}/{requirements.name} lists could not "
                            "be installed from the package registry: "
                            + installed.stderr.strip().splitlines()[-1])
            made.write_text(wanted, encoding="utf-8")
    return place / "bin"


def hub_python(didid, folder, modules, variables):
    """A context of the interpreter with transformers and PEFT beside Debian's PyTorch, which has
    imported the modules; a skip without that. variables: its environment; folder: an empty one."""
    torch = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False)
    if torch.returncode != 0:
        pytest.skip("python3-torch is not installed")
    requirements = pathlib.Path(__file__).resolve().parent / "hub" / "requirements.txt"
    return Warm(environment(didid, requirements, system=True) / "python", folder, modules,
                variables)


def confines_scorers():
    """The kernel has Landlock: 444 is landlock_create_ruleset wherever Linux runs, and asked for
    its version."""
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0
