#!/usr/bin/env python3
"""Checks template.yaml:

- Each function has permissions for exactly the operations that it uses.
- The VersionDescription of a function contains the parameters on which the function's variables
  depend.
- SAM replaces the YAML anchors and aliases of template.yaml with their values.

tests/black_box/template.rs checks names, routes and variables.

    template.py RIGHTS

The tests write the file RIGHTS if `TOKENRY_RIGHTS` is set, and kms.py appends to this file. Each
line is a JSON object that describes an operation of DynamoDB or KMS that a function used. The
script needs a Python environment with `aws-sam-cli`.
"""

import json
import pathlib
import re
import sys

import yaml
from samcli.yamlhelper import yaml_dump

from emulator import FUNCTIONS, TEMPLATE, variables

TABLES = {"tokenry-identity": "IdentityTable", "tokenry-ephemeral": "EphemeralTable"}
# Every function uses this operation during init (functions/src/main.rs).
WARM_UP = ("IdentityTable", "dynamodb:GetItem")
# Operations that only the release before this one uses. During an update, the functions of both
# releases have the same roles. Remove these with the next release.
PREVIOUS = {"revoke-server-token": {("IdentityTable", "dynamodb:PutItem")}}
# The parameter with the ARN of the table that replaces IdentityTable after a restore.
RESTORED = "RestoredTableArn"
# The ARN of the KMS key that replaces ValueKey if the parameter ValueKeyId is set.
KEY_WITH_ID = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/${ValueKeyId}"
PARAMETERS = set(TEMPLATE["Parameters"])
VARIABLES = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]

problems = []


def same(what, said, expected):
    """Adds a problem for each element that is in only one of the two sets."""
    for one in sorted(map(str, said - expected)):
        problems.append(f"{what}: {one} is only in the template")
    for one in sorted(map(str, expected - said)):
        problems.append(f"{what}: {one} is missing in the template")


def named(resource):
    """Returns the name of a policy's resource. The name of an index is `TABLE/index/INDEX`."""
    if "Fn::If" in resource:
        condition, restored, own = resource["Fn::If"]
        name = named(own)
        if name == "ValueKey":
            # The function must be allowed to use both keys, because during an update, its previous
            # version still uses ValueKey.
            if condition != "HasValueKeyId" or restored != [own, {"Fn::Sub": KEY_WITH_ID}]:
                problems.append(f"{resource}: the function must be allowed to use ValueKey and the key of ValueKeyId")
            return name
        instead = name.replace("IdentityTable", RESTORED)
        if condition != "IsRestored" or RESTORED not in instead or named(restored) != instead:
            problems.append(
                f"{resource}: IdentityTable is not replaced with the restored table"
            )
        return name
    if "Ref" in resource:
        return resource["Ref"]
    if "Fn::GetAtt" in resource:
        name = resource["Fn::GetAtt"]
        return name[0] if isinstance(name, list) else name.split(".")[0]
    return re.sub(r"\$\{(\w+?)(\.Arn)?\}", r"\1", resource["Fn::Sub"])


def parameters(value):
    """Returns the parameters that a value refers to with `Ref` or `Sub`."""
    text = json.dumps(value)
    found = re.findall(r'"Ref": "(\w+)"', text) + re.findall(r"\$\{(\w+)\}", text)
    return set(found) & PARAMETERS


def rights(function):
    """Returns the pairs of resource and action that a function's policies allow."""
    allowed = set()
    for policy in function["Policies"]:
        for statement in policy["Statement"]:
            name = named(statement["Resource"])
            if name.startswith("IdentityTable") and "Fn::If" not in statement["Resource"]:
                problems.append(f"{function['Handler']}: the function has no permissions for a restored table")
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
        used = made.get(name, set()) | {WARM_UP} | PREVIOUS.get(name, set())
        same(f"{name}'s permissions", rights(function), used)
        # If the description did not contain a parameter, a change of the parameter's value would
        # not publish a new version of the function. The change would take effect only when
        # something else changes in the function, for example the code.
        described = parameters(function["VersionDescription"])
        same(f"{name}'s version description", described, parameters(VARIABLES | variables(name)))
        of = function["VersionDescription"]["Fn::Sub"]
        text, own = (of, {}) if isinstance(of, str) else of
        same(f"the names that {name}'s version description defines", set(own), set(re.findall(r"\$\{(\w+)\}", text)) - PARAMETERS)

    # CloudFormation rejects anchors and aliases. `sam build` and `sam package` write the template
    # with yaml_dump, which must not write anchors and aliases.
    names = {getattr(event, "anchor", None) for event in yaml.parse(yaml_dump(TEMPLATE))} - {None}
    if names:
        problems.append(f"SAM writes the template with anchors or aliases: {names}")

    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(FUNCTIONS)} functions have the permissions that they need, and no others")


main()
