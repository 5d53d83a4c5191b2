#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Joins what reports carry into one script and one style sheet, as C arrays with their digests:

    embed.py ESBUILD OUTPUT DASHBOARD REPORT

Modules are those that REPORT/report.js imports, and what these import, from the folder of the
dashboard."""
import base64
import hashlib
import pathlib
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dashboard"))
from bundle import array, bundle, fail  # noqa: E402 (paths come first)

DARK = "@media (prefers-color-scheme: dark)"
STYLES = ("colours.css", "vendor/uPlot.min.css", "drawings/drawings.css")
# A report is paper, of light colours whatever the reader's screen is.
ALWAYS_LIGHT = ("const matchMedia = () => "
                "({ matches: false, addEventListener() {}, removeEventListener() {} });\n")


def script_of(esbuild, dashboard, report):
    notice = (dashboard / "vendor/uPlot.LICENSE.txt").read_text(encoding="utf-8").strip()
    chart = (dashboard / "vendor/uPlot.min.js").read_text(encoding="utf-8").strip()
    text = (f"/* uPlot:\n{notice} */\n(() => {{\n\"use strict\";\n{ALWAYS_LIGHT}{chart}\n"
            + bundle(esbuild, report / "report.js", "iife")[0] + "})();\n")
    if re.search(r"</?script|<!--", text, re.IGNORECASE):
        fail("the script holds what would end it inside a page")
    return text


def style_of(dashboard, report):
    paths = [*(dashboard / name for name in STYLES), report / "report.css"]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    return text.replace("color-scheme: light dark", "color-scheme: light").replace(
        DARK, "@media not all")


def source(text):
    """As a Content-Security-Policy names what is inline."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
    return f"'sha256-{digest}'"


def main():
    esbuild = sys.argv[1]
    output, dashboard, report = (pathlib.Path(argument).resolve() for argument in sys.argv[2:])
    script = script_of(esbuild, dashboard, report)
    style = style_of(dashboard, report)
    output.write_text(
        "/* Made by daemon/report/embed.py. */\n#pragma once\n\n"
        f'#define REPORT_SCRIPT_SOURCE "{source(script)}"\n'
        f'#define REPORT_STYLE_SOURCE "{source(style)}"\n'
        + array("report_script", script.encode("utf-8"))
        + array("report_style", style.encode("utf-8")), encoding="utf-8")


main()
