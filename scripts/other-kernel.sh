# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The newest cloud kernel of another series, in $other. Sourced after env.sh.

other=$CACHE/kernel-other

fetch_other() {
	local release
	rm -rf "$other"
	mkdir -p "$other/debs"
	in_root apt-get update -q
	release=$(in_root apt-cache search --names-only '^linux-binary-[0-9].*-cloud-amd64$' |
		sed 's/^linux-binary-//; s/ .*//' | { grep -v "^$KERNEL_SERIES\\." || :; } | sort -V | tail -n 1)
	[ -n "$release" ] || die "the archive has no cloud kernel of another series"
	(cd "$other/debs" && in_root apt-get download -q "linux-binary-$release")
	dpkg-deb -x "$other"/debs/linux-binary-*.deb "$other/debs/x"
	cp "$other/debs/x/usr/lib/modules/$release/vmlinuz" "$other/vmlinuz"
	echo "$release" >"$other/release"
}

need_other() { [ -s "$other/release" ] || fetch_other; }
