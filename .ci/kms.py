#!/usr/bin/env python3
"""Runs e-mail tokens' endpoints against a KMS and a DynamoDB of another maker.

    kms.py FUNCTIONS TOKENRY

Both arguments are built binaries. Run it with the Python of an environment that has `ministack`,
which is that KMS and DynamoDB, and `aws-sam-cli`, which brings Lambda's runtime interface emulator
and boto3. Each endpoint is a process of its own under an emulator of its own, so that one process
wraps the data key and others unwrap it.
"""

import base64
import contextlib
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3
import samcli

MACHINE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
EMULATOR = pathlib.Path(samcli.__file__).parent / f"local/rapid/aws-lambda-rie-{MACHINE}"
REGION = "eu-central-1"
ROUTES = {
    "create-ecosystem": "POST /api/ecosystems",
    "put-user": "PUT /api/users/{id}",
    "create-email-token": "POST /_/user-token",
    "get-email-token-value": "GET /_/user-token/value",
    "log-in-with-password": "POST /_/user-token/value",
    "introspect-token": "POST /api/auth/introspect",
}
EMAIL, PASSWORD = "bob@example.com", "correct horse battery"
CONTEXT = {"tokenry": "value-key"}
UNAVAILABLE = {
    "errorType": "ServiceUnavailable",
    "errors": [{"message": "the service is not available, try again"}],
}


def must(holds, claim, seen=""):
    """Says what holds; ends the run at the first claim that does not."""
    if not holds:
        sys.exit(f"KMS: this does not hold: {claim}\n{seen}")
    print(f"ok: {claim}", flush=True)


def free_ports(count):
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(port, process):
    """Returns once the process listens; gives up when it ends, or after a minute."""
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.2)
    sys.exit(f"KMS: {process.args[0]} does not listen")


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


class Endpoint:
    """One endpoint in an execution environment of its own."""

    def __init__(self, stack, binary, environment, name):
        self.name = name
        self.log = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        self.port, runtime = free_ports(2)
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"]
        addresses += ["--runtime-api-address", f"127.0.0.1:{runtime}"]
        arguments = [EMULATOR, *addresses, binary, name]
        stack.enter_context(running(arguments, self.port, environment, self.log))

    def call(self, authorization=None, query="", body=None, form=None, parameters=None):
        """Invokes it with an HTTP API's event; returns status, headers and the body's JSON."""
        headers = {"authorization": authorization} if authorization else {}
        if body:
            body, headers["content-type"] = json.dumps(body), "application/json"
        if form:
            body, headers["content-type"] = form, "application/x-www-form-urlencoded"
        route = ROUTES[self.name]
        event = {
            "version": "2.0",
            "routeKey": route,
            "rawPath": "/",
            "rawQueryString": query,
            "headers": headers,
            "pathParameters": parameters or {},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "http": {
                    "method": route.split()[0],
                    "path": "/",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                },
                "requestId": "request",
                "routeKey": route,
                "stage": "$default",
                "timeEpoch": 0,
            },
            "isBase64Encoded": False,
        }
        if body:
            event["body"] = body
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        try:
            with urllib.request.urlopen(url, json.dumps(event).encode(), timeout=30) as response:
                answer = json.load(response)
        except OSError as error:
            answer = error
        if not isinstance(answer, dict) or "statusCode" not in answer:
            sys.exit(f"KMS: {self.name} does not run: {answer}\n{self.logged()}")
        return answer["statusCode"], answer["headers"], json.loads(answer["body"])

    def succeed(self, status=200, **request):
        """Calls it; returns the body's JSON."""
        answer = self.call(**request)
        must(answer[0] == status, f"{self.name} answers {status}", f"{answer}\n{self.logged()}")
        return answer[2]

    def logged(self):
        self.log.seek(0)
        return self.log.read()


def main(functions, tokenry):
    with contextlib.ExitStack() as stack:
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "TOKENRY_IDENTITY_TABLE": "identity",
            "TOKENRY_EPHEMERAL_TABLE": "ephemeral",
            "TOKENRY_LOG": "trace",
        }
        services = {"SERVICES": "dynamodb,kms", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
        ministack = [sys.executable, "-m", "ministack"]
        log = subprocess.DEVNULL
        stack.enter_context(running(ministack, port, os.environ | services, log))

        session = boto3.Session("test", "test", region_name=REGION)
        kms, dynamodb = (session.client(name, endpoint_url=url) for name in ("kms", "dynamodb"))
        key, another = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))

        bootstrap = [tokenry, "bootstrap", "--create-tables", "--json"]
        made = subprocess.run(bootstrap, env=environment, capture_output=True, text=True)
        must(made.returncode == 0, "tokenry bootstrap makes tables and an account", made.stderr)
        account = json.loads(made.stdout)["accountToken"]

        endpoints = []

        def start(name, value_key=key):
            variables = environment | {"TOKENRY_VALUE_KEY": value_key}
            endpoint = Endpoint(stack, functions, variables, name)
            endpoints.append(endpoint)
            return endpoint

        ecosystem = start("create-ecosystem").succeed(201, authorization=account)["id"]
        user = f"{ecosystem};bob"
        credentials = {"email": EMAIL, "password": PASSWORD}
        start("put-user").succeed(
            201, authorization=account, parameters={"id": user}, body=credentials
        )
        start("create-email-token").succeed(201, authorization=account, body={"email": EMAIL})

        ask = {"authorization": account, "query": f"email={EMAIL}"}
        reader = start("get-email-token-value")
        value = reader.succeed(**ask)["data"][0]["token"]
        logged_in = start("log-in-with-password").succeed(body=credentials)
        must(
            logged_in["data"][0]["token"] == value,
            "another process logs in with the value that a third one reads",
        )
        claims = start("introspect-token").succeed(authorization=account, form=f"token={value}")
        must(claims.get("active") is True and claims.get("sub") == user, "it counts", claims)

        items = dynamodb.scan(TableName="identity")["Items"]
        (wrapped,) = [item["wrapped"]["B"] for item in items if item["item"]["S"] == "value-key"]
        opened = kms.decrypt(KeyId=key, CiphertextBlob=wrapped, EncryptionContext=CONTEXT)
        data_key = opened["Plaintext"]
        must(len(data_key) == 32, "the table keeps a data key that KMS unwraps")
        try:
            opened = kms.decrypt(KeyId=key, CiphertextBlob=wrapped)
        except kms.exceptions.InvalidCiphertextException:
            opened = None
        must(opened is None, "KMS unwraps it in its context alone")

        secrets = [account, value, PASSWORD, data_key.hex(), base64.b64encode(data_key).decode()]

        def must_fail(endpoint, why, cause):
            status, headers, body = endpoint.call(**ask)
            seen = f"{status} {headers} {body}\n{endpoint.logged()}"
            holds = status == 503 and headers.get("retry-after") == "1"
            must(holds, f"{why} a new process answers 503, and when to try again", seen)
            must(body == UNAVAILABLE, f"{why} its answer says nothing else", seen)
            must(cause in endpoint.logged(), f"{why} its log says {cause!r}", seen)

        must_fail(start("get-email-token-value", another), "with another key", "value key: ")
        kms.disable_key(KeyId=key)
        late = start("get-email-token-value")
        must_fail(late, "with a key that is disabled", "KMS: DisabledException")
        must(
            reader.succeed(**ask)["data"][0]["token"] == value,
            "a process that has unwrapped the data key reads all the same",
        )
        kms.enable_key(KeyId=key)
        for endpoint in (late, start("get-email-token-value")):
            must(
                endpoint.succeed(**ask)["data"][0]["token"] == value,
                "with the key enabled again the value is as before",
            )
        logs = "".join(endpoint.logged() for endpoint in endpoints)
        must(not any(secret in logs for secret in secrets), "no log holds a secret", logs)


main(*sys.argv[1:])
