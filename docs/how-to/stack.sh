# Defines the functions that the commands of docs/how-to use.
# Set STAGE, and source this file in bash, in the root of the repository.
STACK=tokenry-$STAGE

# output NAME: prints an output of the stack.
output() {
  aws cloudformation describe-stacks --stack-name "$STACK" --output text \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue | [0]"
}

# resource NAME: prints the id of a resource of the stack.
resource() {
  aws cloudformation describe-stack-resource --stack-name "$STACK" --logical-resource-id "$1" --output text \
    --query StackResourceDetail.PhysicalResourceId
}

# field NAME: prints a field of the JSON on standard input.
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; }

# redeploy NAME=VALUE…: changes parameters of the stack, without a build. Also sets Canary=true, unless you give
# another value for Canary. All other parameters keep their values.
redeploy() {
  DEPLOYED=$(mktemp)
  aws cloudformation get-template --stack-name "$STACK" --template-stage Original \
    --query TemplateBody --output text >"$DEPLOYED"
  sam deploy --config-env "$STAGE" --config-file "$PWD/samconfig.toml" --template-file "$DEPLOYED" \
    --parameter-overrides Canary=true "$@"
}
