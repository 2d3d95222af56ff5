#!/usr/bin/env python3
"""Runs the commands of the README, the tutorial and the console's page.

    readme.py [TOKENRY]

Each document's blocks marked `sh` run in its order, in a shell of its own, against one server: `cargo run`, which is a
block of the README and of the tutorial, and runs until all others have been. With TOKENRY, the built command, `cargo run`
is a stand-in that runs it. The responses that a document shows are compared by shape with those of its commands.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Each document, and how many of its blocks start the server.
DOCUMENTS = {"README.md": 1, "docs/tutorial.md": 1, "docs/reference/console.md": 0}
SERVER = "cargo run"
# What `cargo run` does, for a command that is built.
STAND_IN = """#!/bin/sh
[ "$1" = run ] || { echo "cargo $*: only \`cargo run\` is expected" >&2; exit 1; }
shift
[ "$1" != -q ] || shift
[ $# = 0 ] || [ "$1" = -- ] || { echo "cargo run: $1 is unexpected" >&2; exit 1; }
[ $# = 0 ] || shift
exec "$TOKENRY" "$@"
"""
URL = "http://127.0.0.1:3000"


def answers():
    """Whether anything answers at the address of the documents."""
    try:
        urllib.request.urlopen(URL).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait_for_server(server):
    """Returns once the server answers anything; gives up when it ends."""
    while server.poll() is None:
        if answers():
            return
        time.sleep(0.2)
    sys.exit("the server did not start")


@contextlib.contextmanager
def cargo(tokenry):
    """The variables of a shell whose `cargo run` runs this command, if there is one."""
    with tempfile.TemporaryDirectory() as directory:
        stand_in = pathlib.Path(directory) / "cargo"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        path = {"PATH": f"{directory}:{os.environ['PATH']}", "TOKENRY": os.path.abspath(tokenry)}
        yield os.environ | path


def main(tokenry=None):
    with cargo(tokenry) if tokenry else contextlib.nullcontext(os.environ) as environment:
        run_documents(environment)


def run_documents(environment):
    if answers():
        sys.exit(f"{URL} is taken")
    server = subprocess.Popen(
        ["bash", "-c", f"exec {SERVER}"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for_server(server)
        for document, servers in DOCUMENTS.items():
            run_commands(document, servers, environment)
    finally:
        server.terminate()
        printed = server.communicate()[0]

    if not re.search(r"curl -X POST -H 'Authorization: tk_ai_\w+' '\S+;demo/tokens'", printed):
        sys.exit(f"no curl line in what the server printed:\n{printed}")
    if server.returncode != 0:
        sys.exit(f"the server ended with {server.returncode}")


def run_commands(document, servers, environment):
    """Runs the commands of a document, and compares the responses that it shows."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    commands = [block for block in blocks if block.strip() != SERVER]
    if len(blocks) - len(commands) != servers:
        sys.exit(f"{document}: not {servers} blocks that are `{SERVER}`")
    print(f"-- {document}: {len(commands)} blocks", flush=True)
    script = "set -euo pipefail\n" + "\necho\n".join(commands)
    run = subprocess.Popen(
        ["bash", "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    given = []
    for line in run.stdout:
        print(line, end="", flush=True)
        if line.startswith("{"):
            given.append(set(json.loads(line)))
    if run.wait() != 0:
        sys.exit(f"{document}: a command failed")
    shown = [set(json.loads(line)) for line in re.findall(r"^{.*}$", text, re.M)]
    for shape in shown:
        if shape not in given:
            sys.exit(f"{document}: no command answered with the fields {sorted(shape)}")


main(*sys.argv[1:])
