#!/usr/bin/env bash
# Makes sure that a Docker Engine answers; installs and starts Debian's where none does.
#
# Idempotent. With a reachable DOCKER_HOST or docker context nothing is installed. Needs Debian and root only where an engine is missing.
set -euo pipefail

local_socket=/var/run/docker.sock
say() { printf 'engine: %s\n' "$*"; }

# The API's ping needs no docker client; ssh does.
ping_host() {
  local host=$1 address=${1#*://} certs=${DOCKER_CERT_PATH:-${DOCKER_CONFIG:-$HOME/.docker}}
  local ask=(curl -fsS --max-time 10 --noproxy '*')
  case "$host" in
    unix://*) [ -S "$address" ] && [ "$("${ask[@]}" --unix-socket "$address" http://engine/_ping 2>/dev/null)" = OK ] ;;
    tcp://* | http://* | https://*)
      if [ -n "${DOCKER_TLS_VERIFY:-}" ] || [ "${host%%:*}" = https ]; then
        [ "$("${ask[@]}" --cacert "$certs/ca.pem" --cert "$certs/cert.pem" --key "$certs/key.pem" "https://${address%/}/_ping" 2>/dev/null)" = OK ]
      else
        [ "$("${ask[@]}" "http://${address%/}/_ping" 2>/dev/null)" = OK ]
      fi ;;
    *) DOCKER_HOST=$host timeout 30 docker version >/dev/null 2>&1 ;;
  esac
}

# The docker client's current context, where there is a client and the context is not the default one.
context() {
  command -v docker >/dev/null 2>&1 || return 1
  local name
  name=$(docker context inspect --format '{{.Name}}' 2>/dev/null) || return 1
  [ "$name" != default ] && printf '%s' "$name"
}

# curl may be missing on a bare machine; then the docker client is asked, and failing that there is no engine that we know of.
local_answers() {
  if command -v curl >/dev/null 2>&1; then
    ping_host "unix://$local_socket" || { [ -n "${XDG_RUNTIME_DIR:-}" ] && ping_host "unix://$XDG_RUNTIME_DIR/docker.sock"; }
  else
    timeout 10 docker version >/dev/null 2>&1
  fi
}

if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "unix://$local_socket" ]; then
  if ping_host "$DOCKER_HOST"; then
    say "an engine answers at $DOCKER_HOST"
    exit 0
  fi
  say "DOCKER_HOST=$DOCKER_HOST does not answer (curl, or docker for ssh, asked it); start that engine, or unset DOCKER_HOST to use one on this machine" >&2
  exit 1
fi
if [ -z "${DOCKER_HOST:-}" ] && name=$(context); then
  if timeout 30 docker version >/dev/null 2>&1; then
    say "an engine answers in the docker context $name"
    exit 0
  fi
  say "the docker context $name does not answer; start that engine, or 'docker context use default' to use one on this machine" >&2
  exit 1
fi
if local_answers; then
  say "an engine answers on this machine"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  say "no engine answers and this is not root: start Docker (systemctl start docker), or run 'sudo make engine'" >&2
  exit 1
fi

# docker.io brings dockerd, containerd and runc; iptables is what dockerd calls for its bridge.
need=()
for pair in dockerd:docker.io iptables:iptables curl:curl; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || need+=("${pair##*:}")
done
if [ "${#need[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null 2>&1 || { say "no engine and no apt-get: install Docker Engine 20.10 or newer by hand" >&2; exit 1; }
  say "installing ${need[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

log=/var/log/anchorhold-dockerd.log
if local_answers; then
  say "the package started it"
elif [ -d /run/systemd/system ]; then
  say "starting Docker by systemd; its log: journalctl -u docker"
  systemctl start docker
else
  # A pid file left by a killed daemon makes the next one refuse to start, also when the number is somebody else's by now.
  for pid_file in /var/run/docker.pid:dockerd /run/docker/containerd/containerd.pid:containerd; do
    file=${pid_file%%:*}
    if [ -f "$file" ] && [ "$(cat "/proc/$(cat "$file")/comm" 2>/dev/null || true)" != "${pid_file##*:}" ]; then
      rm -f "$file"
    fi
  done
  say "starting dockerd, its log is $log"
  # Away from this script's output: a daemon that inherits it keeps the reader of a pipe waiting for ever.
  setsid dockerd >"$log" 2>&1 </dev/null &
fi

for _ in $(seq 1 120); do
  if local_answers; then
    say "ready"
    exit 0
  fi
  sleep 0.5
done
say "dockerd did not answer within a minute; the end of $log:" >&2
tail -n 20 "$log" >&2 || true
exit 1
