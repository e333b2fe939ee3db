#!/usr/bin/env bash
# Makes sure that programs are there: images/tools.sh program:package…
#
# Installs Debian's packages where this is root and no engine was named by DOCKER_HOST; else it says what is missing.
set -euo pipefail

missing=()
for pair in "$@"; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ -n "${DOCKER_HOST:-}" ]; then
  printf 'tools: missing: %s (nothing is installed while DOCKER_HOST names an engine)\n' "${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  printf 'tools: missing: %s; install them, on Debian: sudo apt-get install %s\n' "${missing[*]}" "${missing[*]}" >&2
  exit 1
fi
printf 'tools: installing %s\n' "${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
