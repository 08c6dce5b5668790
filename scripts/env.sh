# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Names, versions and small functions shared by every script of this folder.
# Sourced, never run. Everything that outlives a clone lives below $CACHE;
# everything that belongs to one clone lives below $BUILD.

# The names below are used by the scripts that source this file.
# shellcheck disable=SC2034

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
. "$TOP/scripts/say.sh"

[ -n "${MSHV_VTL_CACHE:-}${XDG_CACHE_HOME:-}${HOME:-}" ] ||
	die "there is no HOME, and so no place for the cache" "set MSHV_VTL_CACHE to a folder"
CACHE=${MSHV_VTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mshv_vtl_tdx}
BUILD=${BUILD:-$TOP/build}

# The module's ABI to the kernel depends on these three: the kernel package,
# its Rust compiler and its C compiler (Documentation/testing.rst).
SUITE=trixie
KERNEL_SERIES=7.3
KERNEL_WANTED=7.3.4+deb13-cloud-amd64

ROOT=$CACHE/root			# the trixie build root
KSRC=$CACHE/kernel/src			# unpacked linux-source
KOBJ=$(realpath -m "${KDIR:-$CACHE/kernel/obj}")	# prepared object tree; it may be named relatively
case ${RT:-0} in 0) RT_SUFFIX='' ;; *) RT_SUFFIX=-rt ;; esac
DEBUG_OBJ=$CACHE/kernel-debug$RT_SUFFIX/obj	# the debug kernel's (scripts/debug-kernel.sh)
VTL_VERSION=$(awk '/^#define VTL_(MAJOR|MINOR|PATCH) / { printf "%s%s", dot, $3; dot = "." }' \
	"$TOP/rust/glue/version.h")	# of module, tools and packages alike
KIMAGE_GIVEN=${KIMAGE:-${KERNEL:-}}	# both names, for every target
# make exports the name even if nobody has set it; then a script of ours would take the default for given.
[ -n "$KIMAGE_GIVEN" ] || export -n KIMAGE
KIMAGE=${KIMAGE_GIVEN:-$CACHE/kernel/vmlinuz}	# the kernel that is started as a TD
CARGO_CACHE=$CACHE/cargo		# CARGO_HOME inside the build root

# The ciphers of VTL1 without vector registers, which are shared with VTL0.
SOFT_CIPHERS="--cfg chacha20_force_soft --cfg poly1305_force_soft"

# Free space a cold set-up needs, in MiB.
NEED_MIB=${NEED_MIB:-9000}

# With ROOTLESS=1 the emulator and the tools are built and run with what this system has.
need_root() {
	[ -n "${ROOTLESS:-}" ] || [ "$(id -u)" = 0 ] || die "$1 needs root (it enters a build root with chroot)" \
		"run the same command as root"
}

# need_space DIR MIB: refuses to start what cannot finish.
need_space() {
	local dir=$1 want=$2 have
	mkdir -p "$dir" 2>/dev/null || die "cannot create $dir" \
		"set MSHV_VTL_CACHE to a folder you may write to"
	have=$(free_mib "$dir")
	[ "$have" -ge "$want" ] || die "not enough room in $dir: need $want MiB, have $have MiB" \
		"free some, or set MSHV_VTL_CACHE to a folder on another disk"
}

# Neither make nor Kbuild can have them in a path.
need_plain_paths() {
	local path
	for path in "$TOP" "$CACHE" "$KOBJ"; do
		case $path in *[[:space:]:\;\$\#]*) die "'$path' has a space or another character that make takes for its own" \
			"move this clone, or set MSHV_VTL_CACHE" ;; esac
	done
}

# free_mib DIR: of the file system that it is on, or will be.
free_mib() {
	local dir=$1
	until [ -d "$dir" ]; do dir=$(dirname "$dir"); done
	df -Pm "$dir" | awk 'NR == 2 { print $4 }'
}

# The prepared tree has the path of its sources in it. True if it is another than now.
tree_was_moved() {
	local source=$CACHE/kernel/obj/source
	[ -L "$source" ] && [ "$(readlink -m "$source")" != "$(realpath -m "$KSRC")" ]
}

# in_root COMMAND...: runs a command inside the build root, in a mount namespace of its own. Clone
# and cache have the same paths inside, so that compiler messages and dependency files are valid
# outside, too.
in_root() {
	if [ -n "${ROOTLESS:-}" ]; then
		"$@"
		return
	fi
	need_root "this step"
	[ -e "$ROOT/.complete" ] || die "the build root is missing" "run: make setup"
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		TERM="${TERM:-dumb}" CARGO_HOME="$CARGO_CACHE" \
		CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}" \
		KBUILD_BUILD_USER=mshv KBUILD_BUILD_HOST=vtl \
		IN_ROOT_DIR="$PWD" ROOT="$ROOT" TOP="$TOP" CACHE="$CACHE" \
		KSRC="$KSRC" KOBJ="$KOBJ" BUILD="$BUILD" \
		unshare --mount --propagation private -- \
		bash "$TOP/scripts/in-root.sh" "$@"
}

# kernel_make ARGUMENT...: make against the prepared kernel tree, with exactly
# the compiler the kernel was built with: Debian's GCC, or with LLVM=-19 clang 19.
kernel_make() {
	local release_arg=()
	if [ -n "${LLVM:-}" ]; then
		in_root make -C "$KOBJ" ARCH=x86 LLVM="$LLVM" "$@"
		return
	fi
	[ -n "${KDIR:-}" ] || release_arg=(KERNELRELEASE="$(cat "$CACHE/kernel/release")")
	in_root make -C "$KOBJ" ARCH=x86 CROSS_COMPILE=x86_64-linux-gnu- \
		CC=x86_64-linux-gnu-gcc-14 "${release_arg[@]}" "$@"
}

# tracked PATTERN...: names of files of the project. A release has no git, and nothing else in it than
# these; the patterns of find and of git are the same.
tracked() {
	local args=() pattern
	if (cd "$TOP" && git rev-parse --git-dir) >/dev/null 2>&1; then
		git -C "$TOP" ls-files -- "$@"
		return
	fi
	for pattern; do args+=(-o -path "./$pattern"); done
	(cd "$TOP" && find . \( -path ./build -o -path ./tools/vendor -o -path ./.cargo -o -path ./debian/home \) -prune \
		-o -type f \( "${args[@]:1}" \) -print) | sed 's|^[.]/||' | LC_ALL=C sort
}
