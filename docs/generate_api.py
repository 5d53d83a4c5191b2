#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/api.md from proto/openapi.yaml.

  generate_api.py            rewrites the page
  generate_api.py --check    fails when the page is not what the contract gives
"""

import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONTRACT = ROOT / "proto" / "openapi.yaml"
PAGE = ROOT / "docs" / "api.md"
METHODS = ("get", "post", "put", "patch", "delete")
# Answered alike everywhere; the page says so once.
COMMON_RESPONSES = ("400", "405", "default")


class Page:
    """The contract, and the lines of the page so far."""

    def __init__(self, contract):
        self.contract = contract
        self.lines = []

    def add(self, *lines):
        self.lines.extend(lines)

    def resolve(self, node):
        """Follows one $ref; members beside it win."""
        if isinstance(node, dict) and "$ref" in node:
            target = self.contract
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            return {**target, **{key: node[key] for key in node if key != "$ref"}}
        return node

    def header(self):
        info = self.contract["info"]
        self.add("<!-- Written by docs/generate_api.py from proto/openapi.yaml. -->",
                 "# The HTTP interface", "", info["summary"], "",
                 "`proto/openapi.yaml` is the contract, served at `/v1/openapi.yaml`; this page "
                 "says the same for reading.",
                 "Formats of the files behind the artifacts are in [format.md](format.md).", "",
                 "## Conventions", info["description"].strip(), "",
                 "Every path may answer 400, 405 and, for a failure of the daemon, 5xx, each with "
                 "a [Problem](#problem).", "")

    def operations(self):
        for tag in self.contract["tags"]:
            self.add(f"## {tag['name'].capitalize()}", "")
            for path, item in self.contract["paths"].items():
                for method in METHODS:
                    if method in item and tag["name"] in item[method]["tags"]:
                        self.operation(path, method, item)

    def operation(self, path, method, item):
        operation = item[method]
        self.add(f"### {method.upper()} {path}", operation["summary"], "")
        if "description" in operation:
            self.add(operation["description"].strip(), "")
        parameters = item.get("parameters", []) + operation.get("parameters", [])
        self.parameters([self.resolve(parameter) for parameter in parameters])
        if "requestBody" in operation:
            self.add(f"Body: {self.content(operation['requestBody'])}.", "")
        self.add("| status | meaning | body |", "|---|---|---|")
        for status, response in operation["responses"].items():
            if status not in COMMON_RESPONSES:
                response = self.resolve(response)
                self.add(f"| {status} | {cell(response['description'])} "
                         f"| {self.content(response)} |")
        self.add("")

    def parameters(self, parameters):
        if not parameters:
            return
        self.add("| parameter | in | type | meaning |", "|---|---|---|---|")
        for parameter in parameters:
            schema = self.resolve(parameter["schema"])
            meaning = parameter.get("description") or schema.get("description", "")
            self.add(f"| `{parameter['name']}` | {parameter['in']} "
                     f"| {self.type_of(parameter['schema'])} | {cell(meaning)} |")
        self.add("")

    def content(self, holder):
        """The types a body may have."""
        names = []
        for media, entry in holder.get("content", {}).items():
            schema = entry.get("schema")
            named = self.type_of(schema) if schema else ""
            names.append(named if "json" in media and named else f"`{media}`")
        return " or ".join(dict.fromkeys(names)) or "-"

    def type_of(self, schema):
        """A short text for a schema: its name with a link, or its type with its bounds."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return f"[{name}](#{name.lower()})"
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return " or ".join(self.type_of(option) for option in schema[choice])
        if "allOf" in schema:
            return " with ".join(self.type_of(part) for part in schema["allOf"])
        if "const" in schema:
            return f"`{schema['const']}`"
        if "enum" in schema:
            return " \\| ".join(f"`{value}`" for value in schema["enum"]) + default_of(schema)
        if schema.get("type") == "array":
            return f"array of {self.type_of(schema.get('items', {}))}"
        kind = schema.get("type", "any")
        kind = " or ".join(kind) if isinstance(kind, list) else kind
        return kind + bounds_of(schema) + default_of(schema)

    def schemas(self):
        self.add("## Types", "")
        for name, schema in self.contract["components"]["schemas"].items():
            self.add(f"### {name}")
            if "description" in schema:
                self.add(schema["description"].strip(), "")
            parts = schema.get("allOf", [schema])
            rows = [row for part in parts for row in self.rows(part, "")]
            if rows:
                self.add("| member | type | meaning |", "|---|---|---|", *rows, "")
            else:
                self.add(self.type_of(schema) + pattern_of(schema), "")
            for part in parts:
                if "$ref" in part:
                    self.add(f"With all members of {self.type_of(part)}.", "")

    def rows(self, schema, prefix):
        """Table rows of an object's members, those of objects inside it under dotted names."""
        required = schema.get("required", [])
        for name, member in schema.get("properties", {}).items():
            label = f"`{prefix}{name}`" + (" (required)" if name in required and not prefix and
                                           schema.get("additionalProperties") is False else "")
            yield f"| {label} | {self.type_of(member)} | {cell(member.get('description', ''))} |"
            inner = member.get("items", {}) if member.get("type") == "array" else member
            suffix = "[]." if member.get("type") == "array" else "."
            if "properties" in inner:
                yield from self.rows(inner, prefix + name + suffix)


def cell(text):
    return " ".join(text.split()).replace("|", "\\|")


def bounds_of(schema):
    parts = []
    for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<=")):
        if key in schema:
            parts.append(f"{sign} {schema[key]}")
    if "maxLength" in schema:
        parts.append(f"at most {schema['maxLength']} characters")
    return f" ({', '.join(parts)})" if parts else ""


def default_of(schema):
    if "default" not in schema or schema["default"] in ("", {}):
        return ""
    value = schema["default"]
    return f", default `{str(value).lower() if isinstance(value, bool) else value}`"


def pattern_of(schema):
    return f"; pattern `{schema['pattern']}`" if "pattern" in schema else ""


def render():
    page = Page(yaml.safe_load(CONTRACT.read_text()))
    page.header()
    page.operations()
    page.schemas()
    return "\n".join(page.lines).rstrip() + "\n"


def main():
    text = render()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit("docs/api.md is not what proto/openapi.yaml gives: run docs/generate_api.py")


if __name__ == "__main__":
    main()
