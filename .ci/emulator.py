"""Reads template.yaml, and starts ministack and Lambda's runtime interface emulator.

The scripts that import this file need a Python environment with `ministack` and `aws-sam-cli`.
ministack emulates KMS and DynamoDB. aws-sam-cli contains the runtime interface emulator, and depends
on boto3.
"""

import contextlib
import http.server
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import samcli
from samcli.yamlhelper import yaml_parse

from serve import must

ROOT = pathlib.Path(__file__).resolve().parent.parent
MACHINE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
EMULATOR = pathlib.Path(samcli.__file__).parent / f"local/rapid/aws-lambda-rie-{MACHINE}"
REGION = "eu-central-1"
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
# The properties of each function in template.yaml, by the function's `Handler`. Tokenry and the
# scripts use the `Handler` as the function's name (tests/black_box/template.rs).
FUNCTIONS = {
    of["Properties"]["Handler"]: of["Properties"]
    for of in TEMPLATE["Resources"].values()
    if of["Type"] == "AWS::Serverless::Function"
}


def route(name):
    """Returns the method and the path of a function's route."""
    event = FUNCTIONS[name]["Events"]["Route"]
    return event["Properties"]["Method"], event["Properties"]["Path"]


def variables(name):
    """Returns the function's own environment variables, without the variables in `Globals`."""
    return FUNCTIONS[name].get("Environment", {}).get("Variables", {})


def free_ports(count):
    """Returns ports that no process listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(port, process):
    """Waits until the process listens on the port.

    Ends the script if the process ends, or if the process does not listen after a minute.
    """
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.2)
    sys.exit(f"{process.args[0]} does not listen on port {port}")


@contextlib.contextmanager
def running(arguments, port, environment, log):
    process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
    try:
        wait_for(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ministack(stack):
    """Starts ministack. Returns its URL, and environment variables with which functions use it."""
    (port,) = free_ports(1)
    services = {"SERVICES": "dynamodb,kms", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    arguments = [sys.executable, "-m", "ministack"]
    stack.enter_context(running(arguments, port, os.environ | services, subprocess.DEVNULL))
    url = f"http://127.0.0.1:{port}"
    return url, os.environ | {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "TOKENRY_IDENTITY_TABLE": "identity",
        "TOKENRY_EPHEMERAL_TABLE": "ephemeral",
        "TOKENRY_LOG": "trace",
    }


@contextlib.contextmanager
def recorded(url, calls):
    """Starts a proxy of KMS that forwards requests to `url`.

    Yields the URL of the proxy. Each function must use this URL with the function's name as the
    path. For each request, the proxy adds the function's name and the KMS action to `calls`.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            _, action = self.headers["X-Amz-Target"].split(".")
            calls.add((self.path.strip("/"), action))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            request = urllib.request.Request(url, body, headers)
            try:
                answer = urllib.request.urlopen(request, timeout=30)
            except urllib.error.HTTPError as refusal:
                answer = refusal
            with answer:
                text = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def bootstrap(tokenry, environment):
    """Creates the tables and the first account. Returns the account's token."""
    arguments = [tokenry, "bootstrap", "--create-tables", "--json"]
    made = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    must(made.returncode == 0, "tokenry bootstrap creates the tables and an account", made.stderr)
    return json.loads(made.stdout)["accountToken"]


class Function:
    """One function in its own execution environment."""

    def __init__(self, stack, binary, environment, name):
        self.name = name
        self.log = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        self.port, runtime = free_ports(2)
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"]
        addresses += ["--runtime-api-address", f"127.0.0.1:{runtime}"]
        arguments = [EMULATOR, *addresses, binary, name]
        stack.enter_context(running(arguments, self.port, environment, self.log))

    def event(self, authorization=None, query="", body=None, form=None, parameters=None):
        """Returns an event of an HTTP API (payload format 2.0)."""
        headers = {"authorization": authorization} if authorization else {}
        if body:
            body, headers["content-type"] = json.dumps(body), "application/json"
        if form:
            body, headers["content-type"] = form, "application/x-www-form-urlencoded"
        method, path = route(self.name)
        key = f"{method} {path}"
        path = path.format(**parameters or {})
        event = {
            "version": "2.0",
            "routeKey": key,
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "pathParameters": parameters or {},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "domainName": "api.example.com",
                "http": {
                    "method": method,
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                },
                "requestId": "request",
                "routeKey": key,
                "stage": "$default",
                "timeEpoch": 0,
            },
            "isBase64Encoded": False,
        }
        if body:
            event["body"] = body
        return event

    def invoke(self, event):
        """Sends an event. Returns the parsed response. If the request fails, returns the exception.

        The event is an object or JSON text. Send only one event at a time.
        """
        text = event if isinstance(event, str) else json.dumps(event)
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        try:
            with urllib.request.urlopen(url, text.encode(), timeout=30) as response:
                return json.load(response)
        except (OSError, ValueError) as error:
            return error

    def answer(self, event):
        """Sends an event. Returns the response's status, headers and body. Parses a JSON body."""
        answer = self.invoke(event)
        if not isinstance(answer, dict) or "statusCode" not in answer:
            sys.exit(f"{self.name} sent no HTTP response: {answer}\n{self.logged()}")
        headers, body = answer["headers"], answer.get("body") or ""
        if headers.get("content-type") == "application/json":
            body = json.loads(body)
        return answer["statusCode"], headers, body

    def call(self, **request):
        return self.answer(self.event(**request))

    def succeed(self, status=200, **request):
        """Calls the function. Returns the body. Exits if the response's status is not `status`."""
        answer = self.call(**request)
        must(answer[0] == status, f"{self.name} answers {status}", f"{answer}\n{self.logged()}")
        return answer[2]

    def logged(self):
        self.log.seek(0)
        return self.log.read()
