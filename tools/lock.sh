#!/bin/sh
# Write requirements.lock and requirements-dev.lock from pyproject.toml.
#
# The locks hold names, versions, markers and hashes only: no index address and no local path, so that they
# install from whatever index a site has set up. `--universal` makes one lock serve every Python from 3.11 up
# and every platform. The build backend is locked too, because the project itself is installed with
# --no-build-isolation: pip then fetches nothing that has no hash.
#
# usage: UV=uv PYTHON=.venv/bin/python tools/lock.sh [--upgrade]
set -eu
cd "$(dirname "$0")/.."
: "${UV:=uv}" "${PYTHON:=python3}"
unset PIP_FIND_LINKS UV_FIND_LINKS

build_requires=$(mktemp)
trap 'rm -f "$build_requires"' EXIT
"$PYTHON" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
    >"$build_requires"

lock() {
    output=$1
    shift
    "$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --output-file "$output" "$build_requires" pyproject.toml "$@"
    echo "$output: $(grep -c '^[a-z]' "$output") packages"
}

lock requirements.lock "$@"
# The service's own packages have the same versions in both: what is tested is what is shipped.
lock requirements-dev.lock --group pyproject.toml:dev --constraint requirements.lock "$@"
