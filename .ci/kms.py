#!/usr/bin/env python3
"""Runs the endpoints for e-mail tokens against ministack, which emulates KMS and DynamoDB.

    kms.py FUNCTIONS TOKENRY RIGHTS

FUNCTIONS and TOKENRY are built binaries. For each KMS operation of each function, the script
appends a line to the file RIGHTS, which template.py reads. emulator.py lists the required Python
packages. Each endpoint runs in its own process under its own emulator, so that one process wraps
the data key and other processes unwrap it.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys

import boto3

from emulator import REGION, Function, bootstrap, ministack, must, recorded

EMAIL, PASSWORD = "bob@example.com", "correct horse battery"
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
CONTEXT = {"tokenry": "value-key"}
UNAVAILABLE = {
    "errorType": "ServiceUnavailable",
    "errors": [{"message": "the service is not available, try again"}],
}


class Deployment:
    """A deployment with one user, who has an e-mail address and a password.

    At first, the deployment has no data key.
    """

    def __init__(self, stack, functions, tokenry, calls):
        self.stack, self.functions, self.tokenry = stack, functions, tokenry
        url, self.environment = ministack(stack)
        self.url = url
        self.recorder = stack.enter_context(recorded(url, calls))
        session = boto3.Session("test", "test", region_name=REGION)
        self.kms = session.client("kms", endpoint_url=url)
        self.dynamodb = session.client("dynamodb", endpoint_url=url)
        self.key = self.new_key()
        self.account = bootstrap(tokenry, self.environment)
        self.started = []

        made = self.start("create-ecosystem").succeed(201, authorization=self.account)
        self.user = f"{made['id']};bob"
        user = {"parameters": {"id": self.user}, "body": CREDENTIALS}
        self.start("put-user").succeed(201, authorization=self.account, **user)

    def new_key(self):
        return self.kms.create_key()["KeyMetadata"]["Arn"]

    def start(self, name, value_key=None):
        """Starts a process that runs the endpoint `name`."""
        variables = {
            "TOKENRY_VALUE_KEY": value_key or self.key,
            "AWS_ENDPOINT_URL_KMS": f"{self.recorder}/{name}",
        }
        function = Function(self.stack, self.functions, self.environment | variables, name)
        self.started.append(function)
        return function

    def value_key(self, *arguments, value_key=None):
        """Runs `tokenry value-key`. Returns the JSON that it prints."""
        variables = {
            "TOKENRY_IDENTITY_TABLE": "identity",
            "TOKENRY_VALUE_KEY": value_key or self.key,
            "AWS_ENDPOINT_URL_KMS": self.url,
        }
        ran = subprocess.run(
            [self.tokenry, "value-key", *arguments, "--json"],
            env=os.environ | self.environment | variables,
            capture_output=True,
            text=True,
        )
        must(ran.returncode == 0, f"value-key {arguments[0]} succeeds", ran.stderr)
        return json.loads(ran.stdout)

    def create(self, status=201):
        self.start("create-email-token").succeed(
            status, authorization=self.account, body={"email": EMAIL}
        )

    def log_in(self):
        (value,) = self.start("log-in-with-password").succeed(body=CREDENTIALS)["data"]
        return value["token"]

    def ask(self):
        return {"authorization": self.account, "query": f"email={EMAIL}"}

    def must_log_no(self, secrets):
        logs = "".join(function.logged() for function in self.started)
        secrets = [self.account, PASSWORD, *secrets]
        must(not any(secret in logs for secret in secrets), "no log contains a secret", logs)


def values(deployment):
    """Checks that one process wraps the data key, and other processes unwrap it only with KMS."""
    kms, key = deployment.kms, deployment.key
    deployment.create()
    reader = deployment.start("get-email-token-value")
    ask = deployment.ask()
    value = reader.succeed(**ask)["data"][0]["token"]
    must(
        deployment.log_in() == value,
        "a log-in in one process returns the value that another process reads",
    )
    introspect = deployment.start("introspect-token")
    claims = introspect.succeed(authorization=deployment.account, form=f"token={value}")
    must(claims.get("active") is True and claims.get("sub") == deployment.user, "the value is an active token", claims)

    items = deployment.dynamodb.scan(TableName="identity")["Items"]
    (wrapped,) = [item["wrapped"]["B"] for item in items if item["item"]["S"] == "value-key"]
    opened = kms.decrypt(KeyId=key, CiphertextBlob=wrapped, EncryptionContext=CONTEXT)
    data_key = opened["Plaintext"]
    must(len(data_key) == 32, "the table stores a data key that KMS unwraps")
    try:
        opened = kms.decrypt(KeyId=key, CiphertextBlob=wrapped)
    except kms.exceptions.InvalidCiphertextException:
        opened = None
    must(opened is None, "KMS unwraps the data key only if it gets the encryption context")

    def must_fail(endpoint, why, cause):
        status, headers, body = endpoint.call(**ask)
        seen = f"{status} {headers} {body}\n{endpoint.logged()}"
        holds = status == 503 and headers.get("retry-after") == "1"
        must(holds, f"{why}, a new process answers 503 with Retry-After", seen)
        must(body == UNAVAILABLE, f"{why}, the response does not contain the cause", seen)
        must(cause in endpoint.logged(), f"{why}, the log of this process contains {cause!r}", seen)

    another = deployment.start("get-email-token-value", deployment.new_key())
    must_fail(another, "with another KMS key", "value key: ")
    kms.disable_key(KeyId=key)
    late = deployment.start("get-email-token-value")
    must_fail(late, "with a disabled KMS key", "KMS: DisabledException")
    must(
        reader.succeed(**ask)["data"][0]["token"] == value,
        "with a disabled KMS key, a process that has already unwrapped the data key reads the value",
    )
    kms.enable_key(KeyId=key)
    for endpoint in (late, deployment.start("get-email-token-value")):
        must(
            endpoint.succeed(**ask)["data"][0]["token"] == value,
            "after the KMS key is enabled again, the value is the same as before",
        )
    deployment.must_log_no([value, data_key.hex(), base64.b64encode(data_key).decode()])


def first_log_in(deployment):
    """Checks that a log-in creates the data key if no data key exists."""
    value = deployment.log_in()
    must(deployment.log_in() == value, "the second log-in returns the value that the first log-in created")
    deployment.create(409)
    deployment.must_log_no([value])


def replaced_keys(deployment):
    """Checks that `tokenry value-key` replaces the data key and the KMS key."""
    deployment.create()
    ask = deployment.ask()
    warm = deployment.start("get-email-token-value")
    value = warm.succeed(**ask)["data"][0]["token"]

    def must_read(endpoint, when):
        must(endpoint.succeed(**ask)["data"][0]["token"] == value, f"{when}, the value is the same as before")

    deployment.value_key("add")
    done = deployment.value_key("reseal")
    must(done == {"resealed": 1, "current": 0, "lost": 0, "removedDataKeys": 0}, "reseal encrypts the value again", done)
    must_read(warm, "in a process that read the data keys before the new one was added")
    must_read(deployment.start("get-email-token-value"), "in a new process")

    new = deployment.new_key()
    done = deployment.value_key("rewrap", "--to", new)
    must(done == {"wrapped": 2}, "rewrap wraps both data keys with another KMS key", done)
    must_read(deployment.start("get-email-token-value"), "in a process with the old KMS key")
    must_read(deployment.start("get-email-token-value", new), "in a process with the new KMS key")
    deployment.value_key("add", value_key=new)
    deployment.value_key("reseal", value_key=new)
    deployment.kms.disable_key(KeyId=deployment.key)
    must_read(deployment.start("get-email-token-value", new), "with the new KMS key, after the old KMS key is disabled")
    deployment.must_log_no([value])


def main(functions, tokenry, rights):
    calls = set()
    for case in (values, first_log_in, replaced_keys):
        with contextlib.ExitStack() as stack:
            case(Deployment(stack, functions, tokenry, calls))
    with open(rights, "a") as file:
        for function, action in sorted(calls):
            print(json.dumps({"function": function, "kms": action}), file=file)


main(*sys.argv[1:])
