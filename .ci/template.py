#!/usr/bin/env python3
"""Holds the rights of template.yaml's functions against the calls that they make. Checks that a version's description names
the parameters of its function's variables, and that SAM, when it writes the template, repeats each value that template.yaml
names by an anchor. (tests/black_box/template.rs checks names, routes and variables.)

    template.py RIGHTS

RIGHTS is what a run of the tests left with `TOKENRY_RIGHTS` set, and what kms.py added: each call that a function
made, one JSON object a line. Run it with the Python of an environment that has `aws-sam-cli`.
"""

import json
import pathlib
import re
import sys

import yaml
from samcli.yamlhelper import yaml_dump

from emulator import FUNCTIONS, TEMPLATE, variables

TABLES = {"tokenry-identity": "IdentityTable", "tokenry-ephemeral": "EphemeralTable"}
# The one call during init (shared/src/store/identity/mod.rs, `warm_up`), which no request makes.
WARM_UP = ("IdentityTable", "dynamodb:GetItem")
# The table that is used in place of IdentityTable after a restore.
RESTORED = "RestoredTableArn"
PARAMETERS = set(TEMPLATE["Parameters"])
VARIABLES = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]

problems = []


def same(what, said, expected):
    """Notes what is in one set and not in the other."""
    for one in sorted(map(str, said - expected)):
        problems.append(f"{what}: {one} is in the template only")
    for one in sorted(map(str, expected - said)):
        problems.append(f"{what}: {one} is missing in the template")


def named(resource):
    """The resource that a policy's statement names, and the index of it."""
    if "Fn::If" in resource:
        condition, restored, own = resource["Fn::If"]
        name = named(own)
        instead = name.replace("IdentityTable", RESTORED)
        if condition != "IsRestored" or RESTORED not in instead or named(restored) != instead:
            problems.append(
                f"{resource}: its table is not the restored one in place of the stack's"
            )
        return name
    if "Ref" in resource:
        return resource["Ref"]
    if "Fn::GetAtt" in resource:
        name = resource["Fn::GetAtt"]
        return name[0] if isinstance(name, list) else name.split(".")[0]
    return re.sub(r"\$\{(\w+?)(\.Arn)?\}", r"\1", resource["Fn::Sub"])


def parameters(value):
    """The parameters that a value depends on, by `Ref` or within a `Sub`."""
    text = json.dumps(value)
    found = re.findall(r'"Ref": "(\w+)"', text) + re.findall(r"\$\{(\w+)\}", text)
    return set(found) & PARAMETERS


def rights(function):
    """The pairs of resource and action that a function's policies allow."""
    allowed = set()
    for policy in function["Policies"]:
        for statement in policy["Statement"]:
            name = named(statement["Resource"])
            if name.startswith("IdentityTable") and "Fn::If" not in statement["Resource"]:
                problems.append(f"{function['Handler']}: it has no right to a restored table")
            actions = statement["Action"]
            actions = [actions] if isinstance(actions, str) else actions
            allowed |= {(name, action) for action in actions}
    return allowed


def main():
    made = {}
    for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
        call = json.loads(line)
        if "kms" in call:
            right = ("ValueKey", "kms:" + call["kms"])
        else:
            index = f"/index/{call['index']}" if call["index"] else ""
            right = (TABLES[call["table"]] + index, "dynamodb:" + call["action"])
        made.setdefault(call["function"], set()).add(right)
    for name, function in FUNCTIONS.items():
        same(f"{name}'s rights", rights(function), made.get(name, set()) | {WARM_UP})
        # A parameter that a version's description does not name comes into force with the next code.
        described = parameters(function["VersionDescription"])
        same(f"{name}'s version's description", described, parameters(VARIABLES | variables(name)))

    # CloudFormation refuses anchors and aliases. `sam build` and `sam package` write a template by yaml_dump.
    names = {getattr(event, "anchor", None) for event in yaml.parse(yaml_dump(TEMPLATE))} - {None}
    if names:
        problems.append(f"SAM writes the template with anchors or aliases: {names}")

    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(FUNCTIONS)} functions have the rights that they need, and no others")


main()
