#!/usr/bin/env python3
"""Checks that openapi.yaml is compatible with the last release.

docs/reference/compatibility.md has the rules. A release is a tag `v…`. The script fails if an
operation, a response, a response field or an allowed input is removed, or if an input becomes
required. A new major version may contain any of these changes. If there is no tag, the script
prints a message and succeeds. The script needs a Python environment with PyYAML, and a clone that
has the tags.
"""

import pathlib
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = "openapi.yaml"
METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


def git(*arguments):
    """Returns the output of git, or None if git fails."""
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return ran.stdout.strip() if ran.returncode == 0 else None


def last_releases():
    """Returns the last release tag. If HEAD has this tag, also returns the previous release tag."""
    describe = ("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    return sorted({git(*describe, commit) for commit in ("HEAD", "HEAD^")} - {None})


class Comparison:
    """Finds the places where the new document is not compatible with the old one."""

    def __init__(self, old, new):
        self.old, self.new, self.problems = old, new, []

    def resolve(self, document, value):
        while "$ref" in value:
            found = document
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            value = found
        return value

    def both(self, old, new):
        return self.resolve(self.old, old), self.resolve(self.new, new)

    def gone(self, where, old, new):
        """Adds a problem for each name that only `old` has. Returns the names that both have."""
        self.problems += [f"{where}: {name} is missing" for name in old if name not in new]
        return [name for name in old if name in new]

    def schema(self, where, old, new, is_input):
        old, new = self.both(old, new)
        for document, schema in (("old", old), ("new", new)):
            if unknown := {"oneOf", "anyOf", "allOf", "not"} & set(schema):
                sys.exit(f"{where}: .ci/compatibility.py cannot compare {unknown}, but the {document} document uses it")
        types = [[one.get("type")] if isinstance(one.get("type"), str) else one.get("type", []) for one in (old, new)]
        # An input must accept all types that it accepted before. A response must have only types
        # that it had before.
        lost, kept = types if is_input else reversed(types)
        if not set(lost) <= set(kept):
            self.problems.append(f"{where}: the type was {types[0]} and is now {types[1]}")
        if is_input and "enum" in new:
            self.gone(where, old.get("enum", ["any value"]), new["enum"])
        properties = [one.get("properties", {}) for one in (old, new)]
        required = [set(one.get("required", [])) for one in (old, new)]
        if is_input:
            self.problems += [f"{where}: {name} is now required" for name in sorted(required[1] - required[0])]
        else:
            optional = (required[0] - required[1]) & set(properties[1])
            self.problems += [f"{where}: {name} may now be missing" for name in sorted(optional)]
        for name in self.gone(where, *properties):
            self.schema(f"{where}, {name}", properties[0][name], properties[1][name], is_input)
        if "items" in old and "items" in new:
            self.schema(f"{where}, items", old["items"], new["items"], is_input)

    def content(self, where, old, new, is_input):
        contents = [one.get("content", {}) for one in (old, new)]
        for kind in self.gone(where, *contents):
            schemas = [one[kind].get("schema", {}) for one in contents]
            self.schema(f"{where} ({kind})", *schemas, is_input)

    def parameters(self, where, old, new):
        """Compares parameters. `old` and `new` are pairs of a path item and its operation."""
        named = []
        for document, items in ((self.old, old), (self.new, new)):
            found = [self.resolve(document, one) for item in items for one in item.get("parameters", [])]
            named.append({(one["in"], one["name"]): one for one in found})
        for key, of in named[1].items():
            before = named[0].get(key)
            if of.get("required") and not (before and before.get("required")):
                self.problems.append(f"{where}: {key[1]} in the {key[0]} is now required")
        for key in self.gone(where, *named):
            schemas = [each[key].get("schema", {}) for each in named]
            self.schema(f"{where}, {key[1]} in the {key[0]}", *schemas, True)

    def operation(self, where, old, new):
        body = [one.get("requestBody", {}) for one in (old, new)]
        body = self.both(*body)
        if body[1].get("required") and not body[0].get("required"):
            self.problems.append(f"{where}: a body is now required")
        self.content(f"{where}, body", *body, True)
        for status in self.gone(where, old["responses"], new["responses"]):
            responses = self.both(old["responses"][status], new["responses"][status])
            headers = [one.get("headers", {}) for one in responses]
            self.gone(f"{where}, {status}, headers", *headers)
            self.content(f"{where}, {status}", *responses, False)

    def run(self):
        for path in self.gone("paths", self.old["paths"], self.new["paths"]):
            items = self.old["paths"][path], self.new["paths"][path]
            methods = [[name for name in item if name in METHODS] for item in items]
            for method in self.gone(path, *methods):
                where = f"{method.upper()} {path}"
                operations = [item[method] for item in items]
                self.parameters(where, (items[0], operations[0]), (items[1], operations[1]))
                self.operation(where, *operations)
        return self.problems


def main():
    if git("rev-parse", "--is-shallow-repository") != "false":
        sys.exit("this clone does not have all tags: run `git fetch --unshallow --tags`")
    releases = last_releases()
    if not releases:
        print("there is no release yet, so openapi.yaml was not compared")
    new = yaml.safe_load((ROOT / FILE).read_text())
    failed = False
    for release in releases:
        old = yaml.safe_load(git("show", f"{release}:{FILE}"))
        majors = [int(document["info"]["version"].split(".")[0]) for document in (old, new)]
        if majors[1] > majors[0]:
            print(f"{FILE} has a new major version since {release}, so incompatible changes are allowed")
            continue
        problems = Comparison(old, new).run()
        failed = failed or problems
        lines = [f"{FILE} breaks clients of {release}:", *(f"  {each}" for each in problems)]
        print("\n".join(lines) if problems else f"ok: {FILE} is compatible with {release}")
    sys.exit(1 if failed else 0)


main()
