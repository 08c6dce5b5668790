# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Files of a user in the TD, and back: SHARE= a folder that is /share there, EXTRA= one that is /extra,
# RUN= a command. They go in as a second archive behind the initramfs; what /share has at the end comes
# back through a second serial port. Sourced after env.sh.

# Beyond that the TD's memory is too small, and the serial port too slow.
SHARE_LIMIT_MIB=256

# with_user_files INITRAMFS: prints the name of one that also has them.
with_user_files() {
	local tree=$BUILD/user.d out=$BUILD/user-initramfs
	if [ -z "${SHARE:-}${EXTRA:-}${RUN:-}" ]; then
		echo "$1"
		return
	fi
	rm -rf "$tree"
	mkdir -p "$tree"
	[ -z "${SHARE:-}" ] || take_folder SHARE "$SHARE" "$tree/share"
	[ -z "${EXTRA:-}" ] || take_folder EXTRA "$EXTRA" "$tree/extra"
	[ -z "${RUN:-}" ] || printf '%s\n' "$RUN" >"$tree/run-command"
	(cd "$tree" && find . | LC_ALL=C sort | in_root cpio --quiet -o -H newc --owner=0:0) | gzip -1 >"$out.new"
	cat "$1" "$out.new" >"$out"
	rm -rf "$out.new" "$tree"
	echo "$out"
}

# take_folder NAME FOLDER COPY
take_folder() {
	local mib
	[ -d "$2" ] || die "$1=$2 is not a folder"
	mib=$(du -sm "$2" | cut -f 1)
	[ "$mib" -le "$SHARE_LIMIT_MIB" ] || die "$1=$2 has $mib MiB, and $SHARE_LIMIT_MIB fit" "copy what you need to another folder"
	cp -rL "$2" "$3"
}

# share_back ARCHIVE: what the TD sent. It can't reach other folders: tar refuses such names.
share_back() {
	[ -n "${SHARE:-}" ] || return 0
	if gzip -t "$1" 2>/dev/null; then
		tar -xzf "$1" -C "$SHARE" --no-same-owner --no-same-permissions
		note "what the TD has in /share is in $SHARE again; nothing was deleted there"
	else
		die "nothing came back to $SHARE: the TD was ended before it had sent all of /share" \
			"leave the shell with 'exit'"
	fi
}
