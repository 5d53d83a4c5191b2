#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the SQL files as a C header: embed.py OUTPUT QUERIES MIGRATION..."""
import re
import sys


def literal(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("--")]
    return "\n".join(
        '        "' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"' for line in lines)


def blocks(parts):
    return zip(parts[1::3], parts[2::3], parts[3::3])


def filled(text, shared):
    """`text` with {name} replaced by the shared text of that name."""
    for name, what in shared.items():
        text = text.replace("{" + name + "}", what)
    return text


def main():
    output, queries, migrations = sys.argv[1], sys.argv[2], sorted(sys.argv[3:])
    with open(queries, encoding="utf-8") as file:
        parts = re.split(r"^-- (name|text): (\w+)$", file.read(), flags=re.M)
    shared = {name: text.strip() for kind, name, text in blocks(parts) if kind == "text"}
    named = [(name, filled(text, shared)) for kind, name, text in blocks(parts) if kind == "name"]
    names = [name for name, _ in named]
    if len(set(names)) != len(names):
        sys.exit("a query name is used twice")
    with open(output, "w", encoding="utf-8") as file:
        file.write("/* SPDX-License-Identifier: Apache-2.0 */\n")
        file.write("/* The SQL of the store, made by sql/embed.py. */\n#pragma once\n\n")
        file.write("typedef enum store_query {\n")
        file.writelines(f"    QUERY_{name.upper()},\n" for name in names)
        file.write("    QUERY_COUNT\n} store_query;\n\n")
        file.write("#ifdef STORE_SQL_QUERIES\n")
        file.write("static const char *const store_query_texts[QUERY_COUNT] = {\n")
        for name, text in named:
            file.write(f"    [QUERY_{name.upper()}] =\n{literal(text)},\n")
        file.write("};\n#endif\n\n")
        file.write("#ifdef STORE_SQL_MIGRATIONS\n")
        file.write("static const char *const store_migrations[] = {\n")
        for path in migrations:
            with open(path, encoding="utf-8") as migration:
                file.write(f"{literal(migration.read())},\n")
        file.write("};\n")
        file.write("#endif\n")
        file.write(f"enum {{ STORE_MIGRATION_COUNT = {len(migrations)} }};\n")


main()
