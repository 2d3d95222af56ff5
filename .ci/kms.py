#!/usr/bin/env python3
"""Runs e-mail tokens' endpoints against a KMS and a DynamoDB of another maker.

    kms.py FUNCTIONS TOKENRY

Both arguments are built binaries; emulator.py says what else it needs. Each endpoint is a process of
its own under an emulator of its own, so that one process wraps the data key and others unwrap it.
"""

import base64
import contextlib
import sys

import boto3

from emulator import REGION, Function, bootstrap, ministack, must

EMAIL, PASSWORD = "bob@example.com", "correct horse battery"
CONTEXT = {"tokenry": "value-key"}
UNAVAILABLE = {
    "errorType": "ServiceUnavailable",
    "errors": [{"message": "the service is not available, try again"}],
}


def main(functions, tokenry):
    with contextlib.ExitStack() as stack:
        url, environment = ministack(stack)
        session = boto3.Session("test", "test", region_name=REGION)
        kms, dynamodb = (session.client(name, endpoint_url=url) for name in ("kms", "dynamodb"))
        key, another = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))

        account = bootstrap(tokenry, environment)

        endpoints = []

        def start(name, value_key=key):
            variables = environment | {"TOKENRY_VALUE_KEY": value_key}
            endpoint = Function(stack, functions, variables, name)
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
