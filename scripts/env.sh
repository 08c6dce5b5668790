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
KIMAGE=${KIMAGE:-$CACHE/kernel/vmlinuz}	# the kernel that is started as a TD
CARGO_CACHE=$CACHE/cargo		# CARGO_HOME inside the build root

# Free space a cold set-up needs, in MiB.
NEED_MIB=${NEED_MIB:-9000}

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
	BOLD='' DIM='' RED='' PLAIN=''
fi

say()  { printf '%s\n' "${BOLD}==>${PLAIN} $*"; }
note() { printf '%s\n' "    ${DIM}$*${PLAIN}"; }

# die WHAT [HINT...]: prints what went wrong in one line, then what to do about it.
die() {
	printf '%s\n' "${RED}error:${PLAIN} $1" >&2
	shift
	local hint
	for hint in "$@"; do printf '       %s\n' "$hint" >&2; done
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "$1 needs root (it enters a build root with chroot)" \
		"run the same command as root"
}

# need_space DIR MIB: refuses to start what cannot finish.
need_space() {
	local dir=$1 want=$2 have
	mkdir -p "$dir" 2>/dev/null || die "cannot create $dir" \
		"set MSHV_VTL_CACHE to a folder you may write to"
	have=$(df -Pm "$dir" | awk 'NR == 2 { print $4 }')
	[ "$have" -ge "$want" ] || die "not enough room in $dir: need $want MiB, have $have MiB" \
		"free some, or set MSHV_VTL_CACHE to a folder on another disk"
}

# in_root COMMAND...: runs a command inside the build root, in a mount namespace of its own. Clone
# and cache have the same paths inside, so that compiler messages and dependency files are valid
# outside, too.
in_root() {
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
