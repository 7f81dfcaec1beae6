#!/bin/sh
# Whether a backup of the decision database can be restored: makes one, restores it beside, and checks the copy.
#
#   RESCUE_CDS_DB=sqlite+aiosqlite:////var/lib/rescue-cds/decisions.db deploy/restore-drill.sh
#   RESCUE_CDS_DB=postgresql://... RESCUE_CDS_DRILL_DB=postgresql://... deploy/restore-drill.sh
#
# The service may be running; its database is only read. SQLite: the copy lies in a temporary folder and is removed.
# PostgreSQL: the copy goes into the empty database of RESCUE_CDS_DRILL_DB and stays there, with its patient data: drop
# it. DRILL_KEEP names a file that becomes the backup, once it is found to be good; without it the backup is removed.
# DRILL_DIR names a folder to work in, in place of /tmp (twice as much room as the database). Needs `rescue-cds`, and for
# PostgreSQL pg_dump, pg_restore and psql of its version or newer. Exit status: 0 the backup is good, 1 it is not, 2 it
# could not be tried.
set -eu

: "${RESCUE_CDS:=rescue-cds}" "${PYTHON:=python3}"

fail() {
    status=$1
    shift
    printf 'restore drill: %s\n' "$*" >&2
    exit "$status"
}

if [ -z "${RESCUE_CDS_DB:-}" ]; then
    fail 2 'RESCUE_CDS_DB is not set: write the address of the database into it'
fi
source_db=$RESCUE_CDS_DB
keep=${DRILL_KEEP:-}
[ -z "$keep" ] || [ ! -e "$keep" ] || fail 2 "$keep is there already: name another file in DRILL_KEEP"
umask 077
work=$(mktemp -d "${DRILL_DIR:-${TMPDIR:-/tmp}}/restore-drill.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
began=$(date +%s)

say() {
    printf '%3d s  %s\n' "$(($(date +%s) - began))" "$*"
}

# The address in the environment and never among the arguments, which everybody on the machine can read.
on() {
    url=$1
    shift
    RESCUE_CDS_DB=$url "$RESCUE_CDS" "$@"
}

# A file for libpq (PGSERVICEFILE) from an address: password and all, so readable by nobody else.
service_file() {
    ADDRESS=$1 "$PYTHON" - <<'PYTHON' >"$2"
import os
from urllib.parse import parse_qsl, unquote, urlsplit

parts = urlsplit(os.environ["ADDRESS"])
login, _, place = parts.netloc.rpartition("@")
user, _, password = login.partition(":")
host, _, port = place.rpartition(":") if place.rpartition(":")[2].isdigit() else (place, "", "")
said = {
    "host": unquote(host.strip("[]")),
    "port": port,
    "user": unquote(user),
    "password": unquote(password),
    "dbname": unquote(parts.path.lstrip("/")),
} | {"sslmode" if name == "ssl" else name: value for name, value in parse_qsl(parts.query)}
print("[drill]", *(f"{name}={value}" for name, value in said.items() if value), sep="\n")
PYTHON
}

case $source_db in
sqlite*)
    file=${source_db#*:///}
    [ -f "$file" ] || fail 2 "no database file is at $file"
    copy_db=sqlite+aiosqlite:///$work/copy.db
    ;;
postgres*)
    copy_db=${RESCUE_CDS_DRILL_DB:-}
    [ -n "$copy_db" ] || fail 2 'RESCUE_CDS_DRILL_DB is not set: write the address of an empty database into it'
    [ "$copy_db" != "$source_db" ] || fail 2 'RESCUE_CDS_DRILL_DB is the database itself: name an empty one'
    for tool in pg_dump pg_restore psql; do
        command -v "$tool" >/dev/null || fail 2 "$tool is absent: install the client of PostgreSQL"
    done
    service_file "$source_db" "$work/source.conf"
    service_file "$copy_db" "$work/copy.conf"
    export PGSERVICE=drill PGCONNECT_TIMEOUT=10
    there=$(PGSERVICEFILE=$work/copy.conf psql --no-psqlrc --quiet --tuples-only --no-align --command \
        "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')") ||
        fail 2 'the database of RESCUE_CDS_DRILL_DB cannot be opened'
    [ "$there" = 0 ] || fail 2 'the database of RESCUE_CDS_DRILL_DB is not empty: nothing is restored over other data'
    ;;
*)
    fail 2 'RESCUE_CDS_DB: write sqlite+aiosqlite:///file.db or postgresql+asyncpg://user@host/database'
    ;;
esac

say 'the heads of the chain, before the backup'
on "$source_db" decisions verify --heads >"$work/heads" || {
    cat "$work/heads" >&2
    fail 1 'the database itself is not as it was written: docs/operate.md, "Damaged database, chain or spool"'
}

say 'backup'
case $source_db in
sqlite*)
    # The backup interface of SQLite, as `sqlite3 FILE ".backup COPY"` has it: also of a file that is being written.
    FILE=$file COPY=$work/backup.db "$PYTHON" - <<'PYTHON' || fail 1 'the backup could not be made'
import os
import sqlite3
from contextlib import closing
from pathlib import Path

source = f"{Path(os.environ['FILE']).absolute().as_uri()}?mode=ro"
with closing(sqlite3.connect(source, uri=True)) as read, closing(sqlite3.connect(os.environ["COPY"])) as written:
    read.backup(written)
    written.execute("pragma journal_mode=delete")
PYTHON
    backup=$work/backup.db
    ;;
*)
    backup=$work/backup.dump
    PGSERVICEFILE=$work/source.conf pg_dump --format=custom --no-owner --no-privileges --file="$backup" ||
        fail 1 'the backup could not be made'
    ;;
esac
say "backup made: $(wc -c <"$backup") bytes"

restored=$(date +%s)
case $source_db in
sqlite*) cp "$backup" "$work/copy.db" ;;
*)
    PGSERVICEFILE=$work/copy.conf pg_restore --exit-on-error --single-transaction --no-owner --no-privileges \
        --dbname='service=drill' "$backup" || fail 1 'the backup could not be restored'
    ;;
esac
say "restored in $(($(date +%s) - restored)) s"

on "$copy_db" db check || fail 1 'the service would not start on the copy'
say 'the copy is fit for the service'
on "$copy_db" decisions verify --expect "$work/heads" || fail 1 'the copy is not what was backed up'
say 'the chain is whole, and nothing is missing that was there before the backup'

# 0 identical, 4 nothing to compare (patient data removed); 3: another version of the service decides otherwise now,
# which says nothing against the backup.
code=0
on "$copy_db" decisions rerun --since 1d >"$work/rerun" 2>&1 || code=$?
tail -n 1 "$work/rerun"
case $code in
0 | 4) say 'the decisions of the last day were evaluated again, with the knowledge in the copy' ;;
3) say 'decisions of the last day come out otherwise: made by another version? `rescue-cds decisions rerun` says in what' ;;
*) fail 1 'the decisions of the copy could not be evaluated again' ;;
esac
if [ -n "$keep" ]; then
    mv "$backup" "$keep" || fail 1 "$keep cannot be written"
    say "the backup is good: $keep"
else
    say 'the backup is good, and is removed'
fi
case $source_db in
postgres*) say 'the copy holds patient data: drop the database of RESCUE_CDS_DRILL_DB now' ;;
esac
