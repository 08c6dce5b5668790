#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make bench`: counts what each path costs L1, without a clock. The figures go
# to build/bench.json and, as a table, to the screen. Fails when a path costs more
# instructions than bench-limits.txt allows, or has not the very number of the others.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

JSON=$BUILD/bench.json

. "$TOP/scripts/image.sh"

build_bench_image
rm -f "$JSON"
say "counting (one CPU, one instruction per nanosecond; about 2 min)"
SMP=1 COUNT_TO=$JSON CMDLINE=nokaslr LIMIT=1200 \
	"$TOP/scripts/td.sh" bench "$BUILD/bench.log" emu.hide_time=1
[ -s "$JSON" ] || die "no figures were written" "console: build/bench.log"

in_root python3 - "$JSON" "$TOP/scripts/bench-limits.txt" <<'PYTHON'
import json, sys

path, table = sys.argv[1:]
report = json.load(open(path))
paths = report["paths"]
kinds = ["l1_instructions", "msr", "tdcall", "fpu", "locked"]
limits = {}
for line in open(table):
    words = line.split("#")[0].split()
    if words:
        limits[words[0]] = dict(zip(kinds, map(int, words[1:]), strict=True))
# What one turn by way of the host adds to a round trip.
whole, without = (paths.get(name) for name in ("user_round_trip_host_routed", "user_round_trip_avx"))
if whole and without:
    paths["host_routed"] = {kind: whole[kind] - without[kind] for kind in kinds}
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
