#!/usr/bin/env python3
"""Runs every function of the Lambda binary under Lambda's runtime interface emulator.

    lambda.py FUNCTIONS TOKENRY

Both arguments are built binaries. emulator.py lists the required Python packages. Each function
runs in its own process, with the tables and the KMS key that template.yaml gives the function. Each
function must answer a valid request. The script then sends events that must not crash a function,
makes the table unavailable, and starts the binary with invalid settings.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time

import boto3
import yaml

from emulator import FUNCTIONS, REGION, ROOT, Function, bootstrap, free_ports, ministack, must, route, variables

AUTHORIZER = "authorize"
EMAIL, PASSWORD = "bob@example.com", "correct horse battery"
# The ids in the examples of openapi.yaml.
SHOWN_ECOSYSTEM, SHOWN_ENVIRONMENT = "C58521fd8a5d9b5cc21987501", "E58521fd8a5d9b5cc21987502"
LIMIT = 6 * 1024 * 1024  # Lambda's limit on the size of an event, in bytes.
WITHIN = 4  # The time limit for a response while the table is unavailable, in seconds.


class Run:
    """The functions that have run, and the settings that all of them need."""

    def __init__(self, stack, functions, tokenry):
        self.binary = functions
        self.url, self.environment = ministack(stack)
        kms = boto3.client(
            "kms",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.key = kms.create_key()["KeyMetadata"]["Arn"]
        self.account = bootstrap(tokenry, self.environment)
        self.ran = set()
        self.logs = ""

    @contextlib.contextmanager
    def function(self, name, **more):
        """Starts a function with only the tables and the KMS key that the function uses."""
        given = self.environment | more
        if "TOKENRY_EPHEMERAL_TABLE" not in variables(name):
            del given["TOKENRY_EPHEMERAL_TABLE"]
        if "TOKENRY_VALUE_KEY" in variables(name):
            given["TOKENRY_VALUE_KEY"] = self.key
        with contextlib.ExitStack() as stack:
            function = Function(stack, self.binary, given, name)
            yield function
            self.ran.add(name)
            self.logs += function.logged()
            started = function.logged().count("INIT START(")
            must(started == 1, f"{name} did not restart", function.logged())

    def ask(self, name, status=200, by_account=True, **request):
        """Starts the function of an endpoint and calls it once. Returns the body."""
        if by_account:
            request["authorization"] = self.account
        with self.function(name) as function:
            return function.succeed(status, **request)


def every_endpoint(run, introspect):
    """Calls the endpoints and checks their responses. Returns the secrets in the responses."""

    def is_active(token):
        return introspect.succeed(authorization=run.account, form=f"token={token}")["active"]

    def call_without_result(name, status=204, **request):
        body = run.ask(name, status, **request)
        must(body == "", f"{name} returns no body", body)

    ecosystem = run.ask("create-ecosystem", 201)["id"]
    must(ecosystem.startswith("C"), "an ecosystem's id begins with C", ecosystem)
    of_ecosystem = {"parameters": {"ecosystemId": ecosystem}}
    environment = run.ask("create-environment", 201, **of_ecosystem)["id"]
    must(environment.startswith("E"), "an environment's id begins with E", environment)

    bob = f"{ecosystem};bob"
    of_bob = {"parameters": {"id": bob}}
    credentials = {"email": EMAIL, "password": PASSWORD}
    made = run.ask("put-user", 201, body=credentials, **of_bob)
    must(made["id"] == bob and made["email"] == EMAIL, "put-user returns the user's e-mail address", made)
    must(run.ask("get-user", **of_bob) == made, "get-user returns the same user")

    users = run.ask("create-user-token", query="expiryType=SlidingTtl&ttl=900", **of_bob)
    must(users["expiryType"] == "SlidingTtl", "the user's token is a sliding token", users)
    must(is_active(users["token"]), "the user's token is active")
    listed = run.ask("list-user-tokens", **of_bob)["tokens"]
    must([one["tokenId"] for one in listed] == [users["tokenId"]], "the list contains the user's token", listed)

    of_token = {"parameters": {"id": bob, "tokenId": users["tokenId"]}}
    changed = run.ask("update-user-token", body={"name": "phone", "metadata": {"plan": "pro"}}, **of_token)
    must(changed["metadata"] == {"plan": "pro"}, "the record contains the new metadata", changed)
    must(run.ask("get-user-token", **of_token) == changed, "get-user-token returns the same record")

    servers = run.ask("create-server-token", **of_ecosystem)
    must(is_active(servers["token"]), "the server's token is active")
    listed = run.ask("list-server-tokens", **of_ecosystem)["tokens"]
    must([one["tokenId"] for one in listed] == [servers["tokenId"]], "the list contains the server's token", listed)

    of_token = {"parameters": {"ecosystemId": ecosystem, "tokenId": servers["tokenId"]}}
    changed = run.ask("update-server-token", body={"disabled": True}, **of_token)
    must(changed["state"] == "disabled", "the server's token is disabled", changed)
    must(not is_active(servers["token"]), "a disabled token is not active")
    changed = run.ask("update-server-token", body={"disabled": False}, **of_token)
    must(run.ask("get-server-token", **of_token) == changed, "get-server-token returns the same record")
    must(is_active(servers["token"]), "an enabled token is active")

    other = run.ask("create-user-token", **of_bob)
    change = {"currentPassword": PASSWORD, "newPassword": PASSWORD}
    call_without_result("change-password", by_account=False, authorization=users["token"], body=change)
    must(is_active(users["token"]), "the token that changed the password is active")
    must(not is_active(other["token"]), "any other token of the user is inactive after the change")

    code = run.ask("create-shortcode", 201, body={"environmentId": environment})["shortcode"]
    must(len(code) == 6, "by default, a short code has six characters", code)
    devices = run.ask("consume-shortcode", by_account=False, body={"shortcode": code})
    must(devices["environmentId"] == environment, "the device's token belongs to the environment", devices)
    must(is_active(devices["token"]), "the device's token is active")

    (record,) = run.ask("create-email-token", 201, body={"email": EMAIL})["data"]
    must(record["userId"] == bob, "the e-mail token belongs to the user", record)
    must(record["write"] is True, "if the request does not contain write, the e-mail token has write access", record)
    (value,) = run.ask("get-email-token-value", query=f"email={EMAIL}")["data"]
    must(is_active(value["token"]), "the e-mail token is active")
    (record,) = run.ask("update-email-token", body={"email": EMAIL, "write": False})["data"]
    must(record["write"] is False, "the e-mail token loses write access", record)
    listed = run.ask("list-email-tokens")["data"]
    must(listed == [record], "the list contains the record of the e-mail token", listed)
    logged_in = run.ask("log-in-with-password", by_account=False, body=credentials)["data"]
    must(logged_in == [value], "a log-in returns the value of the e-mail token")
    session = run.ask("create-session", 201, by_account=False, body=credentials)
    must(session["userId"] == bob, "the session belongs to the user", session)
    must(is_active(session["token"]), "the session is active")

    authorizer(run, users["token"], bob)

    call_without_result("revoke-user-token", parameters={"id": bob, "tokenId": users["tokenId"]})
    must(not is_active(users["token"]), "the user's token is inactive after its revocation")
    revoked = run.ask("revoke-token", by_account=False, form=f"token={devices['token']}")
    must(revoked == {}, "a revocation returns an empty object", revoked)
    must(not is_active(devices["token"]), "the device's token is inactive after its revocation")
    of_token = {"ecosystemId": ecosystem, "tokenId": servers["tokenId"]}
    call_without_result("revoke-server-token", parameters=of_token)
    must(not is_active(servers["token"]), "the server's token is inactive after its revocation")
    call_without_result("revoke-user-tokens", **of_bob)
    must(not is_active(value["token"]), "the e-mail token is inactive after all tokens of its user are revoked")
    must(not is_active(session["token"]), "the session is inactive after all tokens of its user are revoked")
    # The e-mail token was revoked with the user's other tokens, so it must be created again.
    (record,) = run.ask("create-email-token", 201, body={"email": EMAIL})["data"]
    (deleted,) = run.ask("delete-email-token", body={"email": EMAIL})["data"]
    must(deleted["tokenId"] == record["tokenId"], "delete-email-token returns the deleted token", deleted)

    for name, parameters, is_gone in [
        ("delete-environment", {"environmentId": environment}, "Environment"),
        ("delete-user", {"id": bob}, "User"),
        ("delete-ecosystem", {"ecosystemId": ecosystem}, "Ecosystem"),
    ]:
        with run.function(name) as function:
            request = {"authorization": run.account, "parameters": parameters}
            body = function.succeed(204, **request)
            must(body == "", f"{name} returns no body", body)
            status, _, text = function.call(**request)
            (gone,) = parameters.values()
            wanted = f"{is_gone} with id {gone} does not exist."
            must((status, text) == (404, wanted), f"after {name}, the id does not exist", (status, text))
    return [users["token"], servers["token"], devices["token"], value["token"], code]


def other_endpoints(run):
    """Calls each endpoint that has not run yet, with the example request in openapi.yaml.

    Replaces the ids in the example with ids that exist.
    """
    routes = {name for name, of in FUNCTIONS.items() if "Route" in of.get("Events", {})}
    names = sorted(routes - run.ran)
    if not names:
        return
    ecosystem = run.ask("create-ecosystem", 201)["id"]
    of_ecosystem = {"ecosystemId": ecosystem}
    environment = run.ask("create-environment", 201, parameters=of_ecosystem)["id"]
    bob = f"{ecosystem};bob"
    run.ask("put-user", 201, body={"email": EMAIL, "password": PASSWORD}, parameters={"id": bob})
    token = run.ask("create-user-token", parameters={"id": bob})
    ids = {"id": bob, "environmentId": environment, "tokenId": token["tokenId"]} | of_ecosystem
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    for name in names:
        method, path = route(name)
        operation = contract["paths"][path][method.lower()]
        parameters = {each: ids[each] for each in re.findall(r"{(\w+)}", path)}
        content = operation.get("requestBody", {}).get("content", {})
        examples = content.get("application/json", {}).get("examples", {})
        body = next((each["value"] for each in examples.values()), None)
        body = json.loads(json.dumps(body).replace(SHOWN_ECOSYSTEM, ecosystem).replace(SHOWN_ENVIRONMENT, environment))
        run.ask(name, int(min(operation["responses"])), parameters=parameters, body=body)


def authorizer(run, token, owner):
    """Sends each of AWS's example events to the authorizer, with a valid and an invalid token."""
    with run.function(AUTHORIZER) as function:
        answer = function.invoke({"Records": []})
        refused = isinstance(answer, dict) and "errorMessage" in answer
        must(refused, f"{AUTHORIZER} fails for an event that is not an authorizer event", answer)
        examples = sorted((ROOT / "tests/events").glob("authorizer-*.json"))
        must(examples, "there are example events")
        for example in examples:
            for credential, wanted in [(token, True), ("rubbish", False)]:
                event = json.loads(example.read_text())
                for field in {"identitySource", "authorizationToken"} & event.keys():
                    several = isinstance(event[field], list)
                    event[field] = [credential] if several else credential
                if "headers" in event:
                    event["headers"]["Authorization"] = credential
                if "multiValueHeaders" in event:
                    event["multiValueHeaders"]["Authorization"] = [credential]
                decision = function.invoke(event)
                statement = f"{AUTHORIZER} {'allows' if wanted else 'denies'} {example.stem}"
                seen = f"{decision}\n{function.logged()}"
                must(allows(decision, event) is wanted, statement, seen)
                if wanted:
                    must(decision["context"]["sub"] == owner, "the context of the decision contains the owner", seen)


def allows(decision, event):
    """Returns whether a decision allows the request, or None if it has a wrong structure."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if event.get("version") == "2.0":
            return decision["isAuthorized"]
        (statement,) = decision["policyDocument"]["Statement"]
        return {"Allow": True, "Deny": False}.get(statement["Effect"])


def proxy_events(run, function, token):
    """Sends each of AWS's example events twice: unchanged, and changed to a valid request."""
    examples = sorted((ROOT / "tests/events").glob("proxy-*.json"))
    must(examples, "there are example events")
    for example in examples:
        event = json.loads(example.read_text())
        seen = function.answer(event)
        must(seen[0] == 401, f"{function.name} answers 401 to {example.stem} without a credential", seen)
        headers = {"authorization": run.account, "content-type": "application/x-www-form-urlencoded"}
        event["headers"] |= headers
        if "multiValueHeaders" in event:
            event["multiValueHeaders"] |= {name: [value] for name, value in headers.items()}
        # This endpoint rejects query strings.
        queries = {"rawQueryString": "", "queryStringParameters": None, "multiValueQueryStringParameters": None}
        answer = function.invoke(event | queries | {"body": f"token={token}"})
        granted = answer["statusCode"] == 200 and '"active":true' in answer["body"]
        must(granted, f"{function.name} answers 200 to {example.stem} with a credential", answer)


def odd_events(run, function):
    """Sends events that lambda_http cannot convert, and a body that is too large."""

    def answers(status, why, event):
        seen = function.answer(event)
        must(seen[0] == status, f"{function.name} answers {status} to {why}", seen)

    def event(**more):
        return function.event(authorization=run.account, form="token=rubbish") | more

    answers(400, "an event that is not an HTTP request", {"Records": []})
    for raw in (" ", '"', "\x01", ' "\x01'):
        answers(400, f"a query with the text {raw!r}", event(rawQueryString=f"a{raw}b=1"))
    answers(400, "a body that is not base64", event(isBase64Encoded=True, body="*"))
    for host in ("a b", "[::1", "a/b?c#d"):
        for kind, credential, status in [("a valid", run.account, 200), ("an invalid", "rubbish", 401)]:
            headers = event()["headers"] | {"host": host, "authorization": credential}
            answers(status, f"the host {host!r} with {kind} credential", event(headers=headers))
    empty = len(json.dumps(event(body="")))
    answers(413, "an event of almost 6 MB", event(body="a" * (LIMIT - 1 - empty)))
    answers(200, "a valid request after all these events", event())


def table_unavailable(run):
    """Calls a function while the table refuses connections, and while the table never answers."""
    (closed,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for why, port in [("refuses connections", closed), ("never answers", silent.getsockname()[1])]:
            url = f"http://127.0.0.1:{port}"
            with run.function("introspect-token", AWS_ENDPOINT_URL=url) as function:
                for times, which in enumerate(("first", "second"), 1):
                    start = time.monotonic()
                    seen = function.call(authorization=run.account, form="token=rubbish")
                    took = time.monotonic() - start
                    statement = f"if the table {why}, the {which} response is 503"
                    must(seen[0] == 503 and seen[1].get("retry-after") == "1", statement, seen)
                    counted = list(metrics(function))
                    must(counted == ["ServiceUnavailable"] * times, "a metric counts each 503", function.logged())
                    # If the table never answers, the first response may take longer than WITHIN,
                    # because it also waits for the cold start, for which Lambda allows 10 seconds.
                    if port == closed or which == "second":
                        must(took < WITHIN, f"the response comes within {WITHIN} seconds", f"{took:.1f}")


def metrics(function):
    """Yields the names of the metrics that a function wrote in CloudWatch's embedded format."""
    for line in function.logged().splitlines():
        if "_aws" in line:
            line = json.loads(line)
            (described,) = line["_aws"]["CloudWatchMetrics"]
            (metric,) = described["Metrics"]
            seen = (described["Namespace"], described["Dimensions"], line["FunctionName"], line[metric["Name"]])
            # In the emulator, every function has the name `test_function`.
            must(seen == ("Tokenry", [["FunctionName"]], "test_function", 1), "a metric counts one response", line)
            yield metric["Name"]


def wrong_start(run, name, why, without=""):
    """Starts the binary as Lambda does, but with invalid settings. The binary must fail."""
    variables = run.environment | {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9", "_HANDLER": name}
    variables.pop(without, None)
    process = subprocess.run(
        [os.path.abspath(run.binary)], env=variables, capture_output=True, text=True, timeout=30
    )
    lines = process.stderr.splitlines()
    holds = process.returncode != 0 and len(lines) == 1 and why in lines[0]
    must(holds, f"the binary fails and prints exactly one line, which contains {why!r}", f"{process}")
    must(not process.stdout, "the binary prints nothing to standard output", process.stdout)


def main(functions, tokenry):
    with contextlib.ExitStack() as stack:
        run = Run(stack, functions, tokenry)
        with run.function("introspect-token") as introspect:
            secrets = every_endpoint(run, introspect)
            proxy_events(run, introspect, run.account)
            odd_events(run, introspect)
        other_endpoints(run)
        with run.function("erase") as erase:
            answer = erase.invoke({"source": "aws.events"})
            must(answer is None, "erase ends without an error", answer)
        missing = FUNCTIONS.keys() - run.ran
        must(not missing, "every function has run", " ".join(sorted(missing)))
        table_unavailable(run)
        wrong_start(run, "no-such-function", 'no function is named "no-such-function"')
        table = "TOKENRY_IDENTITY_TABLE"
        wrong_start(run, "introspect-token", f"{table} is not set", without=table)
        secrets += [run.account, PASSWORD]
        must(not any(secret in run.logs for secret in secrets), "no log contains a secret", run.logs)


main(*sys.argv[1:])
