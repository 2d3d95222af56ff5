"""Checks that the metrics of the alarms and the dashboard in template.yaml exist.

A metric exists if AWS, the functions or a metric filter in template.yaml writes it. CloudWatch
accepts an alarm on a metric that does not exist, but such an alarm never starts. The names of AWS's
metrics are from three AWS pages: "Working with metrics for HTTP APIs" (API Gateway), "Types of
metrics for Lambda functions", and "DynamoDB metrics and dimensions".
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
        # Without a dimension, a metric is the total of all functions of the AWS account.
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
    "Tokenry": (
        set(re.findall(r'(?:[0-9]{3} =>|^const \w+: &str =) "(\w+)"', WRITTEN, re.M)),
        {("FunctionName",)},
    ),
}
TYPES = {
    "ApiId": {"AWS::Serverless::HttpApi"},
    "FunctionName": {"AWS::Serverless::Function"},
    "TableName": {"AWS::DynamoDB::Table"},
}
# Values of the variables in the format of the access log (`$context.…`), for each kind of response.
# API Gateway writes "-" if a variable has no value. Source: the AWS page "Customize HTTP API access
# logs".
COMMON = {"requestId": "r", "apiId": "a1b2c3", "routeKey": "POST /api/auth/revoke", "identity.sourceIp": "192.0.2.1"}
COMMON |= {"responseLatency": "1", "integrationErrorMessage": "-"}
RESPONSES = {
    "a 429 of API Gateway": COMMON | {"status": "429", "integrationStatus": "-"},
    "a 429 of a function": COMMON | {"status": "429", "integrationStatus": "200"},
    "a 404 of API Gateway": COMMON | {"status": "404", "integrationStatus": "-"},
    "a 200 of a function": COMMON | {"status": "200", "integrationStatus": "200"},
}
# In the dashboard's body, this name stands for the table that the functions use: IdentityTable or a
# restored table.
IN_USE = "Identity"
# A search for one metric. It finds all functions whose names contain the stack's name.
SEARCH = re.compile(
    r"SEARCH\('\{([\w/]+),FunctionName\} MetricName=\"(\w+)\" FunctionName=\$\{AWS::StackName\}', '\w+', \d+\)"
)


def line(template, response):
    """Parses and returns the line that API Gateway writes to the access log for a response."""
    access = template["Resources"]["Api"]["Properties"]["AccessLogSettings"]
    return json.loads(re.sub(r"\$context\.([\w.]+)", lambda found: RESPONSES[response][found[1]], access["Format"]))


def matches(pattern, fields):
    """Returns whether a pattern of a metric filter matches a line.

    Supports only patterns that compare fields with texts and combine the comparisons with `&&`.
    """
    inner = re.fullmatch(r"\{ (.*) \}", pattern)[1]
    conditions = [re.fullmatch(r'\(\$\.(\w+) = "([^"]*)"\)', one).groups() for one in inner.split(" && ")]
    return all(fields.get(name) == value for name, value in conditions)


def of_filters(template, found):
    """Returns the metrics that metric filters write. Adds the mistakes in the filters to `found`.

    A filter must count exactly the responses with 429 that API Gateway itself sends.
    """
    written = set()
    access = template["Resources"]["Api"]["Properties"]["AccessLogSettings"]
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::Logs::MetricFilter":
            continue
        of = resource["Properties"]
        if access["DestinationArn"]["Fn::GetAtt"] not in ([of["LogGroupName"]["Ref"], "Arn"], of["LogGroupName"]["Ref"] + ".Arn"):
            found.append(f"{name}: it does not read the access log")
        counted = {response for response in RESPONSES if matches(of["FilterPattern"], line(template, response))}
        if counted != {"a 429 of API Gateway"}:
            found.append(f"{name}: it must count only a 429 of API Gateway, but it counts {counted or 'nothing'}")
        for metric in of["MetricTransformations"]:
            dimensions = {one["Key"]: one["Value"] for one in metric.get("Dimensions", [])}
            written.add((metric["MetricNamespace"], metric["MetricName"], tuple(dimensions)))
            if metric["MetricValue"] != "1":
                found.append(f"{name}: each line must count as 1, not as {metric['MetricValue']}")
            logged = line(template, "a 429 of API Gateway").get(dimensions.get("ApiId", "").removeprefix("$."))
            if logged != COMMON["apiId"]:
                found.append(f"{name}: the dimension ApiId of {metric['MetricName']} must be the id of the API")
    return written


def problems(template):
    """Returns the mistakes in the metrics and in the searches for functions."""
    resources = template["Resources"]
    types = {name: of["Type"] for name, of in resources.items()} | {IN_USE: "AWS::DynamoDB::Table"}
    functions = {name for name, kind in types.items() if kind == "AWS::Serverless::Function"}
    found = []
    filtered = of_filters(template, found)

    def check(where, namespace, metric, dimensions):
        metrics, known = KNOWN.get(namespace, (set(), set()))
        is_known = metric in metrics and tuple(dimensions) in known
        if not is_known and (namespace, metric, tuple(dimensions)) not in filtered:
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
    # If a function does not set FunctionName, CloudFormation generates the function's name. A
    # generated name starts with the stack's name, so the searches find the function.
    named = {name for name in functions if "FunctionName" in resources[name]["Properties"]}
    if named:
        found.append(f"dashboard: the searches do not find {named}, because these functions set FunctionName")
    # DeploymentPreference refers to an alarm by its `AlarmName` or by `Ref`.
    names = [of["Properties"].get("AlarmName") for of in resources.values()]
    for alarm in template["Globals"]["Function"]["DeploymentPreference"]["Alarms"]:
        if alarm not in names and alarm.get("Ref") not in resources:
            found.append(f"DeploymentPreference: there is no alarm {alarm}")
    alarms = {name for name, kind in types.items() if kind == "AWS::CloudWatch::Alarm"}
    # There must be three alarms on throttling: on requests above the limit of a route, on calls of
    # the authorizer, and on calls of all functions together. There must be two alarms on erasing.
    watched = {
        (of["Properties"]["MetricName"], *(one["Value"]["Ref"] for one in of["Properties"].get("Dimensions", [])))
        for name, of in resources.items()
        if name in alarms
    }
    of_throttling = (("ThrottledRequests", "Api"), ("Throttles", "Authorize"), ("Throttles",))
    for needed in (*of_throttling, ("Errors", "Erase"), ("LateErasures", "Erase")):
        if needed not in watched:
            found.append(f"there is no alarm on {' of '.join(needed)}")
    if alarms != set(re.findall(r"\$\{(\w+)\.Arn\}", body)):
        found.append(f"the dashboard must contain exactly the alarms {alarms}")
    watch = re.search(r"^## Alarms$(.*?)(?=^## |\Z)", WATCH, re.M | re.S)[1]
    documented = set(re.findall(r"^\| `(\w+)` \|", watch, re.M))
    if alarms != documented:
        found.append(f"docs/how-to/watch.md: the section Alarms must contain exactly the alarms {alarms}")
    return found
