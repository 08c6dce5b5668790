#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make bench`: counts what each path costs L1, without a clock. The figures go
# to build/bench.json and, as a table, to the screen.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

JSON=$BUILD/bench.json
WANTED=(floor null_ioctl user_round_trip)

. "$TOP/scripts/image.sh"

build_bench_image
rm -f "$JSON"
say "counting (one CPU, one instruction per nanosecond; about 2 min)"
SMP=1 COUNT_TO=$JSON CMDLINE=nokaslr LIMIT=1200 \
	"$TOP/scripts/td.sh" bench "$BUILD/bench.log" emu.hide_time=1
[ -s "$JSON" ] || die "no figures were written" "console: build/bench.log"

in_root python3 - "$JSON" "${WANTED[@]}" <<'PYTHON'
import json, sys

path, wanted = sys.argv[1], sys.argv[2:]
paths = json.load(open(path))["paths"]
missing = [name for name in wanted if name not in paths]
if missing:
    sys.exit(f"error: no figure for {', '.join(missing)}; the console is in build/bench.log")
kinds = ["l1_instructions", "msr", "tdcall", "fpu", "locked"]
print(f"{'path':<20}" + "".join(f"{kind:>17}" for kind in kinds))
for name in wanted:
    print(f"{name:<20}" + "".join(f"{paths[name][kind]:>17}" for kind in kinds))
PYTHON
