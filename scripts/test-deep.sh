#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make test-deep`: on the debug kernel, which sees what a stock kernel does not
# (scripts/debug.config), in a TD: the KUnit suites of the module, all kselftests,
# calls at random while allocations fail, and the search for leaks; then those of a
# Hyper-V host and those of mappings with much memory, and a kexec into the same kernel.
# The first warning of that kernel ends the run.
# Everything is printed and kept in build/test-deep.log; the last line counts.
#   FUZZ_SECONDS=	how long the random calls go on
#   RT=1		on a debug kernel with PREEMPT_RT; build/test-deep-rt.log

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/ktap.sh"

"$TOP/scripts/debug-kernel.sh"

# Objects of this kernel stay apart; programs that run on none are shared.
export BUILD=$TOP/build/deep$RT_SUFFIX KDIR=$DEBUG_OBJ KIMAGE=$DEBUG_OBJ/arch/x86/boot/bzImage LLVM=-19
export MEM=${MEM:-2560M} LIMIT=${LIMIT:-3600}
# KASAN delays freeing memory, the log needs more space, and each load of the module runs the KUnit
# suites, but not those of the kernel itself. no5lvl: while the kernel detects the processor's
# features, it temporarily forgets five-level paging, and an interrupt then makes KASAN report valid
# addresses.
CMDLINE="no5lvl maxcpus=1 panic_on_warn=1 kunit.filter_glob=vtl_* kmemleak=on log_buf_len=1M FREE_SLACK_KB=4096 RELOADS=20 LIMIT_SECONDS=900 ${CMDLINE:-}"
export CMDLINE="$CMDLINE FUZZ_SECONDS=${FUZZ_SECONDS:-60}"
. "$TOP/scripts/image.sh"
mkdir -p "$TOP/build/cargo" "$BUILD"
ln -sfn ../cargo "$BUILD/cargo"
deep_log=$BUILD/test.log hyperv_log=$BUILD/test-hyperv.log
memory_log=$BUILD/test-memory.log kexec_log=$BUILD/test-kexec.log

build_image
say "KUnit, kselftests, failing allocations and leaks on the debug kernel"
run_kselftests deep "$deep_log" emu.quote=1
say "the kselftests of a Hyper-V host on the debug kernel"
CMDLINE="noxsaves clearcpuid=waitpkg spec_store_bypass_disable=on $CMDLINE" \
	run_kselftests hypervdeep "$hyperv_log" emu.host=hyperv emu.extra_msrs=1
say "the kselftests of mappings with much memory on the debug kernel"
# With all CPUs from the start: nothing there brings one online.
CMDLINE=${CMDLINE/maxcpus=1/}
CMDLINE="crashkernel=64M $CMDLINE" MEM=3200M run_kselftests memory "$memory_log" emu.vtl0=1100M@top emu.l2=3
say "a kexec of the debug kernel into itself, in a TD whose host is Hyper-V"
if "$TOP/scripts/build.sh" kexec; then
	INITRAMFS=$BUILD/kexec-initramfs run_kselftests kexec "$kexec_log" emu.host=hyperv
else
	failed=$((failed + 1))
fi
log=$TOP/build/test-deep$RT_SUFFIX.log
cat "$deep_log" "$hyperv_log" "$memory_log" "$kexec_log" >"$log"
echo "$passed passed, $failed failed, $skipped skipped" | tee -a "$log"
[ "$failed" = 0 ]
