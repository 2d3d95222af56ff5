#!/usr/bin/env python3
"""Sends random requests to `tokenry serve` and checks each response against openapi.yaml.

    schemathesis.py TOKENRY REQUESTS [SEED]

TOKENRY is the built command. The script runs schemathesis several times, and generates at least
REQUESTS requests from openapi.yaml. One run follows links between operations. If REQUESTS is
10,000, this run takes one minute. The script needs a Python environment with `schemathesis`. The
settings are in schemathesis.toml. Without SEED, the script always uses the same seed, so that it
does not fail by chance. A different seed generates different requests.
"""

import collections
import concurrent.futures
import copy
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import yaml

from serve import serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTINGS = (ROOT / ".ci/schemathesis.toml").read_text()
REPORTS = ROOT / "target/schemathesis"
SEED = 20261122
# The links that schemathesis cannot infer from names. Each entry has: the operations whose response
# or request contains a value, the operations that then get this value in their request, and the
# place of the value in both. The links are not in openapi.yaml, because OpenAPI Generator rejects a
# link that has a body.
LINKS = [
    (
        "create-user-token create-server-token consume-shortcode create-session",
        "introspect-token revoke-token",
        {"requestBody": {"token": "$response.body#/token"}},
    ),
    (
        "get-email-token-value log-in-with-password",
        "introspect-token revoke-token",
        {"requestBody": {"token": "$response.body#/data/0/token"}},
    ),
    (
        "create-user-token",
        "get-user-token update-user-token revoke-user-token",
        {"parameters": {"id": "$request.path.id", "tokenId": "$response.body#/tokenId"}},
    ),
    (
        "create-server-token",
        "get-server-token update-server-token revoke-server-token",
        {"parameters": {"ecosystemId": "$request.path.ecosystemId", "tokenId": "$response.body#/tokenId"}},
    ),
    ("create-shortcode", "consume-shortcode", {"requestBody": {"shortcode": "$response.body#/shortcode"}}),
    (
        "create-email-token update-email-token",
        "update-email-token delete-email-token",
        {"requestBody": {"email": "$response.body#/data/0/email"}},
    ),
    (
        "create-email-token update-email-token",
        "get-email-token-value",
        {"parameters": {"email": "$response.body#/data/0/email"}},
    ),
    ("create-ecosystem", "put-user", {"parameters": {"id": "{$response.body#/id};bob"}, "requestBody": {}}),
    ("put-user", "create-email-token", {"requestBody": {"email": "$response.body#/email"}}),
    (
        "put-user",
        "log-in-with-password create-session",
        {"requestBody": {"email": "$request.body#/email", "password": "$request.body#/password"}},
    ),
]
# The callers. Each value is the option `--max-examples` of the caller's run if REQUESTS is 1,000.
# For other REQUESTS, `phases` scales it.
EXAMPLES = {"account": 24, "server": 14, "nobody": 8}
BY_LINKS = "account-by-links"


def phases(requests):
    """Returns the options of schemathesis for each run.

    The run that follows links has a time limit. Schemathesis ends each sequence of links at random,
    and starts new sequences until the time is over.
    """
    options = {
        who: ["--phases=examples,coverage,fuzzing", f"--max-examples={each * requests // 1000}"]
        for who, each in EXAMPLES.items()
    }
    return options | {BY_LINKS: ["--phases=stateful", f"--max-time={max(10, requests * 6 // 1000)}"]}


def contract():
    """Returns openapi.yaml with LINKS and with the rules of tests/src/exact.yaml."""
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    exact = (ROOT / "tests/src/exact.yaml").read_text()
    exact = exact.replace("urn:tokenry:openapi#", "#").replace("#/every/", "#/components/schemas/")
    exact = yaml.safe_load(exact)
    components = contract["components"]
    components["schemas"] |= exact["every"]
    unchanged = copy.deepcopy(components["responses"])

    def hold(content, rule):
        for media in content.values() if rule else ():
            if "allOf" not in media["schema"]:
                media["schema"] = {"allOf": [media["schema"], rule]}

    for path in contract["paths"].values():
        for operation in (each for method, each in path.items() if method != "parameters"):
            name = operation["operationId"]
            own = exact.get(name, {})
            rules = exact["every"] | own
            for status, response in operation["responses"].items():
                if "$ref" in response:
                    shared = response["$ref"].split("/")[-1]
                    response = components["responses"][shared]
                    if status < "300" or status in own:
                        response = operation["responses"][status] = copy.deepcopy(unchanged[shared])
                hold(response.get("content", {}), rules.get(status))
                if status < "300":
                    response["links"] = {
                        to: {"operationId": to} | link
                        for sources, targets, link in LINKS
                        for to in targets.split()
                        if name in sources.split()
                    }
            if "body" in own:
                body = operation["requestBody"]
                if "$ref" in body:
                    body = copy.deepcopy(components["requestBodies"][body["$ref"].split("/")[-1]])
                    operation["requestBody"] = body
                hold(body["content"], own["body"])
    return contract


def prepare(start):
    """Creates users with e-mail addresses and passwords, and a server token.

    Returns the `Authorization` header of each run that sends this header.
    """
    account = f"Bearer {start['accountToken']}"

    def ask(method, path, body=None):
        url = f"{start['url']}/api/{path}"
        headers = {"Authorization": account, "Content-Type": "application/json"}
        body = json.dumps(body).encode() if body else None
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    ecosystem = start["ecosystemId"]
    for name in ("ann", "bob"):
        user = {"email": f"{name}@example.com", "password": "correct horse battery"}
        ask("PUT", f"users/{ecosystem};{name}", user)
    server = ask("POST", f"ecosystems/{ecosystem}/tokens?expiryType=Infinite")["token"]
    return {"account": account, BY_LINKS: account, "server": server}


def run(tokenry, seed, who, options):
    """Runs schemathesis against a new server.

    Returns the report, the output, the statuses in the log of the server, and the exit code.
    """
    directory = REPORTS / who
    directory.mkdir(parents=True)
    with (directory / "serve.log").open("w+") as log:
        with serving(tokenry, log) as start:
            settings = directory / "schemathesis.toml"
            settings.write_text(SETTINGS.replace("ECOSYSTEM", start["ecosystemId"]))
            (directory / "openapi.json").write_text(json.dumps(contract()))
            header = prepare(start).get(who)
            command = [sys.executable, "-m", "schemathesis.cli", "--config-file", settings]
            command += ["run", directory / "openapi.json", "--url", start["url"], "--no-color"]
            command += ["--seed", str(seed), *options, "--report-json-path", directory / "report.json"]
            command += ["--header", f"Authorization: {header}"] if header else []
            # In the directory .ci, Python would import this script instead of the package
            # schemathesis. So the command runs in another directory.
            ran = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        log.seek(0)
        lines = (json.loads(line) for line in log)
        statuses = collections.Counter(line["status"] for line in lines if "status" in line)
    output = ran.stdout + ran.stderr
    (directory / "output.txt").write_text(output)
    if not (directory / "report.json").exists():
        sys.exit(f"schemathesis did not run: {output}")
    report = json.loads((directory / "report.json").read_text())
    return report, output, statuses, ran.returncode


def main(tokenry, requests, seed=SEED):
    requests = int(requests)
    print(f"seed {seed}", flush=True)
    shutil.rmtree(REPORTS, ignore_errors=True)
    tokenry = pathlib.Path(tokenry).resolve()
    sent, answered, failed = 0, collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        each_options = phases(requests)
        runs = {
            who: pool.submit(run, tokenry, seed, who, options)
            for who, options in each_options.items()
        }
        for who, each in runs.items():
            report, output, statuses, ended = each.result()
            generated = report["test_cases"]["generated"]
            sent += generated
            answered += statuses
            # If a phase sends no request, for example because its time is over too early, the exit
            # code is 0. The statuses contain the requests of `prepare`, so they do not show it.
            asked = each_options[who][0].removeprefix("--phases=").split(",")
            idle = [name for name in asked if report["phases"][name]["status"] == "skip"]
            if ended != 0 or report["failures"] or report["errors"] or idle or generated == 0:
                failed.append(who)
                print(output)
                print(f"{who}: {generated} requests, phases without a request: {idle}")
            print(f"{who}: {sorted(statuses.items())}", flush=True)
    print(f"{sent} requests in the reports, {answered.total()} requests in the logs, seed {seed}")
    if failed:
        sys.exit(f"schemathesis: failures in the runs {', '.join(failed)}, seed {seed}")
    if any(status >= 500 for status in answered):
        sys.exit(f"schemathesis: a response with a status of 500 or more, seed {seed}")
    if min(sent, answered.total()) < requests:
        sys.exit(f"schemathesis: fewer than {requests} requests, seed {seed}")


main(*sys.argv[1:])
