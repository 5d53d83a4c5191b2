# SPDX-License-Identifier: Apache-2.0
"""What both pages' embed.py need: modules and style sheets joined by esbuild, and C arrays."""
import json
import pathlib
import subprocess
import sys
import tempfile

# docs/dashboard.md says which browsers
TARGET = "chrome116,firefox124,safari17.4"


def fail(text):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {text}")


def bundle(esbuild, entry, form):
    """The text of a module, or of a style sheet, with all that it imports, and the paths of those.
    form: "esm", or "iife" where it is to run inside a page."""
    with tempfile.TemporaryDirectory() as place:
        output, record = pathlib.Path(place, "output"), pathlib.Path(place, "inputs.json")
        done = subprocess.run(
            [esbuild, entry, "--bundle", f"--format={form}", "--charset=utf8",
             f"--target={TARGET}", "--log-level=warning", f"--outfile={output}",
             f"--metafile={record}"], cwd=entry.parent, capture_output=True, text=True, check=False)
        if done.returncode != 0 or done.stderr:
            fail(done.stderr.strip() or f"{esbuild} failed")
        inputs = json.loads(record.read_text(encoding="utf-8"))["inputs"]
        return (output.read_text(encoding="utf-8"),
                {(entry.parent / name).resolve() for name in inputs})


def array(name, data):
    """Bytes as a C array."""
    lines = [", ".join(str(byte) for byte in data[at:at + 24]) for at in range(0, len(data), 24)]
    return f"static const unsigned char {name}[] = {{\n    " + ",\n    ".join(lines) + "};\n"
