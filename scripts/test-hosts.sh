#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make test-hosts`: the command of the README sets up clean systems of the kinds that people have.
# For each of HOSTS a minimal system with make is installed, in a folder; there doctor says what is
# missing, `make setup` sets up everything with a cache of its own, and doctor finds nothing missing any
# more. Prints KTAP; takes five to ten minutes for each, the network, and 8 GiB that are free again afterwards.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/archive.sh"

need_root "test-hosts"
# All that is mounted goes with the last process.
[ -n "${INNER:-}" ] || INNER=1 exec unshare --mount --propagation private -- "$0" "$@"

HOSTS=${HOSTS:-bookworm trixie noble}
UBUNTU_MIRROR=${UBUNTU_MIRROR:-http://archive.ubuntu.com/ubuntu}
mkdir -p "$BUILD"
work=$(mktemp -d "$BUILD/test-hosts.XXXXXX")
trap 'umount -R "$work"/*/root 2>/dev/null || :; rm -rf --one-file-system "$work"' EXIT
. "$TOP/scripts/check.sh"

# says PATTERN COMMAND...: it fails, and says so in one line.
says() {
	local pattern=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "no failure, but: $said"
		return 1
	fi
	echo "$said"
	grep -qE -- "$pattern" <<<"$said"
}

is_ubuntu() { [ "$1" = noble ]; }

# Ubuntu's keys are in a package of Debian's, which is only unpacked.
ubuntu_keys() {
	(mkdir -p "$work/keys" && cd "$work/keys" && in_root apt-get download -q ubuntu-keyring && dpkg-deb -x ubuntu-keyring_*.deb .)
}

# clean_system HOST: as its installer leaves it, with make.
clean_system() {
	local root=$work/$1/root mirror=$UBUNTU_MIRROR options=()
	mkdir -p "$work/$1"
	if is_ubuntu "$1"; then
		ubuntu_keys || return 1
		options=("--components=main,universe" --keyring="$work/keys/usr/share/keyrings/ubuntu-archive-keyring.gpg")
	else
		mirror=$(debian_mirror)
	fi
	mmdebstrap --mode=root --variant=minbase --include=make,apt "${options[@]}" "$1" "$root" "$mirror" &&
		mkdir -p "$root$TOP" "$root/etc/ssl/certs" && cp /etc/resolv.conf "$root/etc/resolv.conf" &&
		cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" &&
		mount --bind "$root" "$root" && mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
		mount --bind -o ro "$TOP" "$root$TOP"
}

# at HOST ARGUMENT...: make, as root of that system, in this clone.
at() {
	local root=$work/$1/root
	shift
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb \
		chroot "$root" make -C "$TOP" --no-print-directory "$@"
}

# set_up HOST [VARIABLE=...]: the whole of it, with what it says.
set_up() {
	at "$1" setup "${@:2}" && [ -e "$work/$1/root/root/.cache/mshv_vtl_tdx/stamp/crates" ]
}

all_is_there() { at "$1" doctor | tee /dev/stderr | grep -qx 'all there'; }

host() {
	local mirror=()
	check "$1_is_installed" clean_system "$1"
	check "$1_doctor_names_what_is_missing" says 'make setup' at "$1" doctor
	if is_ubuntu "$1"; then
		mirror=(DEBIAN_MIRROR="$(debian_mirror)")
		check "$1_set_up_without_a_mirror_names_the_command" says 'make setup DEBIAN_MIRROR=http' at "$1" setup
	fi
	check "$1_is_set_up_by_one_command" set_up "$1" "${mirror[@]}"
	check "$1_doctor_finds_everything_then" all_is_there "$1"
	umount -R "$work/$1/root" || :
	rm -rf --one-file-system "${work:?}/$1"
}

count=0
for each in $HOSTS; do
	case $each in
	noble) count=$((count + 5)) ;;
	bookworm | trixie) count=$((count + 4)) ;;
	*) die "unknown host '$each'" "known: bookworm trixie noble" ;;
	esac
done
echo "KTAP version 1"
echo "1..$count"
for each in $HOSTS; do host "$each"; done
[ "$failed" = 0 ]
