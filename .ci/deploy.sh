#!/usr/bin/env bash
# Deploys what `sam build` has built, tries it, and if it does not work puts back the version before, if that did.
#
#     TOKENRY_TOKEN=tk_… TOKENRY_USER='C…;smoke' deploy.sh STAGE
#
# STAGE is an environment of samconfig.toml, and its stack is `tokenry-STAGE`. The variables are for smoke.sh; a stack's
# first deployment does without them, for it has no token yet.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$1 stack=tokenry-$1
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT

stack_says() { aws cloudformation describe-stacks --stack-name "$stack" --query "Stacks[0].$1" --output text; }
works() { .ci/smoke.sh "$(stack_says "Outputs[?OutputKey=='Url'].OutputValue | [0]")" "$TOKENRY_USER"; }

if ! status=$(stack_says StackStatus 2>"$before/error"); then
  # That there is no stack is the one answer that lets a deployment go untried.
  grep -q 'does not exist' "$before/error" || { cat "$before/error" >&2 && exit 1; }
  status=none
fi
# In review is one whose first deployment never began.
if [[ $status == none || $status == REVIEW_IN_PROGRESS ]]; then
  was=absent
else
  : "${TOKENRY_TOKEN:?is needed to try what is deployed}" "${TOKENRY_USER:?is needed to try what is deployed}"
  # As it was sent, with the addresses of its code; and the parameters, which `sam deploy` takes in quotes.
  aws cloudformation get-template --stack-name "$stack" --template-stage Original \
    --query TemplateBody --output text >"$before/template.yaml"
  stack_says "Parameters[?ParameterKey!='Canary'].join('', [ParameterKey, '=\"', ParameterValue, '\"'])" \
    >"$before/parameters"
  if works; then was=working; else was=broken; fi
fi

# A canary that sets off an alarm, or whatever else fails, CloudFormation takes back itself.
sam deploy --config-env "$stage"
if [ $was = absent ] || works; then exit 0; fi
if [ $was = broken ]; then
  echo "$stack does not work, nor did it before: is TOKENRY_TOKEN still good?" >&2
  exit 1
fi

echo "$stack does not work: back to the version before" >&2
read -ra parameters <"$before/parameters"
# At once, whatever the alarms say. SAM looks for its file beside the template.
sam deploy --config-env "$stage" --config-file "$PWD/samconfig.toml" --template-file "$before/template.yaml" \
  --parameter-overrides "${parameters[@]}" Canary=false
works
exit 1
