#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make test-deep`: on the debug kernel, which sees what a stock kernel does not
# (scripts/debug.config), in a TD: the KUnit suites of the module, all kselftests,
# calls at random while allocations fail, and the search for leaks; those of a Hyper-V host and
# those of mappings with much memory, and a kexec into the same kernel. Each is a TD, and two
# of them run at a time. The first warning of that kernel ends its TD.
# Everything is printed and kept in build/test-deep.log; the last line counts.
#   JOBS=		how many TDs run at a time
#   FUZZ_SECONDS=	how long the random calls go on
#   RT=1		on a debug kernel with PREEMPT_RT; build/test-deep-rt.log

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/ktap.sh"

"$TOP/scripts/debug-kernel.sh"

# Objects of this kernel stay apart; programs that run on none are shared.
export BUILD=$TOP/build/deep$RT_SUFFIX KDIR=$DEBUG_OBJ KIMAGE=$DEBUG_OBJ/arch/x86/boot/bzImage LLVM=-19
export MEM=${MEM:-2560M} LIMIT=${LIMIT:-9000} JOBS=${JOBS:-2}
# KASAN delays freeing memory, the log needs more space, and each load of the module runs the KUnit
# suites, but not those of the kernel itself. no5lvl: while the kernel detects the processor's
# features, it temporarily forgets five-level paging, and an interrupt then makes KASAN report valid
# addresses.
CMDLINE="no5lvl maxcpus=1 panic_on_warn=1 kunit.filter_glob=vtl_* kmemleak=on log_buf_len=1M FREE_SLACK_KB=4096 RELOADS=20 LIMIT_SECONDS=900 ${CMDLINE:-}"
export CMDLINE="$CMDLINE FUZZ_SECONDS=${FUZZ_SECONDS:-60}"
. "$TOP/scripts/image.sh"
mkdir -p "$TOP/build/cargo" "$BUILD"
ln -sfn ../cargo "$BUILD/cargo"
log=$TOP/build/test-deep$RT_SUFFIX.log
rm -f "$BUILD"/test-*.log

# deep_run NAME WHAT [EMULATOR OPTION...]: one TD, with what it shows behind its name. Its console
# and the status of its run are in files of that name.
deep_run() {
	local name=$1 status=0
	shift
	"$TOP/scripts/td.sh" "$1" "$BUILD/test-$name.log" "${@:2}" 2>&1 | stdbuf -oL sed "s/^/$name: /" ||
		status=$?
	echo "$status" >"$BUILD/test-$name.status"
}

# start_run NAME WHAT [EMULATOR OPTION...]: as soon as there is a place for one more.
start_run() {
	while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || :; done
	say "$1: begins"
	names+=("$1")
	deep_run "$@" &
}

build_image
"$TOP/scripts/build.sh" kexec
names=()
start_run programs deep emu.quote=1
start_run scripts deepscripts emu.quote=1
CMDLINE="noxsaves nofsgsbase clearcpuid=waitpkg spec_store_bypass_disable=on $CMDLINE" \
	start_run hyperv hypervdeep emu.host=hyperv emu.extra_msrs=1
# With all CPUs from the start: nothing there brings one online.
CMDLINE="crashkernel=64M ${CMDLINE/maxcpus=1/}" MEM=3200M \
	start_run memory memory emu.vtl0=1100M@top emu.l2=3
CMDLINE=${CMDLINE/maxcpus=1/} INITRAMFS=$BUILD/kexec-initramfs start_run kexec kexec emu.host=hyperv
wait

for name in "${names[@]}"; do
	cat "$BUILD/test-$name.log" || :
	count_run "$BUILD/test-$name.log" "$(cat "$BUILD/test-$name.status")"
done >"$log"
echo "$passed passed, $failed failed, $skipped skipped" | tee -a "$log"
[ "$failed" = 0 ]
