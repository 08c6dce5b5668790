#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Long runs that go on where they stopped: what has passed with the same files is not repeated. The
# consoles are kept in build/soak; the last line counts.
#   soak.sh		`make soak`: boots the pinned kernel and the newest cloud kernel of another
#			series as a TD, each with 1, 2 and 4 vCPUs, to userspace and off: N times
#			at the default level of features, and OTHERS times at each other one
#   soak.sh hostile	`make soak-hostile`: `scripts/test.sh hostile` with seeds 1 to N

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"
. "$TOP/scripts/other-kernel.sh"

logs=$BUILD/soak
passed=0 earlier=0 failed=0
mkdir -p "$logs"

# once NAME KEY COMMAND...: runs it, unless it has passed with this key.
once() {
	local log=$logs/$1.log stamp=$logs/$1.passed key=$2
	shift 2
	if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
		earlier=$((earlier + 1)) passed=$((passed + 1))
		return
	fi
	rm -f "$stamp"
	if "$@" "$log" >"$log.out" 2>&1; then
		echo "$key" >"$stamp"
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		note "failed: $log: $(grep -m 1 'error' "$log.out" || tail -n 1 "$log.out")"
	fi
}

# key_of FILE...: of these contents, and of what else decides about a run.
key_of() {
	{ cat "$@"; echo "${EMU:-} ${CMDLINE:-} ${MEM:-}"; } | sha256sum | cut -c1-32
}

# boot KERNEL VCPUS LEVEL LOG
boot() {
	KIMAGE=$1 SMP=$2 "${TD:-$TOP/scripts/td.sh}" boot "$4" "emu.feature_level=$3"
}

# boots FOLDER VCPUS LEVEL COUNT: of the kernel in that folder.
boots() {
	local folder=$1 vcpus=$2 level=$3 count=$4 before=$((passed)) key release run
	release=$(cat "$folder/release")
	key=$(key_of "$EMULATOR" "$folder/vmlinuz")
	for run in $(seq "$count"); do
		once "$release-$vcpus-level$level-$run" "$key" boot "$folder/vmlinuz" "$vcpus" "$level"
	done
	say "$release, $vcpus vCPU, level $level: $((passed - before)) of $count boots"
}

soak_boots() {
	local folder vcpus level
	need_other
	[ -s "$EMULATOR" ] || die "$EMULATOR is missing" "build it with: make image"
	for folder in "$CACHE/kernel" "$other"; do
		for vcpus in ${VCPUS:-1 2 4}; do
			boots "$folder" "$vcpus" 1 "${N:-20}"
			for level in 0 2; do boots "$folder" "$vcpus" "$level" "${OTHERS:-3}"; done
		done
	done
}

# hostile SEED LOG
hostile() {
	SEED=$1 "${TEST:-$TOP/scripts/test.sh}" hostile
}

soak_hostile() {
	local seed key
	key=$(key_of "$EMULATOR" "$KIMAGE" "$BUILD/initramfs" "$BUILD/initramfs-run")
	for seed in $(seq "${N:-20}"); do
		once "hostile-$seed" "$key" hostile "$seed"
		say "hostile seeds up to $seed: $passed passed"
	done
}

case ${1:-boots} in
boots) soak_boots ;;
hostile) soak_hostile ;;
*) die "unknown part '$1'" "known: hostile" ;;
esac
echo "soak: $passed passed ($earlier of them earlier), $failed failed"
[ "$failed" = 0 ]
