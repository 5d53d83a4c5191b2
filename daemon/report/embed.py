#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Joins what reports carry into one script and one style sheet, as C arrays with their digests:

    embed.py OUTPUT DASHBOARD REPORT

Modules are those that REPORT/report.js imports, and what these import, from the folder of the
dashboard: each becomes a function that is called once and returns what it exports. Imports and
exports of other forms than those used there end the build."""
import base64
import hashlib
import pathlib
import re
import sys

IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)
OTHER = re.compile(r"^\s*(?:import|export)\b.*|\bimport\s*[(.].*", re.MULTILINE)
DARK = "@media (prefers-color-scheme: dark)"
STYLES = ("colours.css", "vendor/uPlot.min.css", "drawings/drawings.css")
# A report is paper, of light colours whatever the reader's screen is.
ALWAYS_LIGHT = ("const matchMedia = () => "
                "({ matches: false, addEventListener() {}, removeEventListener() {} });\n")


def fail(text):
    sys.exit(f"embed.py: {text}")


def renamed(names):
    """{ a, b as c } of an import as the pattern of a declaration."""
    return re.sub(r"(\w+) as (\w+)", r"\1: \2", " ".join(names.split()))


class Bundle:
    """Modules by their path, each after those that it imports."""

    def __init__(self):
        self.order = {}  # path -> variable, None while it is being added

    def add(self, path):
        """The module and what it imports. Returns the names of their text."""
        if path in self.order:
            if self.order[path] is None:
                fail(f"{path} imports itself, by way of others")
            return ""
        self.order[path] = None
        text = path.read_text(encoding="utf-8")
        before = []

        def imported(match):
            other = (path.parent / match[2]).resolve()
            before.append(self.add(other))
            return f"const {{{renamed(match[1])}}} = {self.order[other]};\n"

        text = IMPORT.sub(imported, text)
        exports = EXPORT.findall(text)
        text = EXPORT.sub("", text)
        if other := OTHER.search(text):
            fail(f"{path}: no import or export that is known here: {other[0]}")
        variable = f"module{sum(1 for one in self.order.values() if one is not None)}"
        self.order[path] = variable
        return ("".join(before) + f"const {variable} = (() => {{\n{text}"
                f"return {{ {', '.join(exports)} }};\n}})();\n")


def script_of(dashboard, report):
    notice = (dashboard / "vendor/uPlot.LICENSE.txt").read_text(encoding="utf-8").strip()
    chart = (dashboard / "vendor/uPlot.min.js").read_text(encoding="utf-8").strip()
    text = (f"/* uPlot:\n{notice} */\n(() => {{\n\"use strict\";\n{ALWAYS_LIGHT}{chart}\n"
            + Bundle().add(report / "report.js") + "})();\n")
    if re.search(r"</?script|<!--", text, re.IGNORECASE):
        fail("the script holds what would end it inside a page")
    return text


def style_of(dashboard, report):
    paths = [*(dashboard / name for name in STYLES), report / "report.css"]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    return text.replace("color-scheme: light dark", "color-scheme: light").replace(
        DARK, "@media not all")


def array(name, text):
    data = text.encode("utf-8")
    lines = [", ".join(str(byte) for byte in data[at:at + 24]) for at in range(0, len(data), 24)]
    return f"static const unsigned char {name}[] = {{\n    " + ",\n    ".join(lines) + "};\n"


def source(text):
    """As a Content-Security-Policy names what is inline."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
    return f"'sha256-{digest}'"


def main():
    output, dashboard, report = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    script = script_of(dashboard, report)
    style = style_of(dashboard, report)
    output.write_text(
        "/* Made by daemon/report/embed.py. */\n#pragma once\n\n"
        f'#define REPORT_SCRIPT_SOURCE "{source(script)}"\n'
        f'#define REPORT_STYLE_SOURCE "{source(style)}"\n'
        + array("report_script", script) + array("report_style", style), encoding="utf-8")


main()
