#!/usr/bin/env python3
"""Runs the README's commands, in its order and by its words.

    readme.py [TOKENRY]

Every block marked `sh` is run: `cargo run` in the background until all others have been, the others one after the
other in one shell. With TOKENRY, the built command, `cargo run` is a stand-in that runs it. The answers that the README
shows are compared by shape. `cargo test --workspace` is not run here: it is a step of .ci/run.
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
SERVER = "cargo run"
TESTS = "cargo test --workspace"
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
    """Whether anything answers at the README's address."""
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
    sys.exit("README: the server did not start")


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
        run_commands(environment)


def run_commands(environment):
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.M | re.S)
    commands = [block for block in blocks if block.strip() not in (SERVER, TESTS)]
    if len(commands) != len(blocks) - 2:
        sys.exit(f"README: not one block that is `{SERVER}` and one that is `{TESTS}`")

    if answers():
        sys.exit(f"README: {URL} is taken")
    server = subprocess.Popen(
        ["bash", "-c", f"exec {SERVER}"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for_server(server)
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
            sys.exit("README: a command failed")
    finally:
        server.terminate()
        printed = server.communicate()[0]

    curl = re.search(r"curl -X POST -H 'Authorization: tk_ai_\w+' '\S+;demo/tokens'", printed)
    if not curl:
        sys.exit(f"README: no curl line in what the server printed:\n{printed}")
    shown = [set(json.loads(line)) for line in re.findall(r"^{.*}$", readme, re.M)]
    for shape in shown:
        if shape not in given:
            sys.exit(f"README: no command answered with the fields {sorted(shape)}")
    if server.returncode != 0:
        sys.exit(f"README: the server ended with {server.returncode}")


main(*sys.argv[1:])
