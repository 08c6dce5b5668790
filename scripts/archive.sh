# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Debian's archive, which the build root comes from: where it is, and by which keys it is trusted. On
# Ubuntu and others neither need be known. Sourced after env.sh.

DEBIAN_KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

# find_mirror: the mirror that this machine uses for Debian, if it does: no other host is assumed.
find_mirror() {
	local uri
	if [ -n "${DEBIAN_MIRROR:-}" ]; then
		echo "$DEBIAN_MIRROR"
		return
	fi
	# shellcheck disable=SC2016 # not this shell expands it
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
		grep -v -- '-security' | head -n 1)
	# Before the first apt-get update nothing has an origin. On other systems, folders of that name are
	# not Debian's.
	[ -n "$uri" ] || ! grep -qx 'ID=debian' /etc/os-release || uri=$(sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]+).*/\3/p' \
		/etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -m 1 '/debian/*$')
	[ -n "$uri" ] && echo "$uri"
}

debian_mirror() {
	find_mirror || die "this machine's apt sources have no mirror of Debian" \
		"name one: make setup DEBIAN_MIRROR=http://YOUR.MIRROR/debian"
}

need_debian_keys() {
	[ -e "$DEBIAN_KEYS" ] || die "this machine does not know Debian's keys: no $DEBIAN_KEYS" \
		"apt-get install debian-archive-keyring"
}
