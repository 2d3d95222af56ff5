#!/usr/bin/env python3
"""Runs OAuth clients, unmodified, against `tokenry serve`.

    oauth_clients.py TOKENRY

TOKENRY is the built command. The clients are in .ci/oauth: Authlib, requests-oauthlib, fastmcp and
django-oauth-toolkit (client.py), openid-client, oauth4webapi and token-introspection (client.mjs), and
the crate oauth2 (main.rs). Each client introspects a valid token, a revoked token and a token of another
ecosystem. Each client that supports revocation also revokes a token. All clients reach Tokenry through a
TLS front, because some of them accept only `https:` addresses. The script needs nginx, openssl, Node.js
with npm, Rust, and the Python environment of .ci/oauth-requirements.txt. It writes only to target/oauth.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request

sys.dont_write_bytecode = True
from front import certificate, free_port, tls_front
from serve import serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIENTS = ROOT / ".ci/oauth"
WORK = ROOT / "target/oauth"
NPM = ["openid-client@6.9.0", "oauth4webapi@3.8.8", "token-introspection@3.3.0"]


def run(*command, **more):
    started = time.monotonic()
    subprocess.run(command, check=True, **more)
    print(f"{time.monotonic() - started:6.1f} s  {' '.join(map(str, command))[:70]}", flush=True)


def send(start, method, path, body=None):
    headers = {"Authorization": f"Bearer {start['accountToken']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{start['url']}/{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def mint(start, owner, scope="read write"):
    return send(start, "POST", f"api/{owner}/tokens", {"scope": scope})["token"]


def variables(start, issuer):
    """Returns the environment of a client, with new tokens."""
    user, ecosystem = start["userId"], start["ecosystemId"]
    other = send(start, "POST", "api/ecosystems")["id"]
    send(start, "PUT", f"api/users/{other};bob", {})
    root = str(WORK / "front/certificate.pem")
    return {
        "ISSUER": issuer,
        "CLIENT_ID": ecosystem,
        "CLIENT_SECRET": mint(start, f"ecosystems/{ecosystem}", "tokenry:introspect"),
        "USER_ID": user,
        "TOKENS": " ".join(mint(start, f"users/{user}") for _ in range(10)),
        "READER": mint(start, f"users/{user}", "read"),
        "FOREIGN": mint(start, f"users/{other};bob"),
        # Each language reads the root certificates from a different variable.
        "CERTIFICATE": root,
        "NODE_EXTRA_CA_CERTS": root,
        "REQUESTS_CA_BUNDLE": root,
        "SSL_CERT_FILE": root,
    }


def main(tokenry):
    WORK.mkdir(parents=True, exist_ok=True)
    run("npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", WORK, *NPM)
    # With Tokenry's Cargo.lock, the client uses the same versions of crates as Tokenry.
    for file in (CLIENTS / "client.mjs", CLIENTS / "Cargo.toml", CLIENTS / "main.rs", ROOT / "Cargo.lock"):
        shutil.copy(file, WORK)
    run("cargo", "build", "--quiet", cwd=WORK)
    shutil.rmtree(WORK / "front", ignore_errors=True)
    (WORK / "front").mkdir()
    certificate(WORK / "front")
    for client in (
        [sys.executable, CLIENTS / "client.py"],
        ["node", WORK / "client.mjs"],
        [WORK / "target/debug/oauth-client"],
    ):
        port = free_port()
        issuer = f"https://localhost:{port}"
        with (
            serving(tokenry, subprocess.DEVNULL, environment={"TOKENRY_PUBLIC_URL": issuer}) as start,
            tls_front(WORK / "front", port, start["url"]),
        ):
            run(*client, env=os.environ | variables(start, issuer))


main(*sys.argv[1:])
