# What every script of the test bed shares: where things live, how to speak, how to fail. Sourced, never run.
# shellcheck shell=bash

# The checkout holds only sources; all that is built, downloaded or running lives in one cache directory.
# ${HOME:?} only matters where neither of the other two is set.
cache=${SEXTANT_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or SEXTANT_CACHE, so that there is a place for the cache}/.cache}/sextant}
PATH=$PATH:/usr/sbin:/sbin   # where iptables and others live; not on everybody's PATH
testbed=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=$cache/built       # what was compiled, keyed by the hash of its sources
cluster=$cache/cluster   # the cluster: stable links (admin.conf) and the state of the running one
kube_name=kube${SEXTANT_KUBERNETES:+-$SEXTANT_KUBERNETES}   # the version that is wanted: the usual one, or for example kube-1.31
mkdir -p "$built" "$cluster"

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_root WHAT: the kernel allows network interfaces, mounts and containers to root alone.
need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root, but this is $(id -un). Run it with sudo -E (-E keeps the place of the cache)."; }

# hash_of FILE|FOLDER…: one short hash of names and contents, the key under which a build is cached.
hash_of() {
    local path
    for path in "$@"; do
        (cd "$path" 2>/dev/null || cd "$(dirname "$path")"
         if [ -d "$path" ]; then find . -type f ! -name "*.pyc" -print0; else printf '%s\0' "$(basename "$path")"; fi |
            LC_ALL=C sort -z | xargs -0 sha256sum)
    done | sha256sum | cut -c1-16
}

# exclusively NAME: from here to its end this script is the only one of that name at work; others wait.
exclusively() {
    exec {lock}>"$cache/$1.lock"
    flock --nonblock "$lock" || { say "waiting for another $1 to finish (it holds $cache/$1.lock)"; flock "$lock"; }
}

# seconds_since START: how long ago that moment (of date +%s.%N) was.
seconds_since() { awk -v now="$(date +%s.%N)" -v then="$1" 'BEGIN { printf "%.1f", now - then }'; }

# tar_reproducibly FOLDER OUT.tar: the same content always gives the same bytes.
tar_reproducibly() { tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -cf "$2" .; }
