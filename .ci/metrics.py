"""Holds the metrics of template.yaml's alarms and dashboard against those that AWS and the functions write.

CloudWatch takes any name, and a wrong one is an alarm that never goes off. Sources: the pages "Working with metrics for
HTTP APIs" (API Gateway), "Types of metrics for Lambda functions" and "DynamoDB metrics and dimensions".
"""

import json
import re

from emulator import ROOT

WATCH = (ROOT / "docs/how-to/watch.md").read_text()
WRITTEN = (ROOT / "shared/src/metrics.rs").read_text()
KNOWN = {
    "AWS/ApiGateway": ({"4xx", "5xx", "Count", "Latency", "IntegrationLatency"}, {("ApiId",)}),
    "AWS/Lambda": (
        {"Errors", "Throttles", "Duration", "Invocations", "ConcurrentExecutions"},
        # Without one, of the whole account.
        {("FunctionName",), ()},
    ),
    "AWS/DynamoDB": (
        {
            "ConsumedReadCapacityUnits",
            "ConsumedWriteCapacityUnits",
            "ReadThrottleEvents",
            "WriteThrottleEvents",
        },
        {("TableName",)},
    ),
    # What the functions write themselves.
    "Tokenry": (set(re.findall(r'[0-9]{3} => "(\w+)"', WRITTEN)), {("FunctionName",)}),
}
TYPES = {
    "ApiId": {"AWS::Serverless::HttpApi"},
    "FunctionName": {"AWS::Serverless::Function"},
    "TableName": {"AWS::DynamoDB::Table"},
}
# What the dashboard's body calls the table that is in use.
IN_USE = "Identity"
# Finds a metric of each function whose name contains the stack's name.
SEARCH = re.compile(
    r"SEARCH\('\{([\w/]+),FunctionName\} MetricName=\"(\w+)\" FunctionName=\$\{AWS::StackName\}', '\w+', \d+\)"
)


def problems(template):
    """What is wrong with the metrics, and with the searches for functions."""
    resources = template["Resources"]
    types = {name: of["Type"] for name, of in resources.items()} | {IN_USE: "AWS::DynamoDB::Table"}
    functions = {name for name, kind in types.items() if kind == "AWS::Serverless::Function"}
    found = []

    def check(where, namespace, metric, dimensions):
        metrics, known = KNOWN.get(namespace, (set(), set()))
        if metric not in metrics or tuple(dimensions) not in known:
            found.append(f"{where}: nobody writes {namespace} {metric} by {list(dimensions)}")
        for dimension, resource in dimensions.items():
            if types.get(resource) not in TYPES.get(dimension, ()):
                found.append(f"{where}: {resource} is no {dimension}")

    for name, alarm in resources.items():
        if alarm["Type"] == "AWS::CloudWatch::Alarm":
            of = alarm["Properties"]
            dimensions = {one["Name"]: one["Value"]["Ref"] for one in of.get("Dimensions", [])}
            check(name, of["Namespace"], of["MetricName"], dimensions)

    body, _ = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for widget in json.loads(body)["widgets"]:
        of = widget["properties"]
        for metric in of.get("metrics", []):
            fields = [re.sub(r"\$\{(\w+)\}", r"\1", field) for field in metric if isinstance(field, str)]
            if fields:
                check(of["title"], *fields[:2], dict(zip(fields[2::2], fields[3::2])))
            elif search := SEARCH.fullmatch(metric[0]["expression"]):
                check(of["title"], *search.groups(), {"FunctionName": min(functions)})
            else:
                found.append(f"dashboard, {of['title']}: this search does not find the stack's functions")
            if "each function" in of["title"] and fields:
                found.append(f"dashboard, {of['title']}: {fields} is not of each function")
    # CloudFormation begins a name that it makes with the stack's name.
    named = {name for name in functions if "FunctionName" in resources[name]["Properties"]}
    if named:
        found.append(f"dashboard: its searches do not find {named}, which set FunctionName")
    # A brake that is named and not referred to.
    names = [of["Properties"].get("AlarmName") for of in resources.values()]
    for brake in template["Globals"]["Function"]["DeploymentPreference"]["Alarms"]:
        if brake not in names and brake.get("Ref") not in resources:
            found.append(f"DeploymentPreference: there is no alarm {brake}")
    alarms = {name for name, kind in types.items() if kind == "AWS::CloudWatch::Alarm"}
    if alarms != set(re.findall(r"\$\{(\w+)\.Arn\}", body)):
        found.append(f"dashboard: its alarms are not {alarms}")
    watch = re.search(r"^## Alarms$(.*?)(?=^## |\Z)", WATCH, re.M | re.S)[1]
    documented = set(re.findall(r"^\| `(\w+)` \|", watch, re.M))
    if alarms != documented:
        found.append(f"docs/how-to/watch.md, Alarms: its alarms are not {alarms}")
    return found
