# SPDX-License-Identifier: Apache-2.0
"""What surrounds tests: Python environments beside the build, with packages from the package
registry, and the kernel."""

import ctypes
import os
import pathlib
import subprocess
import sys

import pytest

import registry_packages
from warm_python import Warm


def programs(didid, name, wanted, *options, system=False):
    """The folder of programs of an environment of registry_packages; a skip without it. Modules are
    compiled as they are first used, not all of them here, which takes longer than the rest: so
    whoever runs a program of it from here on may keep what it compiled."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    build = pathlib.Path(didid).resolve().parents[1]
    try:
        return registry_packages.environment(build, name, wanted, "--no-compile", *options,
                                             system=system) / "bin"
    except registry_packages.Missing as reason:
        pytest.skip(str(reason))


def environment(didid, requirements, *, system=False):
    """That of the folder that the requirements lie in, which are all that it takes."""
    return programs(didid, requirements.parent.name, requirements.read_text(encoding="utf-8"),
                    "--no-deps", system=system)


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
