#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make bench`: counts what each path costs L1's kernel, without a clock. The figures go
# to build/bench.json and, as a table, to the screen. Fails when a path costs more
# instructions than bench-limits.txt allows, or has not the very number of the others. Then two paths
# are compared in TDs with more processors (bench-vps.sh), and the boot of a Linux at VTL0 is counted
# (bench-guest.sh).
#
# `make bench PROFILE=path`: instead, where one path spends its instructions, by purpose and
# by function (build/bench-profile.txt).

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

JSON=$BUILD/bench.json

. "$TOP/scripts/image.sh"

build_bench_image
MSRS=$BUILD/bench-msrs.json
rm -f "$JSON" "$MSRS"

# count WHAT JSON COMMAND_LINE EMULATOR_OPTION...
count() {
	local what=$1 json=$2 line=$3 log=${2%.json}.log
	shift 3
	SMP=1 COUNT_TO=$json CMDLINE="nokaslr $line" LIMIT=1200 \
		"$TOP/scripts/td.sh" "$what" "$log" emu.hide_time=1 "$@" |
		sed '/^=== symbols/,/^=== end of symbols/d'
	[ -s "$json" ] || die "no figures were written" "console: ${log#"$TOP/"}"
}

# The kernel must be at the same addresses as in the counted run, so that a run without counting can
# resolve its symbols.
ask_for_symbols() {
	local tree=$BUILD/bench-addresses.d
	rm -rf "$tree" && mkdir -p "$tree"
	in_root python3 "$TOP/scripts/bench-profile.py" addresses "$PROFILE" "$JSON" >"$tree/addresses"
	{
		cat "$BUILD/initramfs"
		# The kernel wants an archive that is not compressed at a multiple of four.
		head -c "$((-$(stat -c %s "$BUILD/initramfs") & 3))" /dev/zero
		(cd "$tree" && find . | in_root cpio --quiet -o -H newc --owner=0:0)
	} >"$BUILD/bench-initramfs"
	INITRAMFS=$BUILD/bench-initramfs SMP=1 CMDLINE=nokaslr \
		"$TOP/scripts/td.sh" symbols "$BUILD/bench-symbols.log" >/dev/null
}

if [ -n "${PROFILE:-}" ]; then
	say "counting where $PROFILE spends its instructions (about 2 min)"
	count bench "$JSON" vtl.symbols
	ask_for_symbols
	in_root python3 "$TOP/scripts/bench-profile.py" report "$PROFILE" "$JSON" \
		"$BUILD/bench-symbols.log" "$BUILD/bench.log" "$BUILD/module/mshv_vtl_tdx.ko" \
		"$BUILD/bench-profile.txt"
	exit
fi

say "counting (one CPU, one instruction per nanosecond; about 3 min)"
count bench "$JSON" ""
# Such a processor has most of the MSRs that are exchanged (Documentation/emulator.rst).
count benchmsrs "$MSRS" "noxsaves clearcpuid=waitpkg" emu.extra_msrs=1

in_root python3 - "$JSON" "$MSRS" "$TOP/scripts/bench-limits.txt" <<'PYTHON'
import json, sys

path, more, table = sys.argv[1:]
report = json.load(open(path))
paths = report["paths"]
paths.update(json.load(open(more))["paths"])
kinds = ["instructions", "msr", "tdcall", "fpu", "locked"]
limits = {}
for line in open(table):
    words = line.split("#")[0].split()
    if words:
        limits[words[0]] = dict(zip(kinds, map(int, words[1:]), strict=True))
# What one turn by way of the host adds to a round trip.
whole, without = (paths.get(name) for name in ("user_round_trip_host_routed", "user_round_trip_avx"))
if whole and without:
    paths["host_routed"] = {kind: whole[kind] - without[kind] for kind in kinds}
# What hashing adds to each of 256 switches: instructions rounded up; of the others whole ones, because a
# tick falls into most passages that are so long.
whole, without = (paths.get("attest_" + name) for name in ("user_round_trips_256", "user_round_trip_avx"))
if whole and without:
    added = {kind: whole[kind] - 256 * without[kind] for kind in kinds}
    paths["attested_switch"] = {kind: added[kind] // 256 for kind in kinds}
    paths["attested_switch"]["instructions"] = -(-added["instructions"] // 256)
if "host_routed" in paths or "attested_switch" in paths:
    with open(path, "w") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
missing = [name for name in limits if name not in paths]
if missing:
    sys.exit(f"error: no figure for {', '.join(missing)}; the console is in build/bench.log")
print(f"{'path':<36}" + "".join(f"{kind:>17}" for kind in kinds))
over = []
for name, limit in limits.items():
    print(f"{name:<36}" + "".join(f"{paths[name][kind]:>17}" for kind in kinds))
    found = paths[name]
    over += [f"{name}: {kind} {found[kind]}, expected {limit[kind]}" for kind in kinds
             if found[kind] > limit[kind] or found[kind] < limit[kind] and kind != kinds[0]]
if over:
    sys.exit("error: not as scripts/bench-limits.txt expects:\n  " + "\n  ".join(over))
PYTHON

"$TOP/scripts/bench-vps.sh"
"$TOP/scripts/bench-guest.sh" built
