"""Two functions for the scripts that run `tokenry`: `serving` starts a server, and `must` exits if
a statement is false.
"""

import contextlib
import json
import os
import subprocess
import sys


def must(holds, statement, seen=""):
    """Prints the statement. If `holds` is false, also prints `seen` and exits with an error."""
    if not holds:
        sys.exit(f"failed: {statement}\n{seen}")
    print(f"ok: {statement}", flush=True)


@contextlib.contextmanager
def serving(tokenry, log, data=None, environment=None):
    """Starts a server that logs to `log`. It stores data in the directory `data`, or in memory.

    `environment` contains more environment variables for the server.

    Yields the JSON object that the server prints when it is ready, with the server's process id as
    `pid`.
    """
    where = ["--data", str(data)] if data else ["--memory"]
    arguments = [tokenry, "serve", *where, "--port", "0", "--json", "--log", "info"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | (environment or {}))
    try:
        yield json.loads(process.stdout.readline()) | {"pid": process.pid}
    finally:
        process.terminate()
        ended = process.wait(timeout=10)
    if ended != 0:
        sys.exit(f"tokenry serve ended with the exit code {ended}")
