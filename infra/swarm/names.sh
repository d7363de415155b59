# What deploy.sh, apply.sh and secret.sh share; above all, which secrets a stack has, and their names.
# shellcheck shell=bash

# Who watches by ssh may be gone; that must not end what is under way.
say() { printf 'usercast: %s\n' "$*" >&2 || true; }
stop() { say "$*"; exit 1; }
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 64; }

# What deploy.sh tells the host of its settings. Nothing of it comes from what a shell happens to have,
# or from another deployment.
# shellcheck disable=SC2034
told=(AWS_REGION REGISTRY USERCAST_TOPIC_ARN USERCAST_MASTER_URL TRUSTED_HOP TZ HTTPS ALLOWED_HOSTS
  ALLOWED_ORIGINS PORT TAG)

random() { openssl rand -base64 48 | tr -d '\n=+/' ; }

# As `manage.py clients add` takes it, but for what other things here are called.
check_client() { # name
  case $1 in
    master | usercast | observability | deploy) stop "a client cannot be called $1 here: something else is" ;;
    *[!a-z0-9-]* | [!a-z]* | "") stop "'$1' is no client's name: lower-case letters, digits and hyphens" ;;
  esac
}

# One at a time for each stack, until this process ends; what it starts itself (apply.sh) may go on.
lock() { # stack
  [ "${USERCAST_LOCKED:-}" != "$1" ] || return 0
  # shellcheck disable=SC2154  # Where the script is that reads this file.
  local state=${STATE:-$here/state}/$1
  mkdir -p "$state"
  exec 9>"$state/lock"
  flock -n 9 || stop "another deployment of $1 is under way"
  export USERCAST_LOCKED=$1
}

sign_in() {
  [ -n "$REGISTRY" ] || return 0
  local said
  said=$(aws ecr get-login-password --region "$AWS_REGION" \
    | docker login --username AWS --password-stdin "${REGISTRY%/}" 2>&1) \
    || stop "cannot sign in at $REGISTRY as ${AWS_PROFILE:-this machine}: $said"
}

# The secrets that a stack's file names: apply.sh gives each its version by <NAME>_VERSION.
secrets_of() { # stack
  local common="database-url secret-key secret-key-fallbacks metrics-token"
  if [ "$1" = master ]; then echo "$common ec2.supersecret"; else echo "$common master-token"; fi
}

check_secret() { # stack name
  case " $(secrets_of "$1") " in
    *" $2 "*) ;;
    *) stop "$1 has no secret '$2', but $(secrets_of "$1")" ;;
  esac
}

full_name() { # stack name
  if [ "$2" = metrics-token ]; then echo "usercast-$2"; else echo "$1-$2"; fi
}

version_variable() { # name
  echo "$1" | tr '[:lower:].-' '[:upper:]__' | sed 's/$/_VERSION/'
}

# v1, v2 … of one secret, the oldest first.
versions() { # stack name
  docker secret ls --format '{{.Name}}' | sed -n "s/^$(full_name "$1" "$2")-\(v[0-9]*\)$/\1/p" | sort -V
}

newest_version() { versions "$1" "$2" | tail -1; }

next_version() {
  local newest
  newest=$(newest_version "$1" "$2")
  echo "v$((${newest#v} + 1))"
}

missing() { # stack
  local name
  for name in $(secrets_of "$1"); do
    [ -n "$(newest_version "$1" "$name")" ] || echo "$name"
  done
}

# A swarm removes no secret that a service has.
remove() { # full name
  docker secret rm "$1" >/dev/null 2>&1 || say "$1 stays: a service has it (deploy its stack, and it can go)"
}

remove_newest() { remove "$(full_name "$1" "$2")-$(newest_version "$1" "$2")"; }

remove_old() { # stack name
  local version
  for version in $(versions "$1" "$2" | head -n -1); do
    remove "$(full_name "$1" "$2")-$version"
  done
}
