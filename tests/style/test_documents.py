# SPDX-License-Identifier: Apache-2.0
"""Documents agree with what they are about."""

import re
import shutil
import subprocess
import sys

import pytest

import sources


def test_the_page_of_the_interface_is_up_to_date():
    pytest.importorskip("yaml")
    script = sources.ROOT / "docs" / "generate_api.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)


def test_the_contract_says_nothing_twice():
    """YAML takes the last of two keys: the first would be lost to whoever reads the contract."""
    yaml = pytest.importorskip("yaml")
    twice = []

    class Loader(yaml.SafeLoader):
        """Notes keys that a mapping has already."""

        def construct_mapping(self, node, deep=False):
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    twice.append(f"line {key.start_mark.line + 1}: {key.value}")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    contract = yaml.load(sources.text("proto/openapi.yaml"), Loader)
    names = [operation["operationId"] for path in contract["paths"].values()
             for operation in path.values() if "operationId" in operation]
    twice += [f"operationId {name}" for name in sorted(set(names)) if names.count(name) > 1]
    assert not twice, "\n".join(twice)


def test_words_of_run_are_documented():
    words = re.search(r"^(demo \|[^)]*)\)", sources.text("run"), re.MULTILINE).group(1).split(" | ")
    text = subprocess.run(["sh", "run", "help"], cwd=sources.ROOT, capture_output=True, text=True,
                          check=True).stdout
    missing = [word for word in (*words, "test") if not re.search(rf"^  {word}\b", text, re.M)]
    assert not missing, missing


def test_the_build_knows_every_test_file():
    build = sources.text("tests/meson.build")
    lost = [path for path in sources.files()
            if path.match("tests/e2e/test_*.py") and f"'{path.name}'" not in build]
    assert not lost, lost


def test_the_manual_page_of_settings_is_up_to_date():
    script = sources.ROOT / "docs" / "generate_settings.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)
    rows = re.findall(r"^ +X\((\w+), ", sources.text("daemon/base/config_table.h") +
                      sources.text("daemon/base/config_transfer_table.h"), re.MULTILINE)
    page = sources.text("docs/didid.conf.5.scd").replace("\\", "")
    assert rows and not [row for row in rows if f"\n*{row}* = " not in page]


@pytest.mark.parametrize("page", ["didictl.1", "didid.8", "didid.conf.5", "didid-package.5"])
def test_manual_pages_are_clean(page, tmp_path):
    if not shutil.which("scdoc") or not shutil.which("mandoc"):
        pytest.skip("there is no scdoc or no mandoc")
    made = subprocess.run(["scdoc"], input=sources.text(f"docs/{page}.scd"), check=True,
                          capture_output=True, text=True).stdout
    (tmp_path / page).write_text(made)
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", tmp_path / page], check=False,
                          capture_output=True, text=True)
    # What scdoc writes before every list and heading does no harm.
    said = [line for line in done.stdout.splitlines() if "skipping paragraph macro" not in line]
    assert not said, said
