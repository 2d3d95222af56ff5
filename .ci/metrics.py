"""Checks that the metrics of the alarms and the dashboard in template.yaml exist.

A metric exists if AWS or the functions write it. CloudWatch accepts an alarm on a metric that does
not exist, but such an alarm never starts. The names of AWS's metrics are from the AWS pages
"Working with metrics for HTTP APIs" (API Gateway), "Types of metrics for Lambda functions" and
"DynamoDB metrics and dimensions".
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
        # Without a dimension, a metric is the total of all functions of the account in the region.
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
    # The metrics that the functions write.
    "Tokenry": (set(re.findall(r'[0-9]{3} => "(\w+)"', WRITTEN)), {("FunctionName",)}),
}
TYPES = {
    "ApiId": {"AWS::Serverless::HttpApi"},
    "FunctionName": {"AWS::Serverless::Function"},
    "TableName": {"AWS::DynamoDB::Table"},
}
# In the dashboard's body, this name stands for the table that the functions use: IdentityTable or a
# restored table.
IN_USE = "Identity"
# A search for one metric. It finds all functions whose names contain the stack's name.
SEARCH = re.compile(
    r"SEARCH\('\{([\w/]+),FunctionName\} MetricName=\"(\w+)\" FunctionName=\$\{AWS::StackName\}', '\w+', \d+\)"
)


def problems(template):
    """Returns the mistakes in the metrics and in the searches for functions."""
    resources = template["Resources"]
    types = {name: of["Type"] for name, of in resources.items()} | {IN_USE: "AWS::DynamoDB::Table"}
    functions = {name for name, kind in types.items() if kind == "AWS::Serverless::Function"}
    found = []

    def check(where, namespace, metric, dimensions):
        metrics, known = KNOWN.get(namespace, (set(), set()))
        if metric not in metrics or tuple(dimensions) not in known:
            found.append(f"{where}: there is no metric {namespace} {metric} with the dimensions {list(dimensions)}")
        for dimension, resource in dimensions.items():
            if types.get(resource) not in TYPES.get(dimension, ()):
                found.append(f"{where}: {resource} cannot have the dimension {dimension}")

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
                found.append(f"dashboard, {of['title']}: the title says `each function`, but {fields} is not a search")
    # CloudFormation generates the name of a function without FunctionName. A generated name starts
    # with the stack's name, so the searches find the function.
    named = {name for name in functions if "FunctionName" in resources[name]["Properties"]}
    if named:
        found.append(f"dashboard: the searches do not find {named}, because these functions set FunctionName")
    # DeploymentPreference refers to an alarm by its `AlarmName` or by `Ref`.
    names = [of["Properties"].get("AlarmName") for of in resources.values()]
    for alarm in template["Globals"]["Function"]["DeploymentPreference"]["Alarms"]:
        if alarm not in names and alarm.get("Ref") not in resources:
            found.append(f"DeploymentPreference: there is no alarm {alarm}")
    alarms = {name for name, kind in types.items() if kind == "AWS::CloudWatch::Alarm"}
    if alarms != set(re.findall(r"\$\{(\w+)\.Arn\}", body)):
        found.append(f"the dashboard must contain exactly the alarms {alarms}")
    watch = re.search(r"^## Alarms$(.*?)(?=^## |\Z)", WATCH, re.M | re.S)[1]
    documented = set(re.findall(r"^\| `(\w+)` \|", watch, re.M))
    if alarms != documented:
        found.append(f"docs/how-to/watch.md: the section Alarms must contain exactly the alarms {alarms}")
    return found
