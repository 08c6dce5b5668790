#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Counts what the boot of a Linux at VTL0 costs, under -icount: the instructions of VTL2's kernel and
# userspace from VTL0's first instruction to its shell, the exits by reason and how many of them VTL2's
# kernel handled, and all instructions of the machine, compared with those of the same boot at L1.
# The figures go to build/bench-guest.json and, as a table, to the screen. Fails when one is beyond its
# limit in bench-guest-limits.txt. `make bench` has it at its end; alone: make bench-guest
#   bench-guest.sh [built]

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/image.sh"
. "$TOP/scripts/machine.sh"

JSON=$BUILD/bench-guest.json
[ "${1:-}" = built ] || build_bench_guest_image
rm -f "$JSON"

# count NAME INITRAMFS COMMAND_LINE: one boot, up to the process that is marked. The console goes to a file:
# waiting for somebody who reads it would change what the guest finds in its serial port.
count() {
	local json=$BUILD/bench-guest-$1.json log=$BUILD/bench-guest-$1.log emu_log=$BUILD/bench-guest-$1.emu.log
	local status=0
	rm -f "$json"
	SMP=1 COUNT_TO=$json COUNT_BOOT=1 machine "$KIMAGE" "$2" "$emu_log" emu.hide_time=1 \
		"console=ttyS0 panic=-1 quiet nokaslr $3"
	in_root timeout --foreground "${LIMIT:-900}" "${qemu[@]}" </dev/null >"$log" 2>&1 || status=$?
	[ "$status" = 0 ] || die "the machine ended with status $status" "console: $log" "emulator: $emu_log"
	grep -q '"entry_to_init"' "$json" || die "the boot did not reach a shell" "console: $log" "emulator: $emu_log"
}

say "counting the boot of a Linux at VTL0, and of the same at L1 (about 1 min)"
count vtl0 "$BUILD/guest-initramfs" vtl.do=guestcount
grep -q '^=== VTL2 status: 0' "$BUILD/bench-guest-vtl0.log" ||
	die "the guest failed" "console: $BUILD/bench-guest-vtl0.log"
count l1 "$BUILD/guest.d/guest/initramfs" guest.do=count

in_root python3 - "$BUILD" "$JSON" "$TOP/scripts/bench-guest-limits.txt" <<'PYTHON'
import json, re, sys

build, path, table = sys.argv[1:]

def boot(name):
    with open(f"{build}/bench-guest-{name}.json") as file:
        return json.load(file)["entry_to_init"]

# What vtlctl boot prints at its end.
exits = {}
with open(f"{build}/bench-guest-vtl0.log") as file:
    for line in file:
        if row := re.match(r"(\w+) +(\d+) +(\d+) +\d+ %\s*$", line):
            exits[row[1]] = {"count": int(row[2]), "in_kernel": int(row[3])}
total = exits.pop("total", None)
if not total:
    sys.exit("error: no table of exits; the console is in build/bench-guest-vtl0.log")
# Halts, interrupt commands and the timer's deadlines (of MSR_WRITE more than these), interrupts.
served = ["HLT", "MSR_WRITE", "PREEMPTION_TIMER", "EXTERNAL_INTERRUPT", "INTERRUPTED"]
count, in_kernel = (sum(exits[name][what] for name in served if name in exits) for what in total)
vtl0, direct = boot("vtl0"), boot("l1")
figures = {
    "vtl2_kernel": vtl0["l1_kernel"],
    "vtl2_userspace": vtl0["l1_rest"],
    "exits": total["count"],
    "to_userspace": total["count"] - total["in_kernel"],
    "served_share": int(10000 * in_kernel / count) / 100 if count else 0,
    "ratio": round(sum(vtl0.values()) / sum(direct.values()), 4),
}
with open(path, "w") as file:
    json.dump({"figures": figures, "exits": exits, "vtl0": vtl0, "direct": direct}, file, indent=2)
    file.write("\n")

print(f"{'instructions, entry to shell':<32}{'at VTL0':>16}{'at L1':>16}")
linux = direct["l1_kernel"] + direct["l1_rest"]
for name, first, second in [("that Linux", vtl0["l2"], linux), ("VTL2's kernel", vtl0["l1_kernel"], 0),
                            ("VTL2's userspace", vtl0["l1_rest"], 0),
                            ("emulator", vtl0["emulator"], direct["emulator"]),
                            ("all", sum(vtl0.values()), sum(direct.values()))]:
    print(f"{name:<32}{first:>16}{second:>16}")
print(f"\n{'exit':<32}{'count':>16}{'in kernel':>16}")
for name, exit in [*exits.items(), ("total", total), ("halts, timer, interrupts", dict(count=count, in_kernel=in_kernel))]:
    print(f"{name:<32}{exit['count']:>16}{exit['in_kernel']:>16}")

print(f"\n{'figure':<32}{'value':>16}{'limit':>20}")
wrong = []
with open(table) as file:
    rows = [line.split("#")[0].split() for line in file]
for name, bound, limit in filter(None, rows):
    value, limit = figures.pop(name), float(limit)
    print(f"{name:<32}{value:>16}{bound:>8}{limit:>12.10g}")
    if value > limit if bound == "most" else value < limit:
        wrong.append(f"{name}: {value}, expected at {bound} {limit:.10g}")
wrong += [f"{name}: {value}, and no limit" for name, value in figures.items()]
if wrong:
    sys.exit("error: not as scripts/bench-guest-limits.txt expects:\n  " + "\n  ".join(wrong))
PYTHON
