#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Inner half of in_root() in env.sh: already in a private mount namespace,
# mounts what a build needs and enters the build root. Nothing mounted here is
# visible outside, and everything vanishes with the last process.
set -eu

bind() {
	mkdir -p "$ROOT$2"
	mount --bind "$1" "$ROOT$2"
}

mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/tmp"
bind "$TOP" "$TOP"
bind "$CACHE" "$CACHE"
case $KOBJ in "$CACHE"/* | "$TOP"/*) ;; *) bind "$KOBJ" "$KOBJ" ;; esac

# Name resolution and trusted certificates are this machine's: a proxy or a
# company CA that works outside then works inside too.
cat /etc/resolv.conf >"$ROOT/etc/resolv.conf" 2>/dev/null || :
cat /etc/hosts >"$ROOT/etc/hosts" 2>/dev/null || :
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
	cat /etc/ssl/certs/ca-certificates.crt >"$ROOT/etc/ssl/certs/ca-certificates.crt"
fi

# shellcheck disable=SC2016 # not this shell expands it
exec chroot "$ROOT" /bin/sh -c 'cd "$IN_ROOT_DIR" && exec "$@"' sh "$@"
