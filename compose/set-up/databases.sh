#!/bin/bash
# A database and an owner for each service; PostgreSQL's image runs it once, at its first start.
set -euo pipefail
[ -S /var/run/postgresql/.s.PGSQL.5432 ] || export PGHOST=/tmp
for name in master billing support; do
  export name
  psql -v ON_ERROR_STOP=1 -U postgres -v name="$name" <<'SQL'
\set password `cat "/run/secrets/usercast/$name.password"`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
SQL
done
