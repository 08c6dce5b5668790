#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Sets up everything the project needs, from nothing, on a Debian 12 machine:
# a trixie build root, the stock kernel, and a kernel tree prepared so that a
# module built against it loads in that kernel. A finished step is never done
# twice; an interrupted one starts over without harm, because every result is
# made beside its final place and renamed when it is complete.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/progress.sh"
. "$TOP/scripts/archive.sh"

STEP_COUNT=6

# Contents of the build root. rustc, bindgen, gcc-14 and pahole determine if the module's symbol
# versions match the stock kernel's.
ROOT_PACKAGES=(
	gcc-14 gcc make xz-utils libc6-dev ca-certificates python3 perl
	rustc rust-src rustfmt rust-clippy cargo bindgen
	flex bison bc libelf-dev libssl-dev libdw-dev kmod cpio pahole zlib1g-dev
	busybox-static qemu-system-x86 seabios
	shellcheck clang-format clang-19 python3-sphinx
)

install_host_tools() {
	if command -v mmdebstrap >/dev/null && [ -e "$DEBIAN_KEYS" ]; then return; fi
	command -v apt-get >/dev/null || die "mmdebstrap and Debian's keys are needed, and this system has no apt" \
		"install mmdebstrap, and the keys as $DEBIAN_KEYS"
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		mmdebstrap debian-archive-keyring
}

make_root() {
	local mirror sources
	mirror=$(debian_mirror)
	need_debian_keys
	sources=$CACHE/root-sources.list
	rm -rf --one-file-system "$ROOT" "$ROOT.new"
	printf 'deb %s %s main\n' "$mirror" "$SUITE" "$mirror" "$SUITE-backports" >"$sources"
	# The keys are named, because apt of another distribution does not trust Debian's.
	mmdebstrap --mode=root --variant=minbase --keyring="$DEBIAN_KEYS" \
		--aptopt='APT::Install-Recommends "false"' \
		--include="$(IFS=,; echo "${ROOT_PACKAGES[*]}")" \
		"$SUITE" "$ROOT.new" "$sources"
	mv "$ROOT.new" "$ROOT"
	touch "$ROOT/.complete"
}

# The pinned kernel, or, if it is no longer in the archive, the newest of the tested series, which
# is then reported.
choose_kernel() {
	if in_root apt-cache show "linux-binary-$KERNEL_WANTED" >/dev/null 2>&1; then
		echo "$KERNEL_WANTED"
		return
	fi
	in_root apt-cache search --names-only "^linux-binary-$KERNEL_SERIES\\..*-cloud-amd64\$" |
		sed 's/^linux-binary-//; s/ .*//' | sort -V | tail -n 1
}

fetch_kernel() {
	local release debs=$CACHE/kernel/debs
	rm -rf "$debs"
	mkdir -p "$debs/x"
	in_root apt-get update
	release=$(choose_kernel)
	[ -n "$release" ] || die "no $KERNEL_SERIES cloud kernel in the archive"
	(cd "$debs" && in_root apt-get download "linux-source-$KERNEL_SERIES" \
		"linux-binary-$release" "linux-headers-$release")
	dpkg-deb -x "$debs"/linux-binary-*.deb "$debs/x"
	dpkg-deb -x "$debs"/linux-headers-*.deb "$debs/x"
	cp "$debs/x/usr/lib/modules/$release/vmlinuz" "$CACHE/kernel/vmlinuz"
	echo "$release" >"$CACHE/kernel/release"
	(cd "$CACHE/kernel" && sha256sum vmlinuz debs/*.deb >SHA256SUMS)
}

unpack_source() {
	local new=$CACHE/kernel/src.new
	rm -rf "$new" "$CACHE/kernel/src"
	mkdir -p "$new"
	dpkg-deb --fsys-tarfile "$CACHE/kernel/debs"/linux-source-*.deb |
		tar -xO "./usr/src/linux-source-$KERNEL_SERIES.tar.xz" |
		in_root tar -xJ -C "$new" --strip-components=1
	mv "$new" "$CACHE/kernel/src"
}

# Debian's own configuration and symbol table, plus the Rust metadata that the
# header packages lack and that only a build of rust/ makes.
prepare_tree() {
	local release obj=$CACHE/kernel/obj headers
	release=$(cat "$CACHE/kernel/release")
	headers=$CACHE/kernel/debs/x/usr/src/linux-headers-$release
	rm -rf "$obj"
	mkdir -p "$obj"
	cp "$headers/.config" "$obj/.config"
	# The key is Debian's and not to be had; an unsigned module only taints.
	sed -i 's#^CONFIG_MODULE_SIG_KEY=.*#CONFIG_MODULE_SIG_KEY=""#' "$obj/.config"
	unset KDIR
	KOBJ=$obj
	prepare_make olddefconfig
	prepare_make -j"$(nproc)" modules_prepare
	cp "$headers/Module.symvers" "$headers/vmlinux" "$obj/"
}

prepare_make() {
	in_root make -C "$CACHE/kernel/src" O="$KOBJ" ARCH=x86 CROSS_COMPILE=x86_64-linux-gnu- \
		CC=x86_64-linux-gnu-gcc-14 KERNELRELEASE="$(cat "$CACHE/kernel/release")" "$@"
}

# Also fetches what the emulator's own core library needs: afterwards no build uses the network.
fetch_crates() {
	in_root cargo fetch --locked --manifest-path "$TOP/tools/Cargo.toml"
	in_root env RUSTC_BOOTSTRAP=1 cargo fetch --locked \
		--manifest-path /usr/lib/rustlib/src/rust/library/Cargo.toml
}

# remove_cache: only what the project's scripts make, never through a mount.
remove_cache() {
	rm -rf --one-file-system "$ROOT" "$ROOT.new" "$CACHE"/kernel{,-other,-debug,-debug-rt} \
		"$CACHE"/{cargo,miri,stamp,log,lint-clean,root-sources.list,.lock}
	rmdir "$CACHE" 2>/dev/null || :
}

[ -z "${ROOTLESS:-}" ] || { note "ROOTLESS=1: this system's compilers and QEMU are used"; exit; }
need_root "the set-up"
case ${1:-} in
'') ;;
--remove) remove_cache; exit ;;
*) die "unknown option '$1'" "known: --remove" ;;
esac
[ "$(uname -m)" = x86_64 ] || die "this project needs an x86-64 machine, this is $(uname -m)"
need_plain_paths
[ -z "${KDIR:-}" ] || [ -d "$KOBJ" ] || die "KDIR=$KDIR: there is no folder $KOBJ" "it has to be a kernel tree prepared for Rust modules"
mkdir -p "$CACHE" 2>/dev/null || die "cannot create the cache folder $CACHE" \
	"set MSHV_VTL_CACHE to a folder you may write to"
exec 9>"$CACHE/.lock"
flock -n 9 || { say "another set-up is running, waiting for it"; flock 9; }
[ -e "$CACHE/stamp/tree" ] || need_space "$CACHE" "$NEED_MIB"

if tree_was_moved; then
	say "the cache was moved here from $(dirname "$(dirname "$(readlink -m "$CACHE/kernel/obj/source")")"): the kernel tree is prepared again"
	rm -f "$CACHE/stamp/tree"
	mv "$CACHE/kernel/obj" "$CACHE/kernel/obj.moved" && rm -rf --one-file-system "$CACHE/kernel/obj.moved"
fi

PACKAGES=$(printf '%s\n' "${ROOT_PACKAGES[@]}" | sha256sum | cut -c1-16)
CRATES=$(sha256sum "$TOP/tools/Cargo.lock" | cut -c1-16)
# The module is tested with one kernel; whoever has another one is told each time.
name_other_kernel() {
	local release
	release=$(cat "$CACHE/kernel/release")
	[ "$release" = "$KERNEL_WANTED" ] ||
		say "note: kernel $KERNEL_WANTED has left the archive, $release is used"
}

if stamped host 1 && stamped root "$PACKAGES" && stamped kernel 1 && stamped source 1 &&
	stamped crates "$CRATES" && { [ -n "${KDIR:-}" ] || stamped tree 1; }; then
	note "set-up: complete in $CACHE"
	name_other_kernel
	exit
fi

# Said before anything is installed.
stamped root "$PACKAGES" || debian_mirror >/dev/null
step host 1 20 "tools on this machine (mmdebstrap)" install_host_tools
step root "$PACKAGES" 150 "build root ($SUITE: compilers, QEMU)" make_root
step kernel 1 30 "kernel packages ($KERNEL_WANTED)" fetch_kernel
step source 1 40 "kernel source" unpack_source
if [ -n "${KDIR:-}" ]; then
	STEP_NUMBER=$((STEP_NUMBER + 1))
	note "[$STEP_NUMBER/$STEP_COUNT] prepared kernel tree: KDIR=$KDIR is used instead"
else
	step tree 1 300 "kernel tree for modules (builds the kernel's Rust crates)" prepare_tree
fi
step crates "$CRATES" 20 "Rust crates of the tools" fetch_crates
name_other_kernel
