# SPDX-License-Identifier: Apache-2.0
"""CONTRIBUTING.md, checked: every test lists all places that break its rule."""

import ast
import fnmatch
import json
import re
import shutil
import subprocess

import pytest

import sources

FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100
FILE_LINES_MAX = 600

# foreign header -> the only files that may include it
FOREIGN = {
    "microhttpd.h": ("daemon/http/*", "tests/*"),
    "sqlite3.h": ("daemon/store/*", "tests/*"),
    "cblas.h": ("src/math/linalg*", "tests/*"),
    "lapacke.h": ("src/math/linalg*", "tests/*"),
    "lapack.h": ("src/math/linalg*", "tests/*"),
    "curl/curl.h": ("client/net/transport*", "tests/*"),
    "uv.h": ("daemon/*",),
    "openssl/*": ("src/base/*", "daemon/*", "client/net/digest*", "tests/*"),
}

# floor -> what its files may include (globs on the included path)
FLOORS = {
    "src/base": ("src/base/*",),
    "src": ("src/*",),
    "proto": ("proto/*", "src/base/base.h"),
    "client": ("client/*", "proto/*", "src/base/base.h"),
    "daemon": ("daemon/*", "proto/*", "src/*", "sql/*"),
}

# the only places that may keep a variable between calls: the log, the table of fault points, and
# the list of mappings that an allocator needs
STATEFUL = ("daemon/base/log.c", "src/base/fault.c", "src/base/spill.c")


def matches(path, globs):
    return any(fnmatch.fnmatchcase(str(path), glob) for glob in globs)


def floor_of(path):
    return "src/base" if path.parts[:2] == ("src", "base") else path.parts[0]


def report(problems):
    assert not problems, "\n" + "\n".join(str(problem) for problem in problems)


def test_foreign_headers_have_one_home():
    report([f"{path}: includes <{header}>, which belongs to {homes[0]}"
            for path in sources.with_suffix(".c", ".h") for header in sources.foreign_includes(path)
            for glob, homes in FOREIGN.items()
            if fnmatch.fnmatchcase(header, glob) and not matches(path, homes)])


def is_generated(name):
    """A header the build writes: no folder, and no file of that name among the sources."""
    return "/" not in name and not any(path.name == name for path in sources.files())


def test_include_paths_are_spelled_from_the_root():
    report([f"{path}: includes \"{name}\", not a path from the root"
            for path in sources.product() for name in sources.local_includes(path)
            if not (sources.ROOT / name).is_file() and not is_generated(name)])


def test_calls_go_down():
    report([f"{path}: {floor_of(path)} may not include {name}"
            for path in sources.product() for name in sources.local_includes(path)
            if not matches(name, FLOORS[floor_of(path)]) and not is_generated(name)])


def test_http_and_scheduler_do_not_know_each_other():
    report([f"{path}: includes {name}" for path in sources.product()
            for name in sources.local_includes(path)
            if (matches(path, ["daemon/http/*"]) and matches(name, ["daemon/jobs/*"])) or
            (matches(path, ["daemon/jobs/*"]) and matches(name, ["daemon/http/*"]))])


def find_cycle(graph):
    """One cycle as a list of nodes, or None."""
    done, trail = set(), []

    def visit(node):
        if node in done:
            return None
        if node in trail:
            return trail[trail.index(node):] + [node]
        trail.append(node)
        for following in sorted(graph.get(node, ())):
            cycle = visit(following)
            if cycle:
                return cycle
        trail.pop()
        done.add(node)
        return None

    for node in sorted(graph):
        cycle = visit(node)
        if cycle:
            return cycle
    return None


def test_find_cycle_finds_one():
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}}) is None


def ctags(kinds, paths):
    """Tags of C files as dictionaries; skips the test where ctags is not installed."""
    if shutil.which("ctags") is None:
        pytest.skip("universal-ctags is not installed")
    if not paths:
        return []
    listed = subprocess.run(
        ["ctags", "--output-format=json", f"--kinds-C={kinds}", "--fields=+nefS", "--languages=C",
         "--langmap=C:.c.h", "-o", "-", *map(str, paths)],
        cwd=sources.ROOT, capture_output=True, check=True)
    return [json.loads(line) for line in listed.stdout.splitlines()]


def dependency_graph():
    """Edges by include, and by use of a function that another file defines."""
    paths = sources.product()
    homes = {tag["name"]: tag["path"] for tag in ctags("f", paths)
             if not tag.get("file") and tag["path"].endswith(".c")}
    graph = {}
    for path in paths:
        edges = graph.setdefault(str(path), set(sources.local_includes(path)))
        if path.suffix == ".c":
            edges.update(homes[word] for word in set(sources.code_words(path)) if word in homes)
        edges.discard(str(path))
    return graph


def test_no_cycle_between_files():
    cycle = find_cycle(dependency_graph())
    assert cycle is None, " -> ".join(cycle)


def test_functions_are_short():
    tags = ctags("f", sources.with_suffix(".c", ".h"))
    lengths = [(tag["path"], tag["name"], tag["end"] - tag["line"] + 1) for tag in tags
               if "end" in tag]
    report([f"{path}: {name} has {lines} lines" for path, name, lines in lengths
            if lines > FUNCTION_LINES_MAX])


def test_python_functions_are_short():
    problems = []
    for path in sources.with_suffix(".py"):
        for node in ast.walk(ast.parse(sources.text(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    problems.append(f"{path}: {node.name} has {lines} lines")
    report(problems)


def declaration(tag):
    """The line a variable's declaration begins on: not the end of a struct it is declared after."""
    lines = sources.text(sources.pathlib.Path(tag["path"])).splitlines()
    line = tag["line"] - 1
    while line > 0 and (lines[line][:1] in "} \t" or not lines[line]):
        line -= 1
    return lines[line]


def test_no_state_between_calls():
    tags = ctags("v", [path for path in sources.product() if path.suffix == ".c"])
    report([f"{tag['path']}:{tag['line']}: variable {tag['name']} at file scope" for tag in tags
            if "const " not in declaration(tag) and tag["path"] not in STATEFUL])


def is_code(path):
    return path.suffix in (".c", ".h", ".py", ".sql", ".build") or path.name == "run"


def test_lines_are_short():
    report([f"{path}:{number}: {len(line)} columns" for path in sources.files() if is_code(path)
            for number, line in enumerate(sources.text(path).splitlines(), 1)
            if len(line) > LINE_COLUMNS_MAX])


def test_files_are_short():
    counts = [(path, len(sources.text(path).splitlines())) for path in sources.files()
              if is_code(path)]
    report([f"{path}: {lines} lines" for path, lines in counts if lines > FILE_LINES_MAX])


def test_no_tabs_and_no_trailing_blanks():
    report([f"{path}:{number}" for path in sources.files() if is_code(path)
            for number, line in enumerate(sources.text(path).splitlines(), 1)
            if "\t" in line or line != line.rstrip()])


def test_licence_line_on_top():
    heads = [(path, sources.text(path).splitlines()[:2])
             for path in sources.with_suffix(".c", ".h", ".py", ".sql")]
    heads += [(path, sources.text(path).splitlines()[:2]) for path in sources.files()
              if path.name == "run"]
    report([f"{path}: no SPDX line" for path, head in heads
            if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head)])


def test_a_comment_tells_the_subject():
    report([f"{path}: the second line says nothing" for path in sources.with_suffix(".c", ".h")
            if not "".join(sources.text(path).splitlines()[1:2]).startswith("/*")])


def test_headers_are_included_once():
    report([f"{path}: lacks #pragma once" for path in sources.with_suffix(".h")
            if "#pragma once" not in sources.text(path)])


def test_nothing_is_left_open():
    # Spelled in halves, so that this file passes its own test.
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|not imple" r"mented|st" r"ub)\b")
    report([f"{path}:{number}: {line.strip()}"
            for path in sources.with_suffix(".c", ".h", ".py", ".js", ".sql")
            for number, line in enumerate(sources.text(path).splitlines(), 1)
            if words.search(line)])


def test_no_path_of_a_machine_and_no_registry():
    words = re.compile(r"(?<![\w.])/(wo" r"rk|ro" r"ot|ho" r"me/\w+)/"
                       r"|\b(py" r"pi|npm" r"js|crates|rub" r"ygems)\.(org|io|com)\b"
                       r"|\bdeb\.deb" r"ian\.org\b|\bdock" r"er\.io\b|proxy\.go" r"lang\.org")
    report([f"{path}:{number}: {line.strip()[:120]}" for path in sources.files()
            if sources.text(path) is not None
            for number, line in enumerate(sources.text(path).splitlines(), 1)
            if words.search(line)])
