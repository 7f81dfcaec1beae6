#!/bin/sh
# Prove, where there is no container engine, that the Dockerfile's install steps work: take the files that it
# copies, as git knows them, into a clean directory, run the same steps there, and use the result from
# elsewhere.
#
# usage: tools/install_check.sh           (PYTHON: the interpreter, python3 by default)
set -eu
: "${PYTHON:=python3}"
PYTHON=$("$PYTHON" -c 'import sys; print(sys.executable)')
export PYTHON
unset PYTHONPATH VIRTUAL_ENV
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT
mkdir "$clean/src" "$clean/elsewhere"

# The sources of each COPY from the build context: all words but the first and the last.
copied=$(awk '$1 == "COPY" && $2 !~ /^--/ { for (i = 2; i < NF; i++) print $i }' Dockerfile)
for path in $copied; do
    if [ -z "$(git ls-files --cached --others --exclude-standard -- "$path")" ]; then
        echo "the Dockerfile copies $path, which is not in the tree" >&2
        exit 1
    fi
    if git check-ignore --quiet --no-index "$path"; then
        echo "the Dockerfile copies $path, which git ignores" >&2
        exit 1
    fi
done
# A list of paths without spaces: to be split.
# shellcheck disable=SC2086
git ls-files -z --cached --others --exclude-standard -- $copied >"$clean/files"
tar -cf "$clean/src.tar" --null -T "$clean/files"
tar -xf "$clean/src.tar" -C "$clean/src"

echo "== clean install of $(printf '%s' "$copied" | tr '\n' ' ')"
cd "$clean/src"
sh tools/install.sh locked "$clean/venv"
sh tools/install.sh project "$clean/venv"

cd "$clean/elsewhere"
"$clean/venv/bin/rescue-cds" --help >"$clean/help"
echo "rescue-cds --help works outside the source tree ($(wc -l <"$clean/help") lines)"
"$clean/venv/bin/python" "$root/tools/check_installed.py" "$clean/src"
