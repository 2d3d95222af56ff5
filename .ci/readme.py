#!/usr/bin/env python3
"""Runs the commands of the README, the tutorial and the console's page.

    readme.py [TOKENRY]

It starts one server with `cargo run`, and stops it at the end. In each document, the blocks marked `sh` run from top to
bottom, in one shell for each document. The README and the tutorial also contain `cargo run` as a block: that block is only
counted. If TOKENRY is given (the path of the built command), a stand-in for `cargo` runs this command for `cargo run`. The
responses that a document shows must have the same fields as the responses of its commands.
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
# The script that replaces `cargo` if the path of the built command is given. It accepts only `cargo run`, and passes the
# arguments after `--` to the command.
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
    """Yields environment variables with which `cargo run` runs this command."""
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
        sys.exit(f"{document}: {len(blocks) - len(commands)} blocks are `{SERVER}`, expected {servers}")
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
