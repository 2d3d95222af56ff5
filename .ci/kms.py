#!/usr/bin/env python3
"""Runs e-mail tokens' endpoints against a KMS and a DynamoDB of another maker.

    kms.py FUNCTIONS TOKENRY RIGHTS

The first two arguments are built binaries; to RIGHTS is added which function made which call of KMS, for template.py.
emulator.py says what else it needs. Each endpoint is a process of its own under an emulator of its own, so that one
process wraps the data key and others unwrap it.
"""

import base64
import contextlib
import json
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
    """A user who has an address and a password, in a deployment that has no data key yet."""

    def __init__(self, stack, functions, tokenry, calls):
        self.stack, self.functions = stack, functions
        url, self.environment = ministack(stack)
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
        """A process of this endpoint."""
        variables = {
            "TOKENRY_VALUE_KEY": value_key or self.key,
            "AWS_ENDPOINT_URL_KMS": f"{self.recorder}/{name}",
        }
        function = Function(self.stack, self.functions, self.environment | variables, name)
        self.started.append(function)
        return function

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
        must(not any(secret in logs for secret in secrets), "no log holds a secret", logs)


def values(deployment):
    """One process wraps the data key, others unwrap it, and none can without KMS."""
    kms, key = deployment.kms, deployment.key
    deployment.create()
    reader = deployment.start("get-email-token-value")
    ask = deployment.ask()
    value = reader.succeed(**ask)["data"][0]["token"]
    must(
        deployment.log_in() == value,
        "another process logs in with the value that a third one reads",
    )
    introspect = deployment.start("introspect-token")
    claims = introspect.succeed(authorization=deployment.account, form=f"token={value}")
    must(claims.get("active") is True and claims.get("sub") == deployment.user, "it counts", claims)

    items = deployment.dynamodb.scan(TableName="identity")["Items"]
    (wrapped,) = [item["wrapped"]["B"] for item in items if item["item"]["S"] == "value-key"]
    opened = kms.decrypt(KeyId=key, CiphertextBlob=wrapped, EncryptionContext=CONTEXT)
    data_key = opened["Plaintext"]
    must(len(data_key) == 32, "the table keeps a data key that KMS unwraps")
    try:
        opened = kms.decrypt(KeyId=key, CiphertextBlob=wrapped)
    except kms.exceptions.InvalidCiphertextException:
        opened = None
    must(opened is None, "KMS unwraps it in its context alone")

    def must_fail(endpoint, why, cause):
        status, headers, body = endpoint.call(**ask)
        seen = f"{status} {headers} {body}\n{endpoint.logged()}"
        holds = status == 503 and headers.get("retry-after") == "1"
        must(holds, f"{why} a new process answers 503, and when to try again", seen)
        must(body == UNAVAILABLE, f"{why} its answer says nothing else", seen)
        must(cause in endpoint.logged(), f"{why} its log says {cause!r}", seen)

    another = deployment.start("get-email-token-value", deployment.new_key())
    must_fail(another, "with another key", "value key: ")
    kms.disable_key(KeyId=key)
    late = deployment.start("get-email-token-value")
    must_fail(late, "with a key that is disabled", "KMS: DisabledException")
    must(
        reader.succeed(**ask)["data"][0]["token"] == value,
        "a process that has unwrapped the data key reads all the same",
    )
    kms.enable_key(KeyId=key)
    for endpoint in (late, deployment.start("get-email-token-value")):
        must(
            endpoint.succeed(**ask)["data"][0]["token"] == value,
            "with the key enabled again the value is as before",
        )
    deployment.must_log_no([value, data_key.hex(), base64.b64encode(data_key).decode()])


def first_log_in(deployment):
    """The data key is made by whoever needs it first."""
    value = deployment.log_in()
    must(deployment.log_in() == value, "a first log-in makes the value that a second one reads")
    deployment.create(409)
    deployment.must_log_no([value])


def main(functions, tokenry, rights):
    calls = set()
    for case in (values, first_log_in):
        with contextlib.ExitStack() as stack:
            case(Deployment(stack, functions, tokenry, calls))
    with open(rights, "a") as file:
        for function, action in sorted(calls):
            print(json.dumps({"function": function, "kms": action}), file=file)


main(*sys.argv[1:])
