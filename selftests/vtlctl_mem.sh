#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# `vtlctl mem` and `vtlctl regs` as a script sees it. Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"

# mov (%rdi), %al; out %al, $0xe9; hlt
printf '\212\007\346\351\364' >"$work/reads"
# 1: mov %eax, 0x280000(%rdi); add $1, %eax; jmp 1b
printf '\211\207\000\000\050\000\203\300\001\353\365' >"$work/writes"
printf 'seen from VTL2' >"$work/text"

echo "TAP version 13"
echo "1..22"
expect 0 HLT a_guest_makes_its_memory_accepted run "$work/reads"
# Its memory begins there.
memory=$("$VTLCTL" run "$work/reads" | sed -n 's/^guest: .*memory \(0x[0-9a-f]*\)\.\..*/\1/p')
expect 0 ": VTL1 has ---$" another_vtl_has_no_rights_there mem rights --vtl 1 "$memory" 2M -
expect 0 "^$memory\.\..* accepted +rwx +---" it_is_shown_with_its_rights mem map --range "$memory,2M"
expect 0 '"vtl0":"rwx"' and_as_json mem map --range "$memory,2M" --json
expect 0 "pages of" all_of_it_is_shown mem map --range "$memory,16M"
expect 0 "^14 bytes written to 0x" bytes_are_written mem write "$((memory + 0x1ffffa))" "$work/text"
expect 0 "73 65 65 6e 20 66 72 6f 6d.*seen from VTL2" and_read_across_a_page \
	mem read "$((memory + 0x1ffffa))" 14
expect 0 "^seen$" or_as_they_are mem read --raw "$((memory + 0x1ffffa))" 4
expect 0 ": VTL0 has ---$" rights_are_taken mem rights "$memory" 2M -
expect 0 "^$memory\.\..* accepted +--- " which_is_shown mem map --range "$memory,2M"
expect 0 ": VTL0 has r-x$" and_given mem rights "$memory" 2M rx
expect 0 "^$memory\.\..* accepted +r-x " and_shown_too mem map --range "$memory,2M"
expect 2 "is no right" a_letter_that_is_no_right_is_named mem rights "$memory" 4K rq
expect 3 "cannot read" a_missing_file_is_named mem write "$memory" "$work/missing"
expect 1 "0x[0-9a-f]" what_is_not_a_lower_vtls_is_refused mem read 0x70000000000 16

# A guest that writes, and exits for nothing else.
"$VTLCTL" run --timeout 120 "$work/writes" >"$work/run" 2>&1 &
run=$!
while kill -0 $run 2>/dev/null &&
	[ "$("$VTLCTL" mem read --raw "$((memory + 0x280000))" 4 2>/dev/null | tr -d '\0' | wc -c)" = 0 ]; do
	sleep 0.2
done
# Not those of its code and page tables, which are in the first large page.
"$VTLCTL" mem rights "$((memory + 0x200000))" 2M rx >/dev/null
wait $run
[ $? = 4 ] && grep -q "may not write" "$work/run"
status=$?
[ $status = 0 ] || sed 's/^/# /' "$work/run"
result $status rights_are_taken_from_a_guest_that_runs
# One that halts, and leaves its registers.
"$VTLCTL" run "$work/reads" >/dev/null

expect 0 "rax +[0-9a-f]{16} .*rbx" registers_are_shown regs
expect 0 "^ +rip [0-9a-f]{16}$" one_is_shown regs rip
expect 0 "rbx 0000000000001234" a_register_is_set regs rbx=0x1234
expect 0 '^\{"rbx":"0x1234"\}$' and_is_what_it_was_set_to regs --json rbx
expect 2 "no register 'rpi' is there .expected one of rip," an_unknown_one_is_named regs rpi
expect 2 "no register 'mxcsr' can be set" one_that_can_only_be_read_is_named regs mxcsr=1
[ "$failed" = 0 ]
