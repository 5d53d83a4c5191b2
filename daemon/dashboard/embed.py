#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of the dashboard as C arrays, each plain and gzipped:

    embed.py ESBUILD OUTPUT FOLDER FILE...

FILEs lie below FOLDER; all of its files must be named, and index.html must lead to all of them.
Those that index.html names are served, each with what it imports. It gets the digest of them all
put before their names: what is asked for below it never changes, so browsers keep it."""
import gzip
import hashlib
import pathlib
import re
import sys

sys.dont_write_bytecode = True
from bundle import array, bundle, fail  # noqa: E402 (nothing is written beside it)

MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
               ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
NOT_SERVED = {".txt"}  # licences
DIGEST_DIGITS = 16
LINK = re.compile(r'\b(src|href)="([^"]+)"')


def listed_files(folder, paths):
    """The paths, which must be those of all files of the folder."""
    there = {path for path in folder.rglob("*")
             if path.is_file() and path.suffix not in NOT_SERVED}
    if different := set(paths) ^ there:
        fail("meson.build and the folder differ in " + ", ".join(sorted(map(str, different))))
    return there


def served_files(esbuild, folder, there, page):
    """Name below the folder -> bytes, of all that the page, index.html, names."""
    reached = {folder / "index.html"}
    served = {}
    for _, name in LINK.findall(page):
        path = folder / name
        if path.suffix == ".css" or (path.suffix == ".js" and "vendor" not in path.parts):
            text, inputs = bundle(esbuild, path, "esm")
            served[name] = text.encode("utf-8")
            reached |= inputs
        else:
            served[name] = path.read_bytes()
            reached.add(path)
    if there != reached:
        fail("index.html does not lead to " + ", ".join(sorted(map(str, there ^ reached))))
    return served


def with_addresses(page, names, digest):
    """The page with its links to files below the digest."""
    return LINK.sub(lambda match: f'{match[1]}="{digest}/{match[2]}"' if match[2] in names
                    else match[0], page).encode("utf-8")


def main():
    esbuild = sys.argv[1]
    output, folder, *paths = (pathlib.Path(argument).resolve() for argument in sys.argv[2:])
    page = (folder / "index.html").read_text(encoding="utf-8")
    files = served_files(esbuild, folder, listed_files(folder, paths), page)
    everything = hashlib.sha256()
    for name, data in files.items():
        everything.update(f"{name} {len(data)}\n".encode() + data)
    digest = everything.hexdigest()[:DIGEST_DIGITS]
    files["index.html"] = with_addresses(page, set(files), digest)

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
