#!/bin/sh
# Install the service, not editable, into a virtual environment. The Dockerfile's builder stage runs these
# steps, and tools/install_check.sh runs the same ones in a clean directory.
#
# usage: tools/install.sh locked DIRECTORY     make the environment and install requirements.lock; needs that
#                                              file here (PYTHON: the interpreter, python3 by default)
#        tools/install.sh project DIRECTORY    add the service; needs pyproject.toml, what it names, and the
#                                              packages here
set -eu
step=$1
venv=$2
pip="$venv/bin/python -m pip --disable-pip-version-check --no-input --quiet"

case $step in
locked)
    "${PYTHON:-python3}" -m venv "$venv"
    $pip install --no-deps --require-hashes -r requirements.lock
    ;;
project)
    # The build backend is in the lock, so nothing is fetched here.
    $pip install --no-deps --no-build-isolation --no-index .
    $pip check
    # A running service neither builds nor installs.
    $pip uninstall --yes setuptools pip
    ;;
*)
    echo "usage: $0 locked|project DIRECTORY" >&2
    exit 2
    ;;
esac
