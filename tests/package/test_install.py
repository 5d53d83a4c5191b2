# SPDX-License-Identifier: Apache-2.0
"""What `meson install` lays down, and that the library it installs can be built with."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = ["CHANGELOG.md", "README.md", *sorted(path.name for path in DOCS.glob("*.md"))]
EXAMPLES = ["credentials.conf", "didid.conf", "read_package.py", "read_routers.py",
            "serve_package.py", "client.py", "curl.md",
            "cluster/machines.py",
            *(f"mlflow/{path.name}" for path in (DOCS / "examples/mlflow").iterdir()),
            "observability/alerts.yaml", "observability/dashboard.json",
            *(str(path.relative_to(DOCS)) for folder in ("hooks", "proxies")
              for path in sorted((DOCS / folder).iterdir()))]
HEADERS = ["didi.h", *(f"base/{name}.h" for name in (
    "base", "error", "fault", "file", "json_load", "json_scan", "memory", "nearest", "parallel",
    "spill", "text", "words"))]


@pytest.fixture(scope="module")
def build(didid):
    return pathlib.Path(didid).resolve().parents[1]


@pytest.fixture(scope="module")
def options(build):
    """Name -> value of the build's options."""
    text = subprocess.run(["meson", "introspect", "--buildoptions", build], check=True,
                          capture_output=True, text=True).stdout
    return {option["name"]: option["value"] for option in json.loads(text)}


@pytest.fixture(scope="module")
def installed(build, options, tmp_path_factory):
    """The prefix below a directory that stands for the root."""
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", root],
                   check=True, capture_output=True)
    assert sorted(path.name for path in root.iterdir()) == [options["prefix"].split("/")[1]]
    return root / options["prefix"].strip("/")


def expected_files(options, mpi):
    share, library = options["datadir"], options["libdir"]
    documents = f"{share}/doc/didid"
    files = [f"{options['bindir']}/didid", f"{options['bindir']}/didictl",
             f"{library}/libdidi.a", f"{library}/pkgconfig/didi.pc",
             "lib/systemd/system/didid.service", "lib/sysusers.d/didid.conf",
             "lib/tmpfiles.d/didid.conf",
             f"{share}/bash-completion/completions/didictl.bash",
             f"{share}/zsh/site-functions/_didictl",
             f"{share}/fish/vendor_completions.d/didictl.fish"]
    files += [f"{options['includedir']}/didi/{name}" for name in HEADERS]
    files += [f"{documents}/{name}" for name in DOCUMENTS]
    files += [f"{documents}/examples/{name}" for name in EXAMPLES]
    if options["docs"] == "enabled" or (options["docs"] == "auto" and shutil.which("scdoc")):
        files += [f"{options['mandir']}/{page}" for page in (
            "man1/didictl.1", "man5/didid-package.5", "man5/didid.conf.5", "man8/didid.8",
            *(["man8/didid-mpi.8"] if mpi else []))]
    if mpi:
        files.append(f"{options['bindir']}/didid-mpi")
    return sorted(files)


def test_all_that_is_named_is_installed_and_nothing_else(installed, options, build):
    found = sorted(str(path.relative_to(installed)) for path in installed.rglob("*")
                   if path.is_file())
    assert found == expected_files(options, (build / "daemon" / "didid-mpi").exists())


def test_every_document_is_installed():
    written = {path.name for path in (ROOT / "docs").glob("*.md")} | {"README.md", "CHANGELOG.md"}
    assert written == set(DOCUMENTS)


def test_the_unit_starts_what_was_installed(installed, options):
    unit = (installed / "lib/systemd/system/didid.service").read_text()
    assert f"ExecStart={options['prefix']}/{options['bindir']}/didid " in unit


def test_example_settings_are_taken(installed, didid, tmp_path):
    example = (installed / "share/doc/didid/examples/didid.conf").read_text()
    (tmp_path / "didid.conf").write_text(example)
    done = subprocess.run([didid, "--config", tmp_path / "didid.conf", "--check-config"],
                          capture_output=True, text=True, check=True)
    assert "\nstate_dir = /var/lib/didid\n" in done.stdout


PROGRAM = """#include <didi/didi.h>
#include <stdio.h>
int main(void)
{
    didi_error error = {0};
    if (didi_blas_use_one_thread(&error) != DIDI_OK)
        return 1;
    printf("%s %s\\n", didi_version(), didi_stage_name(DIDI_STAGE_REFINE));
    return 0;
}
"""


def test_a_program_is_built_with_the_library(installed, options, tmp_path):
    if options["b_sanitize"] != "none":
        pytest.skip("the library has a sanitizer inside")
    environment = {**os.environ,
                   "PKG_CONFIG_PATH": str(installed / options["libdir"] / "pkgconfig")}
    flags = subprocess.run(
        ["pkg-config", f"--define-variable=prefix={installed}", "--cflags", "--libs", "didi"],
        env=environment, check=True, capture_output=True, text=True).stdout.split()
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run(["cc", "-Wall", "-Werror", "-o", tmp_path / "program", tmp_path / "program.c",
                    *flags], check=True)
    done = subprocess.run([tmp_path / "program"], check=True, capture_output=True, text=True)
    version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text()).group(1)
    assert done.stdout == f"{version} refine\n"


@pytest.mark.parametrize("program", ["didid", "didictl"])
def test_programs_are_hardened(program, didid, didictl, options):
    if options["b_sanitize"] != "none" or shutil.which("readelf") is None:
        pytest.skip("a sanitizer is inside, or there is no readelf")
    path = didid if program == "didid" else didictl

    def shown(*arguments):
        return subprocess.run(["readelf", "-W", *arguments, path], check=True, capture_output=True,
                              text=True).stdout

    assert re.search(r"^\s+Type:\s+DYN", shown("-h"), re.MULTILINE)
    segments = shown("-l")
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK.* RW +0x", segments)
    assert re.search(r"FLAGS_1.*NOW.*PIE", shown("-d"))
    symbols = shown("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", ""))
