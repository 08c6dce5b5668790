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
# The user's own kernel tree, and the sources that it was built from if they are elsewhere.
for tree in "$KOBJ" "$(readlink -e "$KOBJ/source" || :)"; do
	case $tree in "" | "$CACHE"/* | "$TOP"/*) ;; *) bind "$tree" "$tree" ;; esac
done

# Name resolution and trusted certificates are this machine's: a proxy or a
# company CA that works outside then works inside too. Another run may be reading
# the files, so they are replaced whole, and only when they differ.
same_as_outside() {
	[ -s "$1" ] && ! cmp -s "$1" "$ROOT$1" || return 0
	cp "$1" "$ROOT$1.$$" && mv "$ROOT$1.$$" "$ROOT$1"
}
same_as_outside /etc/resolv.conf
same_as_outside /etc/hosts
same_as_outside /etc/ssl/certs/ca-certificates.crt

# shellcheck disable=SC2016 # not this shell expands it
exec chroot "$ROOT" /bin/sh -c 'cd "$IN_ROOT_DIR" && exec "$@"' sh "$@"
