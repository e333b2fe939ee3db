#!/usr/bin/env bash
# Makes sure that a Docker Engine answers; installs and starts Debian's where none does.
#
# Idempotent. With a reachable DOCKER_HOST nothing is installed. Needs Debian and root only where an engine is missing.
set -euo pipefail

say() { printf 'engine: %s\n' "$*"; }

# The API's ping needs no docker client: curl speaks to a unix socket, and a remote DOCKER_HOST is asked through the client.
answers() {
  local host="${DOCKER_HOST:-unix:///var/run/docker.sock}"
  case "$host" in
    unix://*)
      if command -v curl >/dev/null 2>&1; then
        [ "$(curl -fsS --max-time 5 --unix-socket "${host#unix://}" http://engine/_ping 2>/dev/null)" = OK ]
      else
        timeout 10 docker version >/dev/null 2>&1
      fi ;;
    *) timeout 20 docker version >/dev/null 2>&1 ;;
  esac
}

if answers; then
  say "an engine answers at ${DOCKER_HOST:-unix:///var/run/docker.sock}"
  exit 0
fi
if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != unix:///var/run/docker.sock ]; then
  say "DOCKER_HOST=$DOCKER_HOST does not answer; start that engine, or unset DOCKER_HOST to use one on this machine" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  say "no engine answers and this is not root: start Docker (systemctl start docker), or run 'sudo make engine'" >&2
  exit 1
fi

# docker.io brings dockerd, containerd and runc; xz and iptables are what it calls at run time.
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
if [ -d /run/systemd/system ] && systemctl start docker 2>/dev/null; then
  say "starting Docker by systemd"
else
  # A pid file left by a killed daemon makes the next one refuse to start.
  for pid_file in /var/run/docker.pid /run/docker/containerd/containerd.pid; do
    [ -f "$pid_file" ] && ! kill -0 "$(cat "$pid_file")" 2>/dev/null && rm -f "$pid_file"
  done
  say "starting dockerd, its log is $log"
  # Away from this script's output: a daemon that inherits it keeps the reader of a pipe waiting for ever.
  setsid dockerd >"$log" 2>&1 </dev/null &
fi

for _ in $(seq 1 120); do
  if answers; then
    say "ready"
    exit 0
  fi
  sleep 0.5
done
say "dockerd did not answer within a minute; the end of $log:" >&2
tail -n 20 "$log" >&2 || true
exit 1
