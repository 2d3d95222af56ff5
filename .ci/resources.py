"""Checks the resources that SAM generates from template.yaml.

Checks the number of resources, their references, the managed policies of roles, and the log group
of each function.
"""

import copy
import graphlib
import re

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from emulator import REGION

# The managed policies that SAM attaches to roles. The first lets each function write logs. The
# second lets CodeDeploy move the aliases.
MANAGED = ("/service-role/AWSLambdaBasicExecutionRole", "/service-role/AWSCodeDeployRoleForLambda")
# The longest values of the parameters that have an AllowedPattern and are a part of a
# VersionDescription.
LONGEST = {
    "NotBefore": "2026-01-01T00:00:00Z",
    "RestoredTableArn": "arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/" + "t" * 100,
    "AuthorizerEcosystems": ",".join(["C" + "0" * 24] * 4),
    "ValueKeyId": "0" * 36,
}
# Lambda's limit on the length of a VersionDescription.
DESCRIPTION = 256
# If the template has more resources, the check fails. CloudFormation allows 500
# (docs/reference/calls-and-cost.md, "Quotas and ceilings").
MOST = 400


def transformed(template, **parameters):
    """Returns the template's resources as CloudFormation gets them."""
    template = copy.deepcopy(template)
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    defaults = {name: str(of["Default"]) for name, of in template["Parameters"].items()}
    translator = Translator({}, Parser(), None, boto3.Session(region_name=REGION))
    values = defaults | {"AWS::Region": REGION} | parameters
    return translator.translate(template, values)["Resources"]


def references(value):
    """Yields the names that a part of the template, such as a resource, refers to."""
    if isinstance(value, list):
        for one in value:
            yield from references(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == "Ref":
                yield one
            elif key == "Fn::GetAtt":
                yield one[0] if isinstance(one, list) else one.split(".")[0]
            else:
                text = one[0] if isinstance(one, list) and one else one
                if key == "Fn::Sub":
                    yield from re.findall(r"\$\{(\w+)(?:\.\w+)?\}", text)
                yield from references(one)


def resolved(value, parameters):
    """Evaluates `value`, a text or a CloudFormation function, with the values in `parameters`."""
    if isinstance(value, str):
        return value
    ((function, of),) = value.items()
    if function == "Ref":
        return parameters[of]
    if function == "Fn::Select":
        return resolved(of[1], parameters)[of[0]]
    if function == "Fn::Split":
        return resolved(of[1], parameters).split(of[0])
    text, own = (of, {}) if isinstance(of, str) else of
    known = parameters | {name: resolved(one, parameters) for name, one in own.items()}
    return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], text)


def descriptions(template, resources):
    """Yields the mistakes in the descriptions of versions, and in the values in LONGEST."""
    parameters = template["Parameters"]
    longest = dict(LONGEST)
    for name, of in parameters.items():
        if name in LONGEST:
            # The pattern must reject a longer value: one more character, or one more list element.
            value, allowed = LONGEST[name], of["AllowedPattern"]
            longer = (value + value[-1], value + "," + value.split(",")[0])
            if not re.fullmatch(allowed, value) or any(re.fullmatch(allowed, one) for one in longer):
                yield f"{name}: {value} is not the longest value that the template allows"
        elif "MaxLength" in of:
            longest[name] = "x" * int(of["MaxLength"])
        elif "AllowedValues" in of:
            longest[name] = max(of["AllowedValues"], key=len)
        elif of["Type"] == "Number":
            longest[name] = str(of.get("MaxValue", "9" * 10))
    for name, of in resources.items():
        if of["Type"] == "AWS::Lambda::Version":
            description = resolved(of["Properties"]["Description"], longest)
            if len(description) > DESCRIPTION:
                yield f"template.yaml: the description of {name} can reach {len(description)} characters, more than {DESCRIPTION}"


def problems(template):
    """Returns the mistakes in the resources.

    A mistake is one of these:

    - a cycle of references
    - a role with a managed policy that is not in MANAGED
    - a function that does not log to FunctionLog, so that its log lines would never be deleted
    - a version whose description may be too long
    - too many resources
    """
    found = []
    stacks = {canary: transformed(template, Canary=canary) for canary in ("true", "false")}
    for canary, resources in stacks.items():
        graph = {name: set(references(of)) & set(resources) for name, of in resources.items()}
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as cycle:
            found.append(f"template.yaml, Canary={canary}: a cycle of references: {' needs '.join(cycle.args[1])}")
    resources = stacks["true"]
    for name, of in resources.items():
        policies = of["Properties"].get("ManagedPolicyArns", [])
        other = [policy for policy in policies if not policy.endswith(MANAGED)]
        if other:
            found.append(f"template.yaml: {name} has the managed policies {other}")
        logs = of["Properties"].get("LoggingConfig", {}).get("LogGroup")
        if of["Type"] == "AWS::Lambda::Function" and logs != {"Ref": "FunctionLog"}:
            found.append(f"template.yaml: {name} logs to {logs}, not to FunctionLog")
    found += descriptions(template, resources)
    if len(resources) > MOST:
        found.append(f"template.yaml: the stack has {len(resources)} resources, more than {MOST}")
    return found
