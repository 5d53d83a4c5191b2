# SPDX-License-Identifier: Apache-2.0
"""Writes the list of settings in didid.conf.5.scd from daemon/base/config_table.h, which the daemon
goes by; with --check tells whether it is up to date."""

import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parent
TABLE = DOCS.parent / "daemon" / "base" / "config_table.h"
TRANSFERS = TABLE.with_name("config_transfer_table.h")  # which the table takes in
PAGE = DOCS / "didid.conf.5.scd"
BEGIN, END = "# SETTINGS\n", "# EXAMPLES\n"
TEXT = r'"(?:[^"\\]|\\.)*"'
ROW = re.compile(r'X\((\w+), (\w+), "([^"]*)", "([^"]*)", (\w+), (\w+),'
                 rf'((?:\s*{TEXT})+)\)')
VALUES = {"PATH": "PATH", "PATHS": "DIR", "TEXT": "TEXT", "INTEGER": "N", "CHOICE": "WORD"}


def escaped(text):
    """For scdoc: its marks are not ours."""
    return re.sub(r"([*_\\<>\[\]])", r"\\\1", text)


def settings():
    text = TABLE.read_text().replace("CONFIG_TRANSFER_TABLE(X)", TRANSFERS.read_text())
    text = text.replace("\\\n", "")
    for key, kind, unit, initial, lowest, highest, words in ROW.findall(text):
        said = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', words)).replace('\\"', '"')
        yield key, kind, unit, initial, lowest, highest, said


def entry(key, kind, unit, initial, lowest, highest, said):
    value = VALUES[kind.removesuffix("_LIVE")]
    lines = [f"*{escaped(key)}* = _{value}_", f"\t{escaped(said[0].upper() + said[1:])}."]
    facts = []
    if kind.startswith("INTEGER"):
        end = "" if highest == "INT64_MAX" else f" to {highest}"
        facts.append(f"From {lowest}{end}{' ' + unit if unit else ''}.")
    if initial:
        facts.append(f"Default: {escaped(initial)}.")
    if kind.endswith("_LIVE"):
        facts.append("Taken anew on SIGHUP.")
    if facts:
        lines.append("\t" + " ".join(facts))
    return "\n".join(lines) + "\n"


def page():
    """The page as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = "\n".join(entry(*setting) for setting in settings())
    return f"{before}{BEGIN}\n{body}\n{END}{after}"


if __name__ == "__main__":
    made = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == PAGE.read_text() else f"{PAGE.name} is not that of {TABLE.name}")
    PAGE.write_text(made)
