#!/usr/bin/env bash
# Deploys the output of `sam build` and tests it with smoke.sh. If the test fails, but passed before
# the deployment, the script deploys the previous version again.
#
#     TOKENRY_TOKEN=tk_… TOKENRY_USER='C…;smoke' deploy.sh STAGE
#
# STAGE is an environment in samconfig.toml. Its stack is `tokenry-STAGE`. smoke.sh needs both
# variables. The first deployment of a stack does not need the variables, because there is no token
# yet.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$1 stack=tokenry-$1
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT

stack_says() { aws cloudformation describe-stacks --stack-name "$stack" --query "Stacks[0].$1" --output text; }
works() { .ci/smoke.sh "$(stack_says "Outputs[?OutputKey=='Url'].OutputValue | [0]")" "$TOKENRY_USER"; }

if ! status=$(stack_says StackStatus 2>"$before/error"); then
  # If the stack does not exist, this is its first deployment. Any other error ends the script.
  grep -q 'does not exist' "$before/error" || { cat "$before/error" >&2 && exit 1; }
  status=none
fi
# The first deployment of a stack in REVIEW_IN_PROGRESS has not started. A first deployment is not
# tested.
if [[ $status == none || $status == REVIEW_IN_PROGRESS ]]; then
  was=absent
else
  : "${TOKENRY_TOKEN:?is required to test the deployment}" "${TOKENRY_USER:?is required to test the deployment}"
  # Save the submitted template, which contains the S3 locations of the code. Also save the
  # parameters, with each value in the quotes that `sam deploy` requires.
  aws cloudformation get-template --stack-name "$stack" --template-stage Original \
    --query TemplateBody --output text >"$before/template.yaml"
  stack_says "Parameters[?ParameterKey!='Canary'].join('', [ParameterKey, '=\"', ParameterValue, '\"'])" \
    >"$before/parameters"
  if works; then was=working; else was=broken; fi
fi

# If an alarm starts during the canary, or if the deployment fails, CloudFormation rolls the stack
# back, and this command fails.
sam deploy --config-env "$stage"
if [ $was = absent ] || works; then exit 0; fi
if [ $was = broken ]; then
  echo "$stack does not work, and did not work before the deployment. Check that TOKENRY_TOKEN is valid." >&2
  exit 1
fi

echo "$stack does not work: deploying the previous version again" >&2
read -ra parameters <"$before/parameters"
# Deploy without a canary, because CodeDeploy does not start a canary while an alarm is on. Without
# --config-file, SAM would look for samconfig.toml beside the template.
sam deploy --config-env "$stage" --config-file "$PWD/samconfig.toml" --template-file "$before/template.yaml" \
  --parameter-overrides "${parameters[@]}" Canary=false
works
exit 1
