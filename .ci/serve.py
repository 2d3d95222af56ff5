"""Contains functions that start a server and check claims, for the scripts that run `tokenry`."""

import contextlib
import json
import subprocess
import sys


def must(holds, claim, seen=""):
    """If `holds` is true, prints the claim. Otherwise prints the claim and `seen`, and exits."""
    if not holds:
        sys.exit(f"failed: {claim}\n{seen}")
    print(f"ok: {claim}", flush=True)


@contextlib.contextmanager
def serving(tokenry, log, data=None):
    """Starts a server that logs to `log`. It stores data in the directory `data`, or in memory.

    Yields the JSON object that the server prints when it is ready.
    """
    where = ["--data", str(data)] if data else ["--memory"]
    arguments = [tokenry, "serve", *where, "--port", "0", "--json", "--log", "info"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        ended = process.wait(timeout=10)
    if ended != 0:
        sys.exit(f"tokenry serve ended with the exit code {ended}")
