#!/usr/bin/env python3
"""Replaces `aws`, `sam` and `cargo run`, so that commands can run without an AWS account.

    stand_in.py aws|sam|cargo ARGUMENT…

The script parses the arguments of `aws` and `sam` with the code of the real commands. The stand-in
for `sam` also checks the settings in samconfig.toml, and then does nothing. The stand-in for `aws`
also checks every field of the request against the model of the AWS service. It sends no request,
and prints a generated response. This response has the structure of a real response, and the value
of each field is the field's name. A stack has the outputs and the parameters of template.yaml. So
if a `--query` finds nothing in the response, the query is wrong, and the script fails. The script
needs a Python environment with `aws-sam-cli` and `awscli`.

Variables:

- STAND_IN_LOG: the file to which each command is written
- STAND_IN_OUTPUTS: values for some of the stack's outputs, as a JSON object
- STAND_IN_FAIL: each command that begins with this text fails
- STAND_IN_SAYS: the error message of a command that fails because of STAND_IN_FAIL
- STAND_IN_BREAKS: if this is set, the stack does not work after the first deployment, and works
  again after the second
- STAND_IN_TOKENRY: the path of the `tokenry` command that `cargo run` runs. For the subcommand
  `value-key`, only the arguments are checked
- STAND_IN_TOKEN: the account token that `cargo run` prints
"""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tomllib
import types

from samcli.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
# A response with a next page has a field whose name ends with one of these texts.
PAGE = ("token", "marker", "lastevaluatedbackuparn")


def broken():
    """Returns whether STAND_IN_BREAKS is set and exactly one deployment has run."""
    deployed = pathlib.Path(os.environ["STAND_IN_LOG"]).read_text().count('"command": ["sam", "deploy"')
    return "STAND_IN_BREAKS" in os.environ and deployed == 1


def stack():
    """Returns a stack of the template, as `describe-stacks` shows it."""
    template = yaml_parse(TEMPLATE.read_text())
    outputs = dict.fromkeys(template["Outputs"], "output") | json.loads(
        os.environ["STAND_IN_OUTPUTS"]
    )
    if broken():
        outputs["Url"] = "http://127.0.0.1:1"
    parameters = {name: of["Default"] for name, of in template["Parameters"].items()}
    return {
        "StackName": "stack",
        "StackStatus": "UPDATE_COMPLETE",
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()
        ],
    }


def answer(operation):
    """Returns a response that the service could send."""
    from botocore.utils import ArgumentGenerator

    if operation.name == "DescribeStacks":
        return {"Stacks": [stack()]}
    if operation.name == "ListStackResources":
        resources = yaml_parse(TEMPLATE.read_text())["Resources"]
        named = [
            {"PhysicalResourceId": name, "ResourceType": of["Type"]}
            for name, of in resources.items()
        ]
        return {"StackResourceSummaries": named}
    if operation.name == "GetTemplate":
        return {"TemplateBody": TEMPLATE.read_text()}
    if operation.output_shape is None:
        return {}

    class Sample(ArgumentGenerator):
        """Uses field names as values, except for an `Arn`. Pads a value to its minimum length."""

        def _generate_skeleton(self, shape, stack, name=""):
            value = super()._generate_skeleton(shape, stack, name)
            if name == "Arn":
                return "arn:aws:service:region:account:name"
            least = shape.metadata.get("min", 0) if shape.type_name == "string" else 0
            return value.ljust(least, "-") if least else value

    said = Sample(use_member_names=True).generate_skeleton(operation.output_shape)
    # Remove the fields that announce a next page, so that the command does not request that page.
    return {key: value for key, value in said.items() if not key.lower().endswith(PAGE)}


def aws(arguments):
    """Parses and checks the arguments. Prints a response."""
    from awscli.clidriver import create_clidriver
    from botocore.client import BaseClient

    requests = []

    def make_request(_client, operation, _request, _context):
        requests.append(operation.name)
        # A `wait` command ends immediately.
        if "wait" in arguments[:2]:
            sys.exit(0)
        return types.SimpleNamespace(status_code=200), answer(operation)

    BaseClient._make_request = make_request
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = create_clidriver().main(arguments)
    said = printed.getvalue()
    if code == 0 and not requests:
        sys.exit("the command sends no request")
    if code == 0 and "--query" in arguments and said.strip() in ("", "None", "null", "[]"):
        sys.exit(f"the query finds nothing in a response to {requests[0]}")
    print(said, end="")
    return code


def sam(arguments):
    """Checks the arguments and the settings in samconfig.toml. Runs nothing."""
    import click
    from samcli.cli.main import cli

    name, command, rest, context = "sam", cli, arguments, None
    try:
        context = command.make_context(name, rest)
        while isinstance(command, click.MultiCommand):
            rest = context.protected_args + context.args
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)
    except click.ClickException as error:
        sys.exit(error.format_message())
    configured = tomllib.loads((ROOT / "samconfig.toml").read_text())
    environment = context.params.get("config_env") or "default"
    if environment not in configured:
        sys.exit(f"samconfig.toml has no environment {environment}")
    known = {parameter.name for parameter in command.params}
    for key in configured[environment].get(name, {}).get("parameters", {}):
        if key not in known:
            sys.exit(f"samconfig.toml, {environment}: sam {name} has no option {key}")
    overrides = context.params.get("parameter_overrides") or {}
    unknown = set(overrides) - {one["ParameterKey"] for one in stack()["Parameters"]}
    if unknown:
        sys.exit(f"the template does not have the parameters {unknown}")
    log({"overrides": overrides, "stack": context.params.get("stack_name")})
    return 0


def cargo(arguments):
    """Runs STAND_IN_TOKENRY. Replaces the token that `bootstrap` prints with STAND_IN_TOKEN."""
    if arguments[:2] != ["run", "--"]:
        sys.exit("expected `cargo run --`")
    command = [os.environ["STAND_IN_TOKENRY"], *arguments[2:]]
    if arguments[2:3] == ["value-key"]:
        # The stack of the stand-ins has no data key, so only the arguments are checked.
        return subprocess.run([*command, "--help"], stdout=subprocess.DEVNULL).returncode
    ran = subprocess.run(command, capture_output=True, text=True)
    sys.stderr.write(ran.stderr)
    if arguments[2:3] != ["bootstrap"]:
        sys.stdout.write(ran.stdout)
    elif ran.returncode == 0:
        made = json.loads(ran.stdout) | {"accountToken": os.environ["STAND_IN_TOKEN"]}
        print(json.dumps(made, separators=(",", ":")))
    return ran.returncode


def log(line):
    with open(os.environ["STAND_IN_LOG"], "a") as file:
        file.write(json.dumps(line) + "\n")


def main(command, *arguments):
    arguments = list(arguments)
    log({"command": [command, *arguments]})
    failing = os.environ.get("STAND_IN_FAIL")
    if failing and " ".join([command, *arguments]).startswith(failing):
        sys.exit(os.environ.get("STAND_IN_SAYS", 1))
    return {"aws": aws, "sam": sam, "cargo": cargo}[command](arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
