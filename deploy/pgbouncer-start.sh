#!/bin/sh
# Fills the template in and runs PgBouncer in its place. The password stands in the environment and in one file that nobody
# else can read.
set -eu
umask 077
: "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}" "${PGBOUNCER_DIR:?}"

# As PgBouncer reads a name or a password: a quote is doubled.
quoted() { printf '"%s"' "$(printf '%s' "$1" | sed 's/"/""/g')"; }

printf '%s %s\n' "$(quoted "$POSTGRES_USER")" "$(quoted "$POSTGRES_PASSWORD")" >"$PGBOUNCER_DIR/userlist.txt"
envsubst <"$(dirname "$0")/pgbouncer.ini.template" >"$PGBOUNCER_DIR/pgbouncer.ini"
exec pgbouncer "$PGBOUNCER_DIR/pgbouncer.ini"
