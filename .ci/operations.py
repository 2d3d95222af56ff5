#!/usr/bin/env python3
"""Holds docs/how-to, deployment and dashboard to what can be known without an account.

    operations.py [TOKENRY]

Without TOKENRY (the built command) it checks metrics and resources alone. With it, it also runs every block
marked `sh` of the guides that need a stack, one guide after the other in one shell, the `sam` commands for trying out
and for x86_64, and the deployment with its roll-back. `aws` and `sam` are stand-ins that parse and check as the real
ones do (stand_in.py), the API is `tokenry serve`, and the table is a DynamoDB of another maker.
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

# CloudWatch Logs Insights' own words in the queries.
INSIGHTS = set("and as by count display filter fields ispresent like limit not or pct sort stats".split())
# The guides that need a stack, in an order in which each finds what it needs.
GUIDES = ("deploy", "watch", "upgrade", "rotate", "restore")
# Seconds for a script, on a machine that has other work.
TIMEOUT = 1800


class Run:
    """What the commands find: the stand-ins before all else on the path, and the service."""

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
        """Runs a script; returns its exit code and what it printed."""
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
        """What the stand-ins have noted under a key, in order."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line[key] for line in lines if key in line]


def blocks(file, language):
    """The code blocks of a document that are marked so."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / file).read_text(), re.M | re.S)


def documents(run):
    """The commands of the documents run, and the queries name fields that lines have."""
    steps = [step for guide in GUIDES for step in blocks(f"docs/how-to/{guide}.md", "sh")]
    # Nothing is worth waiting for.
    script = "sleep() { :; }\n" + "\n".join(steps)
    code, printed = run.bash(script)
    must(code == 0, f"the {len(steps)} blocks of docs/how-to run", printed)
    commands = run.logged("command")
    queries = [one[one.index("--query-string") + 1] for one in commands if "--query-string" in one]
    overrides = run.logged("overrides")
    deployed = [one for one in overrides if "RestoredTableArn" in one]
    changed = [one for one in overrides if "LogLevel" in one]
    must(
        "sam deploy --config-env production --parameter-overrides Canary=false".split() in commands,
        "an upgrade without a canary deploys the build, and changes nothing else",
        commands,
    )
    must(
        changed == [{"LogLevel": "debug", "Canary": "true"}],
        "a parameter is changed by a canary unless another way is asked for",
        changed,
    )
    must(
        deployed[0]["RestoredTableArn"]
        and deployed[0]["NotBefore"]
        and not deployed[1]["RestoredTableArn"],
        "a restored table comes with a NotBefore, and goes again",
        deployed,
    )

    lines = map(json.loads, (run.directory / "served").read_text().splitlines())
    fields = {key for line in lines for key in line} | {"@timestamp", "@message", "@logStream", "cause"}
    access = TEMPLATE["Resources"]["Api"]["Properties"]["AccessLogSettings"]["Format"]
    fields |= set(json.loads(access))
    for query in queries:
        words = set(re.findall(r"@?[A-Za-z_]+", re.sub(r'"[^"]*"', "", query)))
        must(words <= fields | INSIGHTS, f"lines have the fields of {query!r}", words - fields)


def variants(run):
    """The alternative `sam` commands parse, and name the stage of a new stack."""
    scripts = [block for block in blocks("docs/how-to/deploy.md", "text") if block.startswith("sam ")]
    code, printed = run.bash("STAGE=production\n" + "".join(scripts))
    must(
        code == 0 and len(run.logged("command")) == 4,
        "the sam commands for trying out and for x86_64 parse",
        printed,
    )
    overrides = run.logged("overrides")
    must(
        overrides[-2:] == [{"Architecture": "x86_64"}, {"Stage": "production", "Architecture": "x86_64"}],
        "a new stack for x86_64 has the name of its stage",
        overrides,
    )


def deployment(run):
    """A deployment that works stays, one that does not goes back, a first one is not tried."""
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
            f"deploy.yml's {script.splitlines()[0]!r} is bash",
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
        "staging is before production",
    )
    must(
        printed.count("ok: it is inactive after its revocation") == 4,
        "each time a token is minted and revoked, before and after",
        printed,
    )

    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_BREAKS="1", **good)
    overrides = run.logged("overrides")
    before = {name: str(of["Default"]) for name, of in TEMPLATE["Parameters"].items()}
    must(
        code != 0 and len(overrides) == 2,
        "what does not work is followed by another deployment, and fails",
        printed,
    )
    must(
        printed.count("ok: it is inactive after its revocation") == 2,
        "what was there before works again",
        printed,
    )
    must(
        overrides[1] == before | {"Canary": "false"},
        "of the parameters before, at once",
        overrides[1],
    )
    (template,) = [
        one[one.index("--template-file") + 1]
        for one in run.logged("command")
        if "--template-file" in one
    ]
    must(
        template.endswith("/template.yaml") and ".aws-sam" not in template,
        "and of the template before",
        template,
    )

    bad = good | {"TOKENRY_TOKEN": "tk_ai_no"}
    code, printed = run.bash(".ci/deploy.sh production", **bad)
    must(
        code != 0 and len(run.logged("overrides")) == 1 and "and did not work before" in printed,
        "what did not work before either stays",
        printed,
    )

    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_FAIL="sam deploy", **good)
    must(code != 0 and printed.count("ok: it is inactive") == 1, "what is not deployed is not tried", printed)
    away = {"STAND_IN_FAIL": "aws cloudformation describe-stacks"}
    said = "An error occurred (ValidationError): Stack with id tokenry-production does not exist"
    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_SAYS=said, **away)
    must(
        code == 0 and len(run.logged("overrides")) == 1,
        "a first deployment needs no token",
        printed,
    )
    said = "An error occurred (AccessDenied): not authorized"
    code, printed = run.bash(".ci/deploy.sh production", STAND_IN_SAYS=said, **away)
    must(
        code != 0 and not run.logged("overrides") and said in printed,
        "a stack that cannot be looked at is not changed",
        printed,
    )
    code, printed = run.bash(".ci/deploy.sh production")
    must(
        code != 0 and not run.logged("overrides"),
        "a later one does, before anything is changed",
        printed,
    )


def stand_ins(run):
    """The stand-ins refuse what the real ones would."""
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
    ]:
        code, printed = run.bash(wrong)
        must(code != 0, f"it is refused: {wrong}", printed)


def main(tokenry=None):
    problems = metrics.problems(TEMPLATE) + resources.problems(TEMPLATE)
    must(
        not problems,
        "metrics are written, resources are in order",
        "\n".join(problems),
    )
    if tokenry is None:
        return
    must(shutil.which("curl"), "there is curl")
    with contextlib.ExitStack() as stack:
        run = Run(stack, tokenry)
        stand_ins(run)
        deployment(run)
        variants(run)
        # The last, since it revokes the token that all work with.
        documents(run)


main(*sys.argv[1:])
