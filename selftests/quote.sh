#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A quote of the trust domain by Linux's own drivers (configfs-tsm), from a host that makes
# some (emu.quote=1): what is in it is what the TDX module says. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/tsm_common.sh"

# part OFFSET COUNT: hexadecimal digits of the quote.
part() { tail -c +$(($1 + 1)) "$work/quote" | head -c "$2" | od -An -v -tx1 | tr -d ' \n'; }

report=$REPORTS/test
mkdir "$report" || exit 1
trap 'rmdir "$report"; rm -rf "$work"' EXIT
head -c 64 /proc/cmdline >"$work/data"
cat "$work/data" >"$report/inblob"
cat "$report/outblob" >"$work/quote" 2>"$work/out" || skip "the host makes no quotes"

echo "TAP version 13"
echo "1..6"
[ "$(cat "$report/provider")" = tdx_guest ]
result $? linux_gets_a_quote
[ "$(part 0 8)" = 0400020081000000 ]
result $? it_has_the_form_of_version_4
grep -q "EMULATED, NO KEY" "$work/quote" && grep -q "THIS IS NO SIGNATURE" "$work/quote"
result $? and_says_that_nobody_signed_it
[ "$(part 568 64)" = "$(od -An -v -tx1 "$work/data" | tr -d ' \n')" ]
result $? it_was_made_for_these_data
"$VTLCTL" audit boot >"$work/out"
for register in 1 2; do
	grep -q "^RTMR$register $(part $((376 + 48 * register)) 48):" "$work/out"
	result $? "rtmr${register}_is_the_one_that_the_tdx_module_has"
done
[ "$failed" = 0 ]
