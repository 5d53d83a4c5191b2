# SPDX-License-Identifier: Apache-2.0
"""CONTRIBUTING.md, checked: every test lists all places that break its rule."""

import ast
import fnmatch
import pathlib
import re

import sources
import tags
from sources import report

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100
FUNCTION_PARAMETERS_MAX = 7
FILE_LINES_MAX = 900
HEADER_LINES_MAX = 150
SOURCE_LINES_MIN = 60  # of a .c file whose head comment has no "Short because"

# foreign header -> the only files that may include it
FOREIGN = {
    "microhttpd.h": ("tests/bench/*",),
    "openssl/ssl.h": ("daemon/http/tls*",),
    "mpi.h": ("daemon/mpi/*",),
    "sqlite3.h": ("daemon/store/*", "tests/*"),
    "cblas.h": ("src/math/linalg*", "tests/*"),
    "lapacke.h": ("src/math/linalg*", "tests/*"),
    "lapack.h": ("src/math/linalg*", "tests/*"),
    "curl/curl.h": ("client/net/transport*", "daemon/access/control*", "daemon/fetch/transfer*",
                    "daemon/egress/*", "daemon/s3/*", "daemon/webhooks/sender*", "tests/*"),
    "expat.h": ("daemon/s3/answer*",),
    "uv.h": ("daemon/*",),
    "yaml.h": ("proto/document_yaml*",),
    "seccomp.h": ("daemon/score/filter*",),
    "openssl/*": ("src/base/*", "daemon/*", "tests/*"),
}

# "file: function" -> why it has more parameters than others
PARAMETERS = {
    "src/math/linalg*: linalg_*": "the arguments of BLAS's own functions",
    "src/math/gemm.c: multiply*": "the arguments of BLAS's gemm",
    "tests/bench/hello_mhd.c: answer": "libmicrohttpd sets the signature",
    "tests/bench/item_costs.c: __*_linalg_*": "take the place of linalg's functions",
}

# files, or all of a folder, that may be thin without a word
THIN = {
    "src/methods": "a method is a file, however little it does",
    "daemon/api/system.c": "what the daemon tells of itself belongs to no other resource",
}

# header -> why it is longer than others
HEADERS = {"src/didi.h": "the only header of the library that the outside sees"}

# The only callers of jansson's own parsers, which write past their buffer when memory is refused:
# the parse that ends before, and a file of one's own that is read as it comes.
PARSERS = ("src/base/json_load.c", "client/commands/draft.c")

# the only places that may keep a variable between calls: the log, the numbers of /metrics, the
# table of fault points, the list of mappings that an allocator needs, and a thread's own parse,
# which jansson's allocator looks at
STATEFUL = ("daemon/base/log.c", "daemon/base/metrics.c", "src/base/fault.c", "src/base/spill.c",
            "src/base/json_load.c")


def matches(path, globs):
    return any(fnmatch.fnmatchcase(str(path), glob) for glob in globs)


def test_places_that_rules_name_exist():
    places = [home for homes in FOREIGN.values() for home in homes]
    places += [*STATEFUL, *HEADERS, *PARSERS]
    places += [place for place in THIN if place.endswith(".c")]
    places += [place.split(":")[0] for place in PARAMETERS]
    report([f"no file is {place}" for place in places
            if not any(matches(path, [place]) for path in sources.files())])


def test_foreign_headers_have_one_home():
    report([f"{path}: includes <{header}>, which belongs to {homes[0]}"
            for path in sources.with_suffix(".c", ".h") for header in sources.foreign_includes(path)
            for glob, homes in FOREIGN.items()
            if fnmatch.fnmatchcase(header, glob) and not matches(path, homes)])


def test_json_is_parsed_where_memory_may_run_out():
    own = re.compile(r"\bjson_(loads|loadb|loadf|loadfd|load_file|load_callback)\b")
    report([f"{path}:{number}: {found[0]}, not json_load" for path in sources.product()
            if str(path) not in PARSERS
            for number, line in enumerate(
                COMMENT.sub(blank, sources.text(path)).splitlines(), 1)
            if (found := own.search(line))])


def test_text_in_memory_is_printed_by_one_stream():
    report([f"{path}:{number}: open_memstream, not text_stream" for path in sources.product()
            for number, line in enumerate(
                COMMENT.sub(blank, sources.text(path)).splitlines(), 1)
            if re.search(r"\bopen_w?memstream\b", line)])


def blank(comment):
    return "\n" * comment[0].count("\n")


def is_generated(name):
    """A header the build writes: no folder, and no file of that name among the sources."""
    return "/" not in name and not any(path.name == name for path in sources.files())


def test_include_paths_are_spelled_from_the_root():
    report([f"{path}: includes \"{name}\", not a path from the root"
            for path in sources.product() for name in sources.local_includes(path)
            if not (sources.ROOT / name).is_file() and not is_generated(name)])


def test_functions_are_short():
    lengths = [(tag["path"], tag["name"], tag["end"] - tag["line"] + 1) for tag in tags.functions()
               if "end" in tag]
    report([f"{path}: {name} has {lines} lines" for path, name, lines in lengths
            if lines > FUNCTION_LINES_MAX])


def test_functions_have_few_parameters():
    counts = [(tag["path"], tag["name"], tags.parameters(tag["signature"]))
              for tag in tags.functions() if "signature" in tag]
    report(f"{path}: {name} has {count} parameters" for path, name, count in counts
           if count > FUNCTION_PARAMETERS_MAX and not matches(f"{path}: {name}", PARAMETERS))


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
    lines = sources.text(pathlib.Path(tag["path"])).splitlines()
    line = tag["line"] - 1
    while line > 0 and (lines[line][:1] in "} \t" or not lines[line]):
        line -= 1
    return lines[line]


def test_no_state_between_calls():
    found = tags.ctags("v", [path for path in sources.product() if path.suffix == ".c"])
    report([f"{tag['path']}:{tag['line']}: variable {tag['name']} at file scope" for tag in found
            if "const " not in declaration(tag) and tag["path"] not in STATEFUL])


def is_code(path):
    if path.suffix == ".js":  # what browsers get, but for what others wrote
        return path.parts[0] == "daemon" and "vendor" not in path.parts
    return path.suffix in (".c", ".h", ".py", ".sql", ".build") or path.name == "run"


def test_lines_are_short():
    report([f"{path}:{number}: {len(line)} columns" for path in sources.files() if is_code(path)
            for number, line in enumerate(sources.text(path).splitlines(), 1)
            if len(line) > LINE_COLUMNS_MAX])


def length_problem(path, text):
    """Why a code file has too many lines or too few, or None."""
    lines = len(text.splitlines())
    name = str(path)
    if path.suffix == ".h":
        long = lines > HEADER_LINES_MAX and name not in HEADERS
        return f"{name}: longer than {HEADER_LINES_MAX} lines ({lines})" if long else None
    if lines > FILE_LINES_MAX:
        return f"{name}: longer than {FILE_LINES_MAX} lines ({lines})"
    head = " ".join("".join(COMMENT.findall(text)[1:2]).split())
    thin = (path.suffix == ".c" and path.parts[0] != "tests" and lines < SOURCE_LINES_MIN
            and name not in THIN and str(path.parent) not in THIN)
    if thin and "Short because" not in head:
        return f"{name}: too short for a file of its own ({lines} lines)"
    return None


def test_files_have_a_fitting_length():
    problems = [length_problem(path, sources.text(path)) for path in sources.files()
                if is_code(path)]
    report(problem for problem in problems if problem is not None)


def test_lengths_are_judged():
    licence = "/* SPDX */\n"
    source, header = pathlib.Path("src/a.c"), pathlib.Path("src/a.h")
    assert length_problem(source, licence + "/* A noun. */\n" + "x\n" * 58) is None
    assert length_problem(source, licence + "/* A noun. */\n") is not None
    assert length_problem(source, licence + "/* A noun. Short\n * because. */\n") is not None
    assert length_problem(source, licence + "/* A noun. Short because one. */\n") is None
    assert length_problem(source, licence + "x\n" * FILE_LINES_MAX) is not None
    assert length_problem(header, "x\n" * HEADER_LINES_MAX) is None
    assert length_problem(header, "x\n" * (HEADER_LINES_MAX + 1)) is not None


def test_no_tabs_and_no_trailing_blanks():
    report([f"{path}:{number}" for path in sources.files() if is_code(path)
            for number, line in enumerate(sources.text(path).splitlines(), 1)
            if "\t" in line or line != line.rstrip()])


def test_licence_line_on_top():
    heads = [(path, sources.text(path).splitlines()[:2])
             for path in sources.with_suffix(".c", ".h", ".py", ".sql")]
    heads += [(path, sources.text(path).splitlines()[:2]) for path in sources.files()
              if path.name == "run" or (path.suffix == ".js" and is_code(path))]
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
