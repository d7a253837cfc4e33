#!/usr/bin/env bash
# Tries infra/install.sh on a Debian 13 that has nothing but its base system: debootstrap makes it, the script installs
# longhaul in it, and longhaul computes golden cases there as its own user. Root, debootstrap and the network are needed.
#   infra/clean-root.sh [ROOT]     ROOT: a folder that is kept and used again; else a temporary one
# Without a kept root it takes some minutes and 1.5 GB.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'clean-root: %s\n' "$*"; }
fail() { printf 'clean-root: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail 'run it as root: it makes and enters a root folder.'
command -v debootstrap >/dev/null || fail 'debootstrap is missing; on Debian: apt-get install debootstrap'

if [ $# -gt 0 ]; then root=$(realpath -m "$1"); else root=$(mktemp -d); fi
# Other users must pass through it.
install -d -m 755 "$root"
# Kept under a name: where a function ends the script, its arguments are the trap's.
kept=${1-}
leave() {
  umount "$root/dev/pts" "$root/dev" "$root/proc" 2>/dev/null || true
  [ -z "$kept" ] || return 0
  if mountpoint -q "$root/proc" || mountpoint -q "$root/dev"; then say "still mounted, not removed: $root"; return; fi
  rm -rf --one-file-system "$root"
}
trap leave EXIT

if [ ! -x "$root/usr/bin/apt-get" ] || [ -d "$root/debootstrap" ]; then
  say "debootstrap trixie into $root"
  debootstrap --variant=minbase trixie "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$root.log" 2>&1 ||
    { tail -n 5 "$root.log" >&2; fail "debootstrap failed; $root.log has all of it"; }
  rm "$root.log"
fi
mount --bind /dev "$root/dev"
mount --bind /dev/pts "$root/dev/pts"
mount -t proc proc "$root/proc"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"

# What git knows or would add: nothing built here gets in.
say 'copying the checkout'
rm -rf "$root/src" "$root/opt/longhaul"
mkdir -p "$root/src"
git ls-files -co --exclude-standard -z | xargs -0 -r sh -c 'for f; do [ -e "$f" ] && printf "%s\0" "$f"; done' - |
  tar --null -T - -cf - | tar -xf - -C "$root/src"

inside() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$root" "$@"; }
# A proxy's certificate authority of this machine, where it has one, is trusted there too.
if [ -n "${NODE_EXTRA_CA_CERTS-}" ]; then
  cp "$NODE_EXTRA_CA_CERTS" "$root/etc/extra-ca.pem"
  inside() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root NODE_EXTRA_CA_CERTS=/etc/extra-ca.pem chroot "$root" "$@"; }
fi

inside /src/infra/install.sh
# The user `longhaul` has the number 10001; the installed copy has no golden cases of its own.
as_user() { inside setpriv --reuid=10001 --regid=10001 --clear-groups "$@"; }
say 'as the user longhaul: version, then golden cases by the installed engine'
as_user longhaul --version
as_user longhaul engine check /src/test/cases/apb-r4-spava /src/test/cases/full-r4
as_user sh -c 'touch /opt/longhaul/x 2>/dev/null' && fail 'the user longhaul can write to /opt/longhaul'
say 'passed'
