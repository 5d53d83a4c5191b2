#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what openapi.yaml says of the default method's options from the table of options.

  didictl methods -o json | write_options.py            rewrites words, defaults and ranges
  didictl methods -o json | write_options.py --check    fails where they are not the table's
"""

import json
import pathlib
import sys

import yaml

CONTRACT = pathlib.Path(__file__).resolve().parent / "openapi.yaml"
SCHEMA = ("components", "schemas", "JobSpecification", "properties")
KEYWORDS = {"enum": "enum", "minimum": "minimum", "exclusive_minimum": "exclusiveMinimum",
            "maximum": "maximum", "type": "type", "default": "default"}


def member(node, name):
    """The value of a member of a YAML mapping, or None."""
    return next((value for key, value in node.value if key.value == name), None)


def schema_of(root, field):
    """The schema of a field as "/ranks/beta" names it."""
    path = "/properties/".join(field.strip("/").split("/")).split("/")
    for name in (*SCHEMA, *path):
        root = member(root, name)
        if root is None:
            sys.exit(f"{CONTRACT.name} has no field {field}")
    return root


def as_yaml(value):
    """A list of words, a word, or a number without a needless fraction."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def differences(text, methods):
    """(field, keyword, first, last, what the table says) of each value that is another."""
    root = yaml.compose(text)
    for option in next(row for row in methods if row["name"] == "didi")["options"]:
        schema = schema_of(root, option["field"])
        for ours, theirs in KEYWORDS.items():
            node, said = member(schema, theirs), option.get(ours)
            if theirs == "default" and node is None and option["field"] == "/refine/steps":
                continue  # depends on the optimizer: the description tells
            if (node is None) != (said is None):
                sys.exit(f"{option['field']}: {theirs} stands in one of contract and table only")
            if node is None:
                continue
            first, last = node.start_mark.index, node.end_mark.index
            if yaml.safe_load(text[first:last]) != said:
                yield option["field"], theirs, first, last, as_yaml(said)


def main():
    text = CONTRACT.read_text(encoding="utf-8")
    found = list(differences(text, json.load(sys.stdin)["methods"]))
    for field, keyword, first, last, shown in sorted(found, key=lambda row: -row[2]):
        print(f"{field}: {keyword} {text[first:last]}, the table has {shown}", file=sys.stderr)
        text = text[:first] + shown + text[last:]
    if sys.argv[1:] == ["--check"]:
        sys.exit(bool(found))
    CONTRACT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
