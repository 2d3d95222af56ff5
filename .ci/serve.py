"""Code for the scripts that run `tokenry`: starts a server, and checks claims."""

import contextlib
import json
import subprocess
import sys


def must(holds, claim, seen=""):
    """Prints the claim if it is true. Exits if it is false, and prints what was seen."""
    if not holds:
        sys.exit(f"failed: {claim}\n{seen}")
    print(f"ok: {claim}", flush=True)


@contextlib.contextmanager
def serving(tokenry, log):
    """Starts a server that stores data in memory and logs to a file. Yields its first output."""
    arguments = [tokenry, "serve", "--memory", "--port", "0", "--json", "--log", "info"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        ended = process.wait(timeout=10)
    if ended != 0:
        sys.exit(f"tokenry serve ended with {ended}")
