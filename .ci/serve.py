"""What the scripts share that run `tokenry`: how it is started, and how a claim is held."""

import contextlib
import json
import subprocess
import sys


def must(holds, claim, seen=""):
    """Says what holds; ends the run at the first claim that does not."""
    if not holds:
        sys.exit(f"this does not hold: {claim}\n{seen}")
    print(f"ok: {claim}", flush=True)


@contextlib.contextmanager
def serving(tokenry, log):
    """Starts a server that keeps nothing and logs to this file; returns what it says of itself."""
    arguments = [tokenry, "serve", "--memory", "--port", "0", "--json", "--log", "info"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        ended = process.wait(timeout=10)
    if ended != 0:
        sys.exit(f"tokenry serve ended with {ended}")
