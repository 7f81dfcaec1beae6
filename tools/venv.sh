#!/bin/sh
# Make a virtual environment at the path given, with $PYTHON or else the first Python found that is new
# enough. Says the remedy where there is none, or where Debian's python3 comes without its venv package.
#
# usage: [PYTHON=python3.12] tools/venv.sh DIRECTORY
set -eu
venv=$1
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if [ -n "${PYTHON:-}" ]; then
    if ! "$PYTHON" -c "$new_enough" 2>/dev/null; then
        echo "PYTHON=$PYTHON is not a Python of version 3.11 or newer:" \
            "$("$PYTHON" --version 2>&1 | head -n 1)" >&2
        echo 'Name another one, for example: make demo PYTHON=python3.12' >&2
        exit 1
    fi
else
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c "$new_enough" 2>/dev/null; then
            PYTHON=$candidate
            break
        fi
    done
    if [ -z "${PYTHON:-}" ]; then
        echo "No Python of version 3.11 or newer is on the PATH (python3: $(python3 --version 2>&1 | head -n 1))." >&2
        echo 'Install one (Debian, Ubuntu: apt-get install python3 python3-venv),' >&2
        echo 'or name it: make demo PYTHON=/path/to/python3.12' >&2
        exit 1
    fi
fi

echo "Making $venv with $("$PYTHON" --version) ..."
if ! output=$("$PYTHON" -m venv --clear "$venv" 2>&1); then
    rm -rf "$venv"
    printf '%s\n' "$output" >&2
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "This Python cannot make virtual environments. On Debian and Ubuntu:" >&2
        echo "    apt-get install python3-venv        (or python$version-venv)" >&2
    fi
    exit 1
fi
