#!/usr/bin/env python3
"""Runs the examples of docs/how-to/protect-your-api.md against `tokenry serve`.

    examples.py TOKENRY

TOKENRY is the built command. The examples are for Express, FastAPI and axum. The script runs the
code of the document without changes, with packages from npm, PyPI and crates.io. It also runs the
commands of the document, which set the variables of an example and send requests to the example.
The script needs Node.js with npm, Python 3 with venv, Rust, bash and curl. It writes only to
target/examples.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
from serve import must, serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs/how-to/protect-your-api.md"
WORK = ROOT / "target/examples"
PORT = "38080"
EXAMPLE = f"http://127.0.0.1:{PORT}"
# The document does not state exact versions, but CI must always test the same versions.
NPM = ["express@5.3.0"]
PIP = ["fastapi==0.165.0", "httpx==0.28.1", "uvicorn==0.54.0"]
WAIT = 30  # The time that an example may take to start, in seconds.


def code(section, language):
    """Returns the only code block of this language in a section of the document."""
    (block,) = blocks(section, language)
    return block


def blocks(section, language):
    """Returns the code blocks of this language in a section of the document."""
    text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


# The two scripts in the section "What each example does" of protect-your-api.md. The first script
# sets the variables of an example. The second script sends requests to an example.
VARIABLES, REQUESTS = blocks("What each example does", "sh")


def run(*command, **more):
    started = time.monotonic()
    subprocess.run(command, check=True, **more)
    print(f"{time.monotonic() - started:6.1f} s  {' '.join(map(str, command))[:70]}", flush=True)


def express(directory):
    (directory / "server.mjs").write_text(code("Express", "js"))
    run("npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", directory, *NPM)
    return ["node", "server.mjs"]


def fastapi(directory):
    (directory / "main.py").write_text(code("FastAPI", "python"))
    run(sys.executable, "-m", "venv", directory / "venv")
    run(directory / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", *PIP)
    return ["venv/bin/uvicorn", "main:app", "--port", PORT]


def axum(directory):
    (directory / "src").mkdir()
    (directory / "src/main.rs").write_text(code("axum", "rust"))
    # With Tokenry's Cargo.lock, the example uses the same versions of crates as Tokenry. With
    # `[workspace]`, the example is not a part of Tokenry's workspace.
    (directory / "Cargo.toml").write_text(code("axum", "toml") + "\n[workspace]\n")
    shutil.copy(ROOT / "Cargo.lock", directory)
    run("cargo", "build", "--quiet", "--target-dir", WORK / "cargo", cwd=directory)
    return [WORK / "cargo/debug/orders"]


def request(url, token=None, method="GET", form=None):
    """Sends a request. Returns the status, the header `WWW-Authenticate` and the body."""
    body = urllib.parse.urlencode(form).encode() if form else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers.get("WWW-Authenticate"), answer.read().decode()


@contextlib.contextmanager
def started(command, directory, environment):
    """Starts an example. Stops the example at the end of the `with` block."""
    command = ["bash", "-euc", f'{VARIABLES}exec "$@"', "bash", *command]
    process = subprocess.Popen(command, cwd=directory, env=os.environ | environment | {"PORT": PORT})
    try:
        for _ in range(WAIT * 10):
            if process.poll() is not None:
                sys.exit(f"{command} ended with the exit code {process.returncode}")
            with contextlib.suppress(urllib.error.URLError):
                request(EXAMPLE)
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def mint(start, path):
    _, _, body = request(f"{start['url']}/api/{path}/tokens", start["accountToken"], "POST")
    return re.search(r'"token":"([^"]+)"', body)[1]


def read_token(start):
    """Returns a user token with the scope `read`: the value of a new e-mail token."""
    user = urllib.request.Request(
        f"{start['url']}/api/users/{start['userId']}",
        b'{"email":"demo@example.com"}',
        {"Authorization": start["accountToken"], "Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(user).close()
    email = urllib.request.Request(
        f"{start['url']}/_/user-token",
        b'{"email":"demo@example.com","write":false}',
        {"Authorization": start["accountToken"], "Content-Type": "application/json"},
    )
    urllib.request.urlopen(email).close()
    value = f"{start['url']}/_/user-token/value?email=demo@example.com"
    return re.search(r'"token":"([^"]+)"', request(value, start["accountToken"])[2])[1]


def attempt(name, start, server, reader):
    """Sends requests to a running example, and checks the responses."""
    orders = f"{EXAMPLE}/orders"
    token = mint(start, f"users/{start['userId']}")
    status, _, body = request(orders, token)
    must(status == 200 and start["userId"] in body, f"{name}: a valid token gets 200", (status, body))
    # In the document, the examples listen on port 8080. Here, they listen on PORT.
    script = REQUESTS.replace("http://127.0.0.1:8080", EXAMPLE)
    ran = subprocess.run(["bash", "-euc", script], env=os.environ | {"TOKEN": token}, stdout=subprocess.PIPE, text=True, check=True)
    statuses = re.findall(r"HTTP/[0-9.]+ (\d+)", ran.stdout)
    must(statuses == ["200", "401"], f"{name}: the requests in the document get 200 and 401", ran.stdout)
    must(request(orders, token, "POST")[0] == 201, f"{name}: a POST with the scope write gets 201")
    must(request(orders, reader)[0] == 200, f"{name}: a GET with the scope read gets 200")
    status, challenge, _ = request(orders, reader, "POST")
    must(status == 403 and "insufficient_scope" in challenge, f"{name}: a POST with the scope read gets 403", (status, challenge))
    status, challenge, _ = request(orders)
    must((status, challenge) == (401, "Bearer"), f"{name}: a request without a token gets 401", (status, challenge))
    invalid = (401, 'Bearer error="invalid_token"')
    must(request(orders, "tk_uf_x")[:2] == invalid, f"{name}: an invalid token gets 401")
    must(request(orders, server)[:2] == invalid, f"{name}: a server token gets 401")
    request(f"{start['url']}/api/auth/revoke", method="POST", form={"token": token})
    must(request(orders, token)[:2] == invalid, f"{name}: a revoked token gets 401 at once")


def main(tokenry):
    shutil.rmtree(WORK / "axum", ignore_errors=True)
    for example in (express, fastapi, axum):
        directory = WORK / example.__name__
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        command = example(directory)
        with serving(tokenry, subprocess.DEVNULL) as start:
            server = mint(start, f"ecosystems/{start['ecosystemId']}")
            variables = {"URL": start["url"], "SERVER_TOKEN": server}
            with started(command, directory, variables):
                attempt(example.__name__, start, server, read_token(start))
        with started(command, directory, variables):
            status, _, _ = request(f"{EXAMPLE}/orders", server)
            must(status == 503, f"{example.__name__}: the example answers 503 while Tokenry does not run", status)


main(*sys.argv[1:])
