#!/usr/bin/env python3
"""Checks template.yaml, the guides in docs/how-to and deploy.sh without an AWS account.

    operations.py [TOKENRY]

TOKENRY is the built command. The script always checks the metrics and the resources of
template.yaml. If TOKENRY is given, the script also runs:

- each block marked `sh` in the guides that need a stack, in one shell for all guides
- the `sam` commands in deploy.md for a first try and for x86_64
- deploy.sh, including a deployment that is rolled back

stand_in.py replaces `aws`, `sam` and `cargo`. It parses and checks arguments as the real commands
do. `tokenry serve` replaces the API, and ministack replaces DynamoDB. emulator.py and stand_in.py
list the required Python packages.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

import metrics
import resources
from emulator import ROOT, TEMPLATE, bootstrap, ministack, must

# The keywords and functions of CloudWatch Logs Insights that the queries use.
INSIGHTS = set("and as by count display filter fields ispresent like limit not or pct sort stats".split())
# The guides that need a stack. They run in this order, because a guide may need the results of the
# guides before it.
GUIDES = ("deploy", "watch", "upgrade", "rotate", "restore")
# After this number of seconds, a script is stopped and the check fails. The limit is high, because
# the machine may run other work at the same time.
TIMEOUT = 1800


class Run:
    """Provides what the tested commands use instead of an AWS account: ministack, a local server,
    and the stand-ins. The stand-ins come first in PATH.
    """

    def __init__(self, stack, tokenry):
        self.directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.log = self.directory / "log"
        _, environment = ministack(stack)
        bootstrap(tokenry, environment)

        errors = stack.enter_context((self.directory / "served").open("w"))
        served = subprocess.Popen(
            [tokenry, "serve", "--memory", "--json", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        stack.callback(served.wait)
        stack.callback(served.terminate)
        self.start = json.loads(served.stdout.readline())

        for command in ("aws", "sam", "cargo"):
            stand_in = self.directory / "bin" / command
            stand_in.parent.mkdir(exist_ok=True)
            stand_in.write_text(
                f'#!/bin/sh\nexec {sys.executable} {ROOT}/.ci/stand_in.py {command} "$@"\n'
            )
            stand_in.chmod(0o755)
        outputs = {"Url": self.start["url"], "IdentityTableName": "identity"}
        self.environment = environment | {
            "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "SAM_CLI_TELEMETRY": "0",
            "STAND_IN_LOG": str(self.log),
            "STAND_IN_OUTPUTS": json.dumps(outputs),
            "STAND_IN_TOKENRY": str(pathlib.Path(tokenry).resolve()),
            "STAND_IN_TOKEN": self.start["accountToken"],
        }

    def bash(self, script, *arguments, **more):
        """Runs a script. Returns its exit code and its output."""
        self.log.write_text("")
        ran = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{script}", "bash", *arguments],
            cwd=ROOT,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        return ran.returncode, ran.stdout

    def logged(self, key):
        """Returns the values that the stand-ins logged for a key, in order."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line[key] for line in lines if key in line]


def blocks(file, language):
    """Returns the code blocks of a document that are marked with this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / file).read_text(), re.M | re.S)


def documents(run):
    """Runs the commands of the guides. Checks that each field in a query occurs in log lines."""
    steps = [step for guide in GUIDES for step in blocks(f"docs/how-to/{guide}.md", "sh")]
    # The stand-ins need no time, so `sleep` does nothing.
    script = "sleep() { :; }\n" + "\n".join(steps)
    code, printed = run.bash(script)
    must(code == 0, f"all {len(steps)} blocks of docs/how-to succeed", printed)
    commands = run.logged("command")
    queries = [one[one.index("--query-string") + 1] for one in commands if "--query-string" in one]
    overrides = run.logged("overrides")
    deployed = [one for one in overrides if "RestoredTableArn" in one]
    changed = [one for one in overrides if "LogLevel" in one]
    must(
        "sam deploy --config-env production --parameter-overrides Canary=false".split() in commands,
        "an upgrade without a canary sets only the parameter Canary",
        commands,
    )
    must(
        changed == [{"LogLevel": "debug", "Canary": "true"}],
        "the function `redeploy` in stack.sh sets the given parameter, and sets Canary=true by default",
        changed,
    )
    must(
        deployed[0]["RestoredTableArn"]
        and deployed[0]["NotBefore"]
        and not deployed[1]["RestoredTableArn"],
        "the switch to a restored table sets NotBefore, and a later command switches back",
        deployed,
    )

    lines = map(json.loads, (run.directory / "served").read_text().splitlines())
    fields = {key for line in lines for key in line} | {"@timestamp", "@message", "@logStream", "cause"}
    access = TEMPLATE["Resources"]["Api"]["Properties"]["AccessLogSettings"]["Format"]
    fields |= set(json.loads(access))
    for query in queries:
        words = set(re.findall(r"@?[A-Za-z_]+", re.sub(r'"[^"]*"', "", query)))
        must(words <= fields | INSIGHTS, f"log lines have all fields of the query {query!r}", words - fields)


def variants(run):
    """Checks the `sam` commands in the blocks of deploy.md that are marked `text`.

    The deployment command for x86_64 must also set Stage, because `--parameter-overrides` replaces
    the parameters of samconfig.toml, and a new stack would get the default Stage.
    """
    scripts = [block for block in blocks("docs/how-to/deploy.md", "text") if block.startswith("sam ")]
    code, printed = run.bash("STAGE=production\n" + "".join(scripts))
    must(
        code == 0 and len(run.logged("command")) == 4,
        "the sam commands for a first try and for x86_64 are valid",
        printed,
    )
    overrides = run.logged("overrides")
    must(
        overrides[-2:] == [{"Architecture": "x86_64"}, {"Stage": "production", "Architecture": "x86_64"}],
        "the commands for x86_64 set Architecture, and the deployment also sets Stage",
        overrides,
    )


def deployment(run):
    """Checks the steps of deploy.yml. Checks deploy.sh with deployments that succeed or fail."""
    user = f"{run.start['ecosystemId']};smoke"
    good = {"TOKENRY_TOKEN": run.start["accountToken"], "TOKENRY_USER": user}
    workflow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    scripts = [
        step["run"]
        for job in workflow["jobs"].values()
        for step in job.get("steps", [])
        if "run" in step
    ]
    for script in scripts:
        checked = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
        must(
            checked.returncode == 0,
            f"in deploy.yml, the step {script.splitlines()[0]!r} is valid bash",
            checked.stderr,
        )
    steps = [script for script in scripts if re.match(r"sam |\.ci/deploy\.sh ", script)]
    code, printed = run.bash("\n".join(steps), **good)
    sams = [one[1] for one in run.logged("command") if one[0] == "sam"]
    must(
        code == 0 and sams == ["build", "deploy", "deploy"],
        "deploy.yml builds once and deploys twice",
        printed,
    )
    must(
        run.logged("stack")[1:] == ["tokenry-staging", "tokenry-production"],
        "deploy.yml deploys to staging before production",
    )
    must(
        printed.count("ok: the minted token is inactive after its revocation") == 4,
        "smoke.sh runs before and after each of the two deployments",
        printed,
    )

    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_BREAKS="1", **good)
    overrides = run.logged("overrides")
    before = {name: str(of["Default"]) for name, of in TEMPLATE["Parameters"].items()}
    must(
        code != 0 and len(overrides) == 2,
        "if the new version does not work, deploy.sh runs a second deployment and exits with an error",
        printed,
    )
    must(
        printed.count("ok: the minted token is inactive after its revocation") == 2,
        "the previous version works before the deployment and after the roll-back",
        printed,
    )
    must(
        overrides[1] == before | {"Canary": "false"},
        "the roll-back uses the previous parameters, without a canary",
        overrides[1],
    )
    (template,) = [
        one[one.index("--template-file") + 1]
        for one in run.logged("command")
        if "--template-file" in one
    ]
    must(
        template.endswith("/template.yaml") and ".aws-sam" not in template,
        "the roll-back uses the previous template",
        template,
    )

    bad = good | {"TOKENRY_TOKEN": "tk_ai_no"}
    code, printed = run.bash(".ci/deploy.sh production", **bad)
    must(
        code != 0 and len(run.logged("overrides")) == 1 and "and did not work before" in printed,
        "if the previous version also did not work, deploy.sh does not roll back",
        printed,
    )

    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_FAIL="sam deploy", **good)
    must(
        code != 0 and printed.count("ok: the minted token is inactive") == 1,
        "if the deployment fails, deploy.sh does not run smoke.sh again",
        printed,
    )
    away = {"STAND_IN_FAIL": "aws cloudformation describe-stacks"}
    said = "An error occurred (ValidationError): Stack with id tokenry-production does not exist"
    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_SAYS=said, **away)
    must(
        code == 0 and len(run.logged("overrides")) == 1,
        "the first deployment of a stack needs no token",
        printed,
    )
    said = "An error occurred (AccessDenied): not authorized"
    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_SAYS=said, **away)
    must(
        code != 0 and not run.logged("overrides") and said in printed,
        "if deploy.sh cannot read the stack, it deploys nothing",
        printed,
    )
    code, printed = run.bash(".ci/deploy.sh production")
    must(
        code != 0 and not run.logged("overrides"),
        "without a token, a deployment of an existing stack fails before it changes the stack",
        printed,
    )


def stand_ins(run):
    """Checks that the stand-ins reject commands that the real commands would reject."""
    for wrong in [
        "aws dynamodb restore-table --target-table-name table",
        "aws dynamodb update-table --table-name table --protected",
        "aws dynamodb update-time-to-live --table-name table --time-to-live-specification Enabled=yes",
        "aws dynamodb wait table-restored --table-name table",
        "aws cloudformation describe-stacks --query 'Stacks[0].Url' --output text",
        "sam deploy --config-env nowhere",
        "sam deploy --canary",
        "sam deploy --parameter-overrides Canry=false",
        "cargo run -- bootstrap --token",
        "cargo run -- value-key remove",
        "cargo run -- value-key rewrap --to Arn",
    ]:
        code, printed = run.bash(wrong)
        must(code != 0, f"the stand-in rejects: {wrong}", printed)


def main(tokenry=None):
    problems = metrics.problems(TEMPLATE) + resources.problems(TEMPLATE)
    must(
        not problems,
        "template.yaml has no mistakes in its metrics and resources",
        "\n".join(problems),
    )
    if tokenry is None:
        return
    must(shutil.which("curl"), "curl is installed")
    with contextlib.ExitStack() as stack:
        run = Run(stack, tokenry)
        stand_ins(run)
        deployment(run)
        variants(run)
        # This check must be last, because it revokes the token that all checks use.
        documents(run)


main(*sys.argv[1:])
