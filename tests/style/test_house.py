# SPDX-License-Identifier: Apache-2.0
"""The plan of house.py, checked against what files include and call."""

import pathlib
import re

import pytest

import house
import sources
import tags
from sources import report

PLAN = house.plan()
MIRRORED = ("daemon", "proto", "client")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
ASSERT = re.compile(r"\bassert\(")


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


def gathered(problems):
    """(problem, place) pairs -> "problem (places)", each problem once."""
    places = {}
    for problem, place in problems:
        places.setdefault(problem, set()).add(place)
    return [f"{problem} ({', '.join(sorted(found))})" for problem, found in sorted(places.items())]


def include_problems(path, includes, plan):
    """What a file includes that its folder may not; generated headers have no folder."""
    own = house.folder_of(path)
    for name in includes:
        target = house.folder_of(name)
        if "/" not in name or target == own:
            continue
        if target not in plan[own][1] or name not in (plan[target][0], house.METHODS.get(own)):
            yield f"{own}: includes {name}", path.name


def call_problems(path, words, homes, plan):
    """What a file calls in folders that its own may not know."""
    own = house.folder_of(path)
    for word in words:
        target = house.folder_of(homes.get(word, path))
        if target != own and target not in plan[own][1]:
            yield f"{own}: calls {target}", f"{path.name} {word}"


def all_include_problems():
    return gathered(problem for path in sources.product() if house.folder_of(path) in PLAN
                    for problem in include_problems(path, sources.local_includes(path), PLAN))


def all_call_problems():
    """Outside the library, what didi.h declares is src's, wherever it is defined."""
    homes = tags.home_of((tag["name"], tag["path"], tag.get("file", False))
                         for tag in tags.functions())
    public = {tag["name"]: PLAN["src"][0]
              for tag in tags.ctags("p", [pathlib.Path(PLAN["src"][0])])}
    problems = []
    for path in sources.product():
        if path.suffix != ".c" or house.folder_of(path) not in PLAN:
            continue
        own = {tag["name"] for tag in tags.functions() if tag["path"] == str(path)}
        known = homes if path.parts[0] == "src" else {**homes, **public}
        problems += call_problems(path, set(sources.code_words(path)) - own, known, PLAN)
    return gathered(problems)


def test_every_folder_is_in_the_plan():
    folders = {house.folder_of(path) for path in sources.product()}
    report(f"{folder}: not in tests/style/house.py" for folder in sorted(folders - set(PLAN)))
    report(f"tests/style/house.py: there is no {folder}" for folder in sorted(set(PLAN) - folders))


def test_headers_of_the_plan_exist():
    report(f"tests/style/house.py: there is no {header}" for header, _ in PLAN.values()
           if header is not None and not (sources.ROOT / header).is_file())


def test_the_plan_has_no_cycle():
    cycle = find_cycle({folder: may for folder, (_, may) in PLAN.items()})
    assert cycle is None, " -> ".join(cycle)


def test_folders_include_only_headers_of_those_they_may_know():
    report(all_include_problems())


def test_folders_call_only_those_they_may_know():
    report(all_call_problems())


def demands(text):
    """True when a comment says "must"."""
    return any(re.search(r"\bmust\b", comment) for comment in COMMENT.findall(text))


def silent_demands(files):
    """Folders whose headers demand something that none of their .c files asserts: of a dictionary
    of paths and texts. A folder's files are those of its subfolders too."""
    demanding = {house.folder_of(path) for path, text in files.items()
                 if path.endswith(".h") and demands(text)}
    asserting = {path for path, text in files.items()
                 if path.endswith(".c") and ASSERT.search(text)}
    return sorted(folder for folder in demanding
                  if not any(path.startswith(folder + "/") for path in asserting))


def test_what_a_header_demands_is_asserted():
    report(f"{folder}: asserts nothing of what its headers demand"
           for folder in silent_demands({str(path): sources.text(path)
                                         for path in sources.product()}))


def is_mirrored(folder, folders):
    """A folder of unit tests that a folder of the product stands for."""
    return f"src/{folder}" in folders or (folder.split("/")[0] in MIRRORED and folder in folders)


def test_unit_tests_mirror_the_folders():
    tested = {house.folder_of(path.relative_to("tests/unit")) for path in sources.files()
              if path.parts[:2] == ("tests", "unit")} - {"."}
    report(f"tests/unit/{folder}: no folder of that name is tested" for folder in sorted(tested)
           if not is_mirrored(folder, PLAN))


# Each of these checks can fail.

TOY = {"top": (None, frozenset({"low"})), "low": ("low/low.h", frozenset())}


def test_find_cycle_finds_one():
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}}) is None


def test_floors_stand_above_those_listed_later():
    assert house.below({"a": None, "b": None, "c": None}, "a") == {"b", "c"}
    assert house.below({"a": None, "b": None}, "b") == frozenset()


def test_includes_are_judged():
    path = pathlib.Path("top/x.c")
    found = include_problems(path, ["low/low.h", "low/part.h", "top/y.h", "made.h"], TOY)
    assert list(found) == [("top: includes low/part.h", "x.c")]
    upward = include_problems(pathlib.Path("low/x.c"), ["top/y.h"], TOY)
    assert list(upward) == [("low: includes top/y.h", "x.c")]


def test_calls_are_judged():
    homes = {"low_do": "low/a.c", "top_do": "top/b.c"}
    assert not list(call_problems(pathlib.Path("top/x.c"), ["low_do", "if"], homes, TOY))
    found = call_problems(pathlib.Path("low/x.c"), ["low_do", "top_do"], homes, TOY)
    assert list(found) == [("low: calls top", "x.c top_do")]


def test_problems_are_gathered():
    assert gathered([("p", "b"), ("p", "a"), ("q", "c")]) == ["p (a, b)", "q (c)"]


def test_demands_are_found():
    header = "/* It must be so. */\nint f(void);\n"
    assert silent_demands({"a/a.h": header, "a/a.c": "int f(void) {}"}) == ["a"]
    assert silent_demands({"a/a.h": header, "a/b/a.c": "assert(1);"}) == []
    assert silent_demands({"a/a.h": "int must;", "a/a.c": ""}) == []


def test_mirrors_are_found():
    assert is_mirrored("math", {"src/math"}) and is_mirrored("daemon", {"daemon"})
    assert not is_mirrored("maths", {"src/math"}) and not is_mirrored("src", {"src"})


def test_parameters_counts():
    assert tags.parameters("(void)") == 0
    assert tags.parameters("(int a)") == 1
    assert tags.parameters("(int a, int (*f)(int, int), char b[2])") == 3


def test_home_of_forgets_statics_and_names_of_several():
    homes = tags.home_of([("a", "x.c", False), ("b", "x.c", True), ("main", "x.c", False),
                     ("main", "y.c", False), ("inline", "x.h", False)])
    assert homes == {"a": "x.c"}


def test_problems_are_reported():
    report([])
    with pytest.raises(AssertionError, match="a: calls b"):
        report(["a: calls b (x.c)"])
