#!/usr/bin/env python3
"""Holds template.yaml against the code: its routes, what its functions are given, and their rights.

    template.py RIGHTS

RIGHTS is what a run of the tests left with `TOKENRY_RIGHTS` set, and what kms.py added: each call that a function
made, one JSON object a line. Run it with the Python of an environment that has `aws-sam-cli`.
"""

import json
import pathlib
import re
import sys

from samcli.yamlhelper import yaml_parse

from emulator import ENDPOINTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = {"tokenry-identity": "IdentityTable", "tokenry-ephemeral": "EphemeralTable"}
# The one call during init (shared/src/identity/mod.rs, `warm_up`), which no request makes.
WARM_UP = ("IdentityTable", "dynamodb:GetItem")
AUTHORIZER = "authorize"

problems = []


def same(what, said, expected):
    """Notes what is in one set and not in the other."""
    for one in sorted(map(str, said - expected)):
        problems.append(f"{what}: {one} is in the template only")
    for one in sorted(map(str, expected - said)):
        problems.append(f"{what}: {one} is missing in the template")


def rights(function):
    """The pairs of resource and action that a function's policies allow."""
    allowed = set()
    for policy in function["Policies"]:
        for statement in policy["Statement"]:
            resource = statement["Resource"]
            if "Fn::GetAtt" in resource:
                name = resource["Fn::GetAtt"]
                name = name[0] if isinstance(name, list) else name.split(".")[0]
            else:
                name = re.sub(r"\$\{(\w+)\.Arn\}", r"\1", resource["Fn::Sub"])
            actions = statement["Action"]
            actions = [actions] if isinstance(actions, str) else actions
            allowed |= {(name, action) for action in actions}
    return allowed


def main():
    template = yaml_parse((ROOT / "template.yaml").read_text())
    functions = {
        of["Properties"]["Handler"]: (name, of["Properties"])
        for name, of in template["Resources"].items()
        if of["Type"] == "AWS::Serverless::Function"
    }
    routes = set()
    for handler, (name, function) in functions.items():
        if name != "".join(word.capitalize() for word in handler.split("-")):
            problems.append(f"{handler}: its logical id is {name}")
        for event in function.get("Events", {}).values():
            routes.add((handler, event["Properties"]["Method"], event["Properties"]["Path"]))
    same("routes", routes, {(name, method, path) for name, (method, path, _) in ENDPOINTS.items()})
    same("functions", set(functions), set(ENDPOINTS) | {AUTHORIZER})

    made = {}
    for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
        call = json.loads(line)
        if "kms" in call:
            right = ("ValueKey", "kms:" + call["kms"])
        else:
            index = f"/index/{call['index']}" if call["index"] else ""
            right = (TABLES[call["table"]] + index, "dynamodb:" + call["action"])
        made.setdefault(call["function"], set()).add(right)
    for handler, (_, function) in functions.items():
        uses = ENDPOINTS.get(handler, ("", "", ""))[2]
        given = set(function.get("Environment", {}).get("Variables", {}))
        given &= {"TOKENRY_EPHEMERAL_TABLE", "TOKENRY_VALUE_KEY"}
        wanted = {"TOKENRY_EPHEMERAL_TABLE"} if "Ephemeral" in uses else set()
        needed = made.get(handler, set()) | {WARM_UP}
        if "ValueKey" in uses:
            wanted.add("TOKENRY_VALUE_KEY")
        same(f"{handler}'s variables", given, wanted)
        same(f"{handler}'s rights", rights(function), needed)

    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(functions)} functions have the routes and the rights that they need, and no others")


main()
