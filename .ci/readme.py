#!/usr/bin/env python3
"""Runs the commands in the README, in the tutorial, and in two more documents (DOCUMENTS).

    readme.py [TOKENRY]

The script starts a server with `cargo run -- serve`. It then runs the blocks marked `sh` of each
document from top to bottom, in one shell for each document. The README and the tutorial also have a
block that contains only `cargo run -- serve`. The script does not run this block, because the
server already runs. At the end, the script stops the server.

If TOKENRY is given, it must be the path of the built command. A script then replaces `cargo`, so
that `cargo run` runs this command.

A document also shows responses. Each of them must have exactly the fields of a response that a
command of the document printed.
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
# For each document, the number of blocks that contain only `cargo run -- serve`.
DOCUMENTS = {"README.md": 1, "docs/tutorial.md": 1, "docs/how-to/manage-tokens.md": 0, "docs/reference/console.md": 0}
SERVER = "cargo run -- serve"
# The script that replaces `cargo` if TOKENRY is given. It accepts only `cargo run`. It passes the
# arguments after `--` to the built command.
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
    """Returns whether a server answers at URL."""
    try:
        urllib.request.urlopen(URL).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait_for_server(server):
    """Waits until the server answers. Exits if the server ends before that."""
    while server.poll() is None:
        if answers():
            return
        time.sleep(0.2)
    sys.exit("the server did not start")


@contextlib.contextmanager
def cargo(tokenry):
    """Yields environment variables with which `cargo run` runs the built command."""
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
        sys.exit(f"another server already uses {URL}")
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
        sys.exit(f"the server printed no curl command:\n{printed}")
    if server.returncode != 0:
        sys.exit(f"the server ended with the exit code {server.returncode}")


def run_commands(document, servers, environment):
    """Runs the commands of a document. Compares the fields of real and documented responses."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    commands = [block for block in blocks if block.strip() != SERVER]
    if len(blocks) - len(commands) != servers:
        sys.exit(f"{document}: {servers} blocks must be `{SERVER}`, but {len(blocks) - len(commands)} are")
    print(f"-- {document}: {len(commands)} blocks", flush=True)
    # A document does not show `--fail-with-body`. With it, a command fails if its response is an error.
    script = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n' + "\necho\n".join(commands)
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
            sys.exit(f"{document}: no response had exactly the fields {sorted(shape)}, which the document shows")


main(*sys.argv[1:])
