#!/usr/bin/env python3
"""Runs the configurations of docs/how-to/use-a-gateway.md against `tokenry serve`.

    gateways.py TOKENRY [SECTION…]

TOKENRY is the built command. A SECTION is a heading of the document; by default, the script runs all
sections of GATEWAYS. It takes each configuration from the document, and replaces only the values that
the document tells the reader to replace. The gateways reach Tokenry over TLS. Only mod_oauth2
reaches it over HTTP, because it cannot be given another root certificate. The script needs nginx,
Caddy, openssl, and Apache with mod_auth_openidc and mod_oauth2. It writes only to target/gateways.
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
from front import certificate, free_port, nginx, program, running, tls_front
from serve import must, serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs/how-to/use-a-gateway.md"
WORK = ROOT / "target/gateways"
MODULES = pathlib.Path("/usr/lib/apache2/modules")
BODY = b"0123456789" * 90_000  # Less than nginx allows by default, and much more than Tokenry allows.
HEADERS = ("X-Tokenry-Sub", "X-Tokenry-Ecosystem", "X-Tokenry-Holder", "X-Tokenry-Scope", "X-Tokenry-Token-Id")

# A cache for the whole server. It stores only Tokenry's responses, and ignores their headers about
# caching. The configuration of the document must turn the cache off.
NGINX_CACHE = """
    map $uri $not_tokenry {
        volatile;
        default 1;
        /api/auth/whoami 0;
    }
    proxy_cache_path cache keys_zone=all:1m;
    proxy_cache all;
    proxy_cache_key $uri$args$http_authorization;
    proxy_cache_valid any 10m;
    proxy_ignore_headers Cache-Control Expires Vary Set-Cookie;
    proxy_cache_bypass $not_tokenry;
    proxy_no_cache $not_tokenry;
"""

APACHE = """
ServerRoot {directory}
ServerName localhost
PidFile apache.pid
DefaultRuntimeDir {directory}
Mutex file:{directory}
ErrorLog /dev/stderr
{user}
{modules}
{more}
"""


def section(heading):
    """Returns the code block of a configuration in the document."""
    text = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)[1]
    (block,) = re.findall(r"^```\w+\n(.*?)^```$", text, re.M | re.S)
    return block


class Api(http.server.BaseHTTPRequestHandler):
    """The API behind the gateway. It answers each request with the method, the headers and the length of the body."""

    protocol_version = "HTTP/1.1"
    requests = 0

    def handle_request(self):
        Api.requests += 1
        if self.headers.get("Transfer-Encoding") == "chunked":
            length = 0
            while size := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            length = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        headers = [[name.lower(), value.encode("latin-1").decode()] for name, value in self.headers.items()]
        body = json.dumps({"method": self.command, "path": self.path, "headers": headers, "body": length}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = handle_request

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def api():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def run_nginx(directory, config, port):
    return nginx(directory, NGINX_CACHE + config)


def run_caddy(directory, config, port):
    (directory / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + config)
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", "Caddyfile"]


def run_apache(directory, config, port, *names, more=""):
    """Writes a configuration that loads these modules. Returns the command that starts Apache."""
    base = ["mpm_event", "authn_core", "authz_core", "authz_user", "headers", "proxy", "proxy_http"]
    modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in [*base, *names])
    user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
    text = APACHE.format(directory=directory, user=user, modules=modules, more=more)
    (directory / "apache.conf").write_text(text + config)
    return [program("apache2"), "-D", "FOREGROUND", "-f", directory / "apache.conf"]


def run_openidc(directory, config, port):
    # The document does not need this line, because the certificate of a real deployment is trusted.
    return run_apache(directory, config, port, "auth_openidc", more=f"OIDCCABundlePath {WORK}/front/certificate.pem")


def run_oauth2(directory, config, port):
    return run_apache(directory, config, port, "oauth2")


GATEWAYS = {
    "nginx": run_nginx,
    "Caddy": run_caddy,
    "Apache with mod_auth_openidc": run_openidc,
    "Apache with mod_oauth2": run_oauth2,
}


class Tokenry:
    """Creates tokens for the checks. All requests go directly to Tokenry."""

    def __init__(self, start):
        self.url, self.account = start["url"], start["accountToken"]
        self.ecosystem = start["ecosystemId"]
        self.user = f"{self.ecosystem};zoë"
        self.put(self.user)
        self.server = self.mint(f"ecosystems/{self.ecosystem}", scope="tokenry:introspect")
        self.other_server = self.mint(f"ecosystems/{self.ecosystem}", scope="read write")
        other = self.send("POST", "api/ecosystems")["id"]
        self.put(f"{other};bob")
        self.foreign = self.mint(f"users/{other};bob")

    def send(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.account}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or "null")

    def put(self, user):
        self.send("PUT", f"api/users/{urllib.parse.quote(user)}", {})

    def mint(self, owner, **fields):
        return self.send("POST", f"api/{urllib.parse.quote(owner)}/tokens", fields)["token"]

    def user_token(self, scope="read write"):
        return self.mint(f"users/{self.user}", scope=scope)

    def revoke(self, token):
        form = urllib.parse.urlencode({"token": token}).encode()
        urllib.request.urlopen(f"{self.url}/api/auth/revoke", form, timeout=20).close()


class Gateway:
    def __init__(self, name, port):
        self.name, self.port = name, port

    def send(self, method, token=None, path="/orders", body=None, headers=()):
        """Sends a request. Returns the response, and what the API received (None if the API received nothing)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        chunked = isinstance(body, list)
        connection.putrequest(method, path)
        if token:
            connection.putheader("Authorization", f"Bearer {token}")
        for name, value in headers:
            connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            connection.putheader("Content-Length", str(len(body)))
        before = Api.requests
        connection.endheaders(body and (iter(body) if chunked else body), encode_chunked=chunked)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if Api.requests == before:
            return response, None
        return response, json.loads(text) if text else {}

    def passes(self, statement, *request, **more):
        response, received = self.send(*request, **more)
        must(
            response.status == 200 and received is not None,
            f"{self.name}: {statement} reaches the API",
            (response.status, response.headers.items()),
        )
        return received

    def refuses(self, statement, status, *request, **more):
        response, received = self.send(*request, **more)
        must(
            response.status == status and received is None,
            f"{self.name}: {statement} gets {status}, and does not reach the API",
            (response.status, response.headers.items(), received),
        )
        return response


def attempt(gateway, tokenry):
    """Sends requests to a running gateway, and checks the responses and what the API received."""
    name = gateway.name
    apache = name.startswith("Apache")
    token = tokenry.user_token()
    # The Apache modules do not encode characters outside of ASCII.
    sub = tokenry.user if apache else urllib.parse.quote(tokenry.user, safe=";")
    facts = {"x-tokenry-sub": sub, "x-tokenry-ecosystem": tokenry.ecosystem, "x-tokenry-holder": "user"}

    def identity(received):
        return [[key, value] for key, value in received["headers"] if "tokenry" in key]

    received = gateway.passes("a valid token", "GET", token, path="/orders/1?page=2")
    found = dict.fromkeys(map(str.lower, HEADERS), "") | dict(identity(received))
    must(
        found.items() >= facts.items()
        and set(found["x-tokenry-scope"].split()) == {"read", "write"}
        and re.fullmatch(r"[0-9A-Z]{26}", found["x-tokenry-token-id"])
        and len(identity(received)) == len(HEADERS),
        f"{name}: the API gets each identity header once",
        received,
    )
    must(received["path"] == "/orders/1?page=2", f"{name}: the API gets the path and the query", received)
    false = [(header, "false") for header in HEADERS] + [(header.lower(), "false") for header in HEADERS]
    if name == "Caddy":
        false.append(("X-Tokenry-Other", "false"))
    if name == "nginx":
        false.append(("X_Tokenry_Sub", "false"))
    honest = identity(received)
    received = gateway.passes("a valid token with false identity headers", "GET", token, headers=false)
    must(sorted(identity(received)) == sorted(honest), f"{name}: a client cannot set the identity headers", received)
    dropped = [("Connection", ", ".join(["close", *HEADERS]))]
    received = gateway.passes("a valid token with a `Connection` header", "GET", token, headers=dropped)
    must(sorted(identity(received)) == sorted(honest), f"{name}: a client cannot remove the identity headers", received)

    for method in ("HEAD", "POST", "OPTIONS", "GET"):
        response = gateway.refuses(f"{method} without a token", 401, method)
    must(
        response.headers["WWW-Authenticate"].lower().startswith("bearer"),
        f"{name}: the 401 has a challenge",
        response.headers.items(),
    )
    gateway.refuses("a request with identity headers but no token", 401, "GET", headers=false)
    gateway.refuses("an invalid token", 401, "GET", "tk_uf_invalid")
    outside = 401 if apache else 403
    gateway.refuses("a token of another ecosystem", outside, "GET", tokenry.foreign)
    # The server token belongs to the ecosystem, so introspection reports it as active.
    for method in ("GET", "POST"):
        gateway.refuses(f"{method} with a server token", 403, method, tokenry.other_server)
    gateway.refuses("an account token", outside, "GET", tokenry.account)

    for scope, allowed in {"orders read": {"GET", "HEAD"}, "write": {"POST", "OPTIONS"}, "orders:read rewrite": set()}.items():
        limited = tokenry.user_token(scope)
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            statement = f"{method} with the scope `{scope}`"
            if method in allowed:
                gateway.passes(statement, method, limited)
            else:
                gateway.refuses(statement, 403, method, limited)

    for what, body in {"a body of 900 kB": BODY, "the same body in chunks": [BODY[:1], BODY[1:]]}.items():
        received = gateway.passes(what, "POST", token, body=body)
        must((received["method"], received["body"]) == ("POST", len(BODY)), f"{name}: the API gets {what}", received)

    for method in ("GET", "POST"):
        token = tokenry.user_token()
        for _ in range(3):
            gateway.passes(f"{method} with a token that is not yet revoked", method, token)
        tokenry.revoke(token)
        gateway.refuses(f"the next {method} after the revocation", 401, method, token)


def configuration(heading, values, port):
    """Returns a configuration of the document, with the values that the document tells the reader to replace."""
    config = section(heading)
    for value, instead in (values | {"8080": str(port)}).items():
        config = config.replace(value, instead)
    return config


def attempt_without_ecosystem(heading, values, environment, tokenry):
    """Checks a configuration without an ecosystem. The response for an account token then lacks one header."""
    name = f"{heading} without `ecosystem`"
    directory, port = WORK / f"{heading.lower()}-without-ecosystem", free_port()
    directory.mkdir()
    config, count = re.subn(r"ecosystem=C[0-9a-f]{24}&", "", configuration(heading, values, port))
    must(count == 1, f"{name}: the configuration named the ecosystem once", count)
    with running(GATEWAYS[heading](directory, config, port), port, directory, environment):
        false = [(header, "false") for header in HEADERS]
        received = Gateway(name, port).passes("an account token", "GET", tokenry.account, headers=false)
        must("false" not in dict(received["headers"]).values(), f"{name}: a client cannot set the missing header", received)


def run(heading, tokenry):
    directory = WORK / heading.lower().replace(" ", "-")
    directory.mkdir()
    port = free_port()
    with contextlib.ExitStack() as stack, api() as api_port:
        with serving(tokenry, subprocess.DEVNULL) as start:
            made = Tokenry(start)
            front = free_port()
            stack.enter_context(tls_front(WORK / "front", front, start["url"]))
            url = start["url"] if heading.endswith("mod_oauth2") else f"https://127.0.0.1:{front}"
            values = {
                "https://tokenry.example.com": url,
                "C0123456789abcdef01234567": made.ecosystem,
                "SERVER_TOKEN": made.server,
                "127.0.0.1:9000": f"127.0.0.1:{api_port}",
                "/etc/ssl/certs/ca-certificates.crt": str(WORK / "front/certificate.pem"),
            }
            config = configuration(heading, values, port)
            command = GATEWAYS[heading](directory, config, port)
            environment = {"SSL_CERT_FILE": str(WORK / "front/certificate.pem"), "HOME": str(directory)}
            stack.enter_context(running(command, port, directory, environment))
            gateway = Gateway(heading, port)
            attempt(gateway, made)
            if heading == "nginx":
                gateway.refuses("the internal location", 404, "GET", made.user_token(), path="/tokenry")
            if "whoami" in config:
                attempt_without_ecosystem(heading, values, environment, made)
            token = made.user_token()
            gateway.passes("a token before Tokenry stops", "GET", token)
        response, received = gateway.send("GET", token)
        must(
            response.status >= 400 and received is None,
            f"{heading}: no request passes while Tokenry does not run (status {response.status})",
        )


def main(tokenry, *headings):
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "front").mkdir(parents=True)
    certificate(WORK / "front")
    for heading in headings or GATEWAYS:
        run(heading, tokenry)


main(*sys.argv[1:])
