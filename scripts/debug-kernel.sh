#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make debug-kernel`: builds a kernel that detects errors (KASAN, lockdep,
# kmemleak, ...; scripts/debug.config) from the pinned source, with clang, whose
# LLVM is the Rust compiler's. It is kept in the cache; an interrupted build
# continues where it was, and a finished one is a no-op.
#   RT=1	another one, with PREEMPT_RT: spinlocks sleep, softirqs run in threads

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/progress.sh"

STEP_COUNT=3
config=$DEBUG_OBJ/wanted.config

# Only this kernel is linked by LLVM, so `make setup` leaves these out.
install_llvm() {
	in_root apt-get update -q
	in_root apt-get install -q -y --no-install-recommends "lld$LLVM" "llvm$LLVM"
}

debug_make() {
	in_root make -C "$KSRC" O="$DEBUG_OBJ" ARCH=x86 LLVM="$LLVM" "$@"
}

# With PREEMPT_RT a kernel has no transparent huge pages.
wanted_config() {
	if [ -n "$RT_SUFFIX" ]; then
		sed -e 's/^CONFIG_PREEMPT=y$/CONFIG_PREEMPT_RT=y/' \
			-e '/^CONFIG_TRANSPARENT_HUGEPAGE=y$/d' "$TOP/scripts/debug.config"
	else
		cat "$TOP/scripts/debug.config"
	fi
}

# A symbol that Kconfig dropped in silence would be a check that is not there, one
# that it switched on again an hour more to wait.
configure() {
	local missing unwanted
	mkdir -p "$DEBUG_OBJ"
	wanted_config >"$config"
	cp "$config" "$DEBUG_OBJ/.config"
	debug_make olddefconfig
	missing=$(grep '^CONFIG_' "$config" | grep -vxFf "$DEBUG_OBJ/.config" || :)
	unwanted=$(sed -n 's/^# \(CONFIG_.*\) is not set$/\1=/p' "$config" |
		grep -Ff - "$DEBUG_OBJ/.config" || :)
	[ -z "$missing$unwanted" ] || die "this kernel does not take all of $config" \
		"expected and missing: ${missing:-nothing}" "switched on again: ${unwanted:-nothing}"
}

# KVM is configured for what it selects, never built.
build_kernel() {
	debug_make -j"$(nproc)" bzImage
	debug_make modules_prepare
	cp "$DEBUG_OBJ/vmlinux.symvers" "$DEBUG_OBJ/Module.symvers"
}

"$TOP/scripts/setup.sh"
need_space "$CACHE" 3000
LLVM=-19
recipe=$({ wanted_config && cat "$CACHE/kernel/release"; } | sha256sum | cut -c1-16)
step llvm "$(cat "$CACHE/stamp/root")" 30 "LLVM's linker and tools in the build root" install_llvm
step "debug-config$RT_SUFFIX" "$recipe" 60 "configuration of the debug kernel" configure
step "debug-kernel$RT_SUFFIX" "$recipe" 2400 "debug kernel (an hour and more on two slow cores)" build_kernel
