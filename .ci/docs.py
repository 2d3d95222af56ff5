#!/usr/bin/env python3
"""Checks that the documents match the code.

    docs.py [--write] TOKENRY

TOKENRY is the built command. The script compares:

- the marked parts of docs/reference with the help texts of `tokenry` and with the parameters of
  template.yaml
- the table of the functions' environment variables with shared/src/config.rs and template.yaml
- the table of errors with openapi.yaml

The script also fails if a file mentions a document that does not exist, or if a document mentions a
file that does not exist. With --write, the script updates the marked parts. The script needs a
Python environment with `aws-sam-cli`.
"""

import os
import pathlib
import re
import subprocess
import sys

import yaml
from samcli.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs/reference/configuration.md"
CONSOLE = ROOT / "docs/reference/console.md"
PATH = re.compile(r"`((?:api|cli|docs|functions|shared|tests|\.ci|\.github)/[\w./-]*)`")
# The last part of a help text. It lists the options that every command that calls the API has. The
# document shows these options only once, in the help of `tokenry`.
OPTIONS = re.compile(r"\nOptions of all commands that call the API:\n.*", re.S)


def parameters():
    """Returns the table of the template's parameters."""
    lines = ["| parameter | meaning | default |", "| --- | --- | --- |"]
    for name, of in yaml_parse((ROOT / "template.yaml").read_text())["Parameters"].items():
        meaning = of["Description"]
        if "AllowedValues" in of:
            meaning += ": " + ", ".join(f"`{value}`" for value in of["AllowedValues"])
        default = f"`{of['Default']}`" if str(of["Default"]) else "none"
        lines.append(f"| `{name}` | {meaning} | {default} |")
    return "\n".join(lines)


def help_of(tokenry, *command):
    """Yields the help of a command and of its subcommands."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKENRY_")}
    ran = subprocess.run([tokenry, *command, "--help"], env=environment, capture_output=True, text=True, check=True)
    text = "\n".join(line.rstrip() for line in ran.stdout.splitlines())
    shown = OPTIONS.sub("", text).rstrip() if command else text.rstrip()
    yield f"### {' '.join(('tokenry', *command))}\n\n```text\n{shown}\n```"
    below = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.M)
    for name in re.findall(r"^  (\S+)", below[1] if below else "", re.M):
        if name != "help":
            yield from help_of(tokenry, *command, name)


def differs(path, name, expected, write):
    """Returns whether a part of a document differs from `expected`.

    If `write` is true, replaces the part and returns False.
    """
    text = path.read_text()
    marked = re.compile(rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end -->)", re.S)
    updated, count = marked.subn(lambda found: f"{found[1]}\n{expected}\n\n{found[2]}", text)
    if count != 1:
        sys.exit(f"{path}: there must be exactly one part {name}")
    if write:
        path.write_text(updated)
    return not write and updated != text


def main(tokenry, write=False):
    problems = []
    parts = [
        (CONFIGURATION, "parameters", parameters()),
        (CONSOLE, "help", "\n\n".join(help_of(pathlib.Path(tokenry).resolve()))),
    ]
    for path, name, expected in parts:
        if differs(path, name, expected, write):
            problems.append(f"{path.relative_to(ROOT)}: the part `{name}` is out of date, run .ci/docs.py --write")

    config = (ROOT / "shared/src/config.rs").read_text()
    variables = set(re.findall(r'&str = "(TOKENRY_\w+)"', config))
    section = re.search(r"^## A function$(.*?)^## ", CONFIGURATION.read_text(), re.M | re.S)[1]
    documented = set(re.findall(r"^\| `(TOKENRY_\w+)`", section, re.M))
    for name in variables ^ documented:
        problems.append(f"{name} is in only one of config.rs and configuration.md")
    template = (ROOT / "template.yaml").read_text()
    for name in variables ^ set(re.findall(r"^ +(TOKENRY_\w+):", template, re.M)):
        problems.append(f"{name} is in only one of config.rs and template.yaml")

    api = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    operations = [of for item in api["paths"].values() for of in item.values() if "responses" in of]
    statuses = {status for of in operations for status in of["responses"] if status >= "400"}
    types = set(api["components"]["schemas"]["ApiError"]["properties"]["errorType"]["enum"])
    rows = re.findall(r"^\| (\d{3}) \| `?([\w ]+)`? \|", (ROOT / "docs/reference/errors.md").read_text(), re.M)
    for name in (statuses | types | {"plain text"}) ^ {cell for row in rows for cell in row}:
        problems.append(f"{name} is in only one of openapi.yaml and errors.md")

    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.suffix in (".json", ".lock") or not file.is_file():
            continue
        text = file.read_text(errors="ignore")
        # In a document, check all paths in backticks. In any other file, check only the paths of
        # documents. The linter checks the links between documents.
        named = PATH.findall(text) if file.suffix == ".md" else re.findall(r"\bdocs/[\w./-]+\.\w+", text)
        problems += [f"{name}: there is no {path}" for path in sorted(set(named)) if not (ROOT / path).exists()]

    if problems:
        sys.exit("\n".join(problems))
    print(f"ok: {len(parts)} parts, {len(variables)} variables, {len(rows)} errors match, and all mentioned files exist")


arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
main(*arguments, write="--write" in sys.argv)
