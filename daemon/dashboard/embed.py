#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of the dashboard as C arrays, each plain and gzipped:

    embed.py OUTPUT FOLDER FILE...

FILEs lie below FOLDER, all of its files must be named. index.html gets the digest of them all put
before the names of other files: what is asked for below it never changes, so browsers keep it."""
import gzip
import hashlib
import pathlib
import re
import sys

MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
               ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
NOT_SERVED = {".txt"}  # licences
DIGEST_DIGITS = 16


def fail(text):
    sys.exit(f"embed.py: {text}")


def served_files(folder, paths):
    """Name below the folder -> bytes."""
    named = {path.relative_to(folder).as_posix() for path in paths}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*")
             if path.is_file() and path.suffix not in NOT_SERVED}
    if named != there:
        fail("meson.build and the folder differ in " + ", ".join(sorted(named ^ there)))
    return {name: (folder / name).read_bytes() for name in sorted(named)}


def with_addresses(page, names, digest):
    """The page with its links to files below the digest, and all modules asked for at once."""
    def link(match):
        return f'{match[1]}="{digest}/{match[2]}"' if match[2] in names else match[0]

    modules = "".join(f'    <link rel="modulepreload" href="{name}">\n' for name in sorted(names)
                      if name.endswith(".js") and not name.startswith("vendor/"))
    text = page.decode("utf-8").replace("  </head>", modules + "  </head>")
    return re.sub(r'\b(src|href)="([^"]+)"', link, text).encode("utf-8")


def array(name, data):
    lines = [", ".join(str(byte) for byte in data[at:at + 24]) for at in range(0, len(data), 24)]
    return f"static const unsigned char {name}[] = {{\n    " + ",\n    ".join(lines) + "};\n"


def main():
    output, folder, *paths = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    files = served_files(folder, paths)
    everything = hashlib.sha256()
    for name, data in files.items():
        everything.update(f"{name} {len(data)}\n".encode() + data)
    digest = everything.hexdigest()[:DIGEST_DIGITS]
    files["index.html"] = with_addresses(files["index.html"], set(files) - {"index.html"}, digest)

    arrays = []
    rows = []
    for index, (name, data) in enumerate(files.items()):
        etag = hashlib.sha256(data).hexdigest()[:DIGEST_DIGITS]
        packed = gzip.compress(data, 9, mtime=0)
        arrays += [array(f"plain_{index}", data), array(f"packed_{index}", packed)]
        rows.append(f'    {{"{name}", "{MEDIA_TYPES[pathlib.PurePath(name).suffix]}",\n'
                    f'     {{"\\"{etag}\\"", plain_{index}, sizeof plain_{index}}},\n'
                    f'     {{"\\"{etag}-gzip\\"", packed_{index}, sizeof packed_{index}}}}},\n')
    output.write_text(
        "/* Made by daemon/dashboard/embed.py. */\n#pragma once\n\n" + "".join(arrays)
        + f'\nstatic const char dashboard_digest[] = "{digest}";\n'
        + "static const dashboard_file dashboard_files[] = {\n" + "".join(rows) + "};\n",
        encoding="utf-8")


main()
