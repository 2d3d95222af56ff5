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
# The maximum number of resources. CloudFormation allows 500 (docs/reference/calls-and-cost.md,
# "Quotas and ceilings").
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
    """Yields the names that a value of the template refers to, for example in a resource."""
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


def problems(template):
    """Returns the mistakes in the resources.

    A mistake is one of these:

    - a cycle of references
    - a role with a managed policy that is not in MANAGED
    - a function that does not log to FunctionLog, so that its log lines would never be deleted
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
    if len(resources) > MOST:
        found.append(f"template.yaml: the stack has {len(resources)} resources, more than {MOST}")
    return found
