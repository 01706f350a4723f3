#!/bin/sh
# Makes one Redis Cluster out of the nodes HOST:PORT[@BUSPORT]… that it is given, all of them masters. Run again it changes
# nothing, but for nodes that have new addresses since: it makes them known to each other.
set -eu

host() { echo "${1%%:*}"; }
port() { rest="${1#*:}" && echo "${rest%%@*}"; }
bus() { case "$1" in *@*) echo "${1#*@}" ;; *) echo "$(($(port "$1") + 10000))" ;; esac; }
# Nodes know each other by number; the name of a host is for us.
address() { getent ahostsv4 "$(host "$1")" | awk '{ print $1; exit }'; }
ask() { node="$1" && shift && redis-cli -h "$(host "$node")" -p "$(port "$node")" "$@" | tr -d '\r'; }
agree() {
  for node in "$@"; do
    ask "$node" CLUSTER INFO | grep -q '^cluster_state:ok' || return 1
    ask "$node" CLUSTER INFO | grep -q '^cluster_slots_assigned:16384' || return 1
    ask "$node" CLUSTER INFO | grep -q "^cluster_known_nodes:$#$" || return 1
  done
}

tries=0
until agree "$@"; do
  tries=$((tries + 1))
  if [ "$tries" -gt 150 ]; then
    echo "The nodes do not agree on one cluster: $*" >&2
    exit 1
  fi
  first="$1"
  share=$(((16384 + $# - 1) / $#))
  from=0
  for node in "$@"; do
    to=$((from + share - 1))
    [ "$to" -gt 16383 ] && to=16383
    # Only a node that belongs to no cluster yet takes slots: one that has some keeps them.
    if ask "$node" CLUSTER INFO | grep -q '^cluster_slots_assigned:0'; then
      ask "$node" CLUSTER ADDSLOTSRANGE "$from" "$to" >/dev/null
    fi
    from=$((to + 1))
    [ "$node" = "$first" ] || ask "$first" CLUSTER MEET "$(address "$node")" "$(port "$node")" "$(bus "$node")" >/dev/null
  done
  sleep 0.2
done
echo "Redis Cluster of $# nodes is ready"
