#!/usr/bin/env bash
# Deploys the output of `sam build`. Runs smoke.sh before and after the deployment. If smoke.sh
# succeeds before and fails after the deployment, the script deploys the previous version again.
#
#     TOKENRY_TOKEN=tk_… TOKENRY_USER='C…;smoke' deploy.sh STAGE
#
# STAGE is a stage in samconfig.toml, such as `staging`. The name of the stack is `tokenry-STAGE`.
# smoke.sh needs both variables. For the first deployment of a stack, the variables are not needed:
# there is no token yet, so the script does not run smoke.sh.
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
# In the status REVIEW_IN_PROGRESS, the stack's first deployment has not started.
if [[ $status == none || $status == REVIEW_IN_PROGRESS ]]; then
  was=absent
else
  : "${TOKENRY_TOKEN:?is required to test the deployment}" "${TOKENRY_USER:?is required to test the deployment}"
  # Save the template of the previous deployment. This template contains the S3 locations of the
  # code. Also save the parameters. `sam deploy` requires quotes around each parameter's value.
  aws cloudformation get-template --stack-name "$stack" --template-stage Original \
    --query TemplateBody --output text >"$before/template.yaml"
  stack_says "Parameters[?ParameterKey!='Canary'].join('', [ParameterKey, '=\"', ParameterValue, '\"'])" \
    >"$before/parameters"
  if works; then was=working; else was=broken; fi
fi

# If an alarm starts during the canary deployment, or if the deployment fails for another reason,
# CloudFormation rolls the stack back, and this command fails.
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
