# Defines functions and settings for .ci/run, .ci/nightly, .ci/fuzz and tests/sam_local.sh. Source
# this file in bash, from any directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p target

# Incremental builds are off. They take more time, and would help only if CI built a crate again
# after a change.
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
export SAM_CLI_TELEMETRY=0
# Python stores compiled modules here, not beside the scripts.
export PYTHONPYCACHEPREFIX=$PWD/target/pycache
export UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system
ARCHITECTURE=$(uname -m | sed s/aarch64/arm64/)

# Selects an installed toolchain that has the version in rust-toolchain.toml. The toolchain may have
# another name, such as `stable`, and rustup finds a toolchain only by its name.
use_installed_toolchain() {
  local channel name
  channel=$(sed -nE 's/^channel = "(.*)"$/\1/p' rust-toolchain.toml)
  if ! command -v rustup >/dev/null || rustup run "$channel" rustc --version >/dev/null 2>&1; then return; fi
  while read -r name _; do
    if [[ $(rustup run "$name" rustc --version 2>/dev/null) == "rustc $channel "* ]]; then
      export RUSTUP_TOOLCHAIN=$name
      return
    fi
  done < <(rustup toolchain list)
}
use_installed_toolchain

# install PACKAGE…: installs the packages if the script runs on Debian, and as root or in a workflow of
# GitHub. Otherwise does nothing.
install() {
  local as_root=()
  if ! command -v apt-get >/dev/null; then return; fi
  if [[ $(id -u) != 0 ]]; then
    [[ ${GITHUB_ACTIONS-} == true ]] || return 0
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need COMMAND PACKAGE…: installs the packages if the command does not exist.
need() { command -v "$1" >/dev/null || install "${@:2}"; }

# venv NAME…: creates target/venv/NAME from .ci/NAME-requirements.txt.
venv() {
  local uv=target/venv/uv/bin/uv name
  if [[ ! -x $uv ]]; then
    python3 -c 'import ensurepip' 2>/dev/null || install python3-venv
    python3 -m venv target/venv/uv
    target/venv/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
  fi
  for name; do
    [[ -x target/venv/$name/bin/python ]] || $uv venv --quiet --python python3 "target/venv/$name"
    $uv pip install --quiet --python "target/venv/$name" --requirements ".ci/$name-requirements.txt"
  done
}

# Builds target/debug/tokenry and target/debug/functions, with the same features as in the build of
# the tests.
build_binaries() { cargo build --workspace --bins --examples --locked; }

# Runs build_binaries. Also builds the functions for deployment at the same time, because linking
# the functions uses only one core.
build_all_binaries() {
  build_binaries &
  PATH=$PWD/target/venv/aws/bin:$PATH sam build --parameter-overrides "Architecture=$ARCHITECTURE"
  wait $!
}

# step NAME COMMAND…: runs a command and stores its duration for `summary`.
STEPS=()
step() {
  local start=$SECONDS
  printf '\n== %s\n' "${*:2}"
  STEP=$1
  "${@:2}"
  STEP=
  STEPS+=("$(minutes $((SECONDS - start)))  $1")
}

# minutes SECONDS: prints a duration as minutes and seconds.
minutes() { printf '%3d:%02d' $(($1 / 60)) $(($1 % 60)); }

# Prints the duration of each step. Use this function as a trap for EXIT.
summary() {
  local code=$?
  printf '\nminutes  step\n'
  ((${#STEPS[@]} == 0)) || printf '%s\n' "${STEPS[@]}"
  [[ -z ${STEP-} ]] || printf 'failed  %s\n' "$STEP"
  printf '%s  total\n' "$(minutes $SECONDS)"
  return $code
}
