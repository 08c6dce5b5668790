#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# An attested log from one end to the other: the module makes it, `vtlctl` saves it, is killed, goes on,
# has it attested with a nonce and a quote, and verifies it; then it is tampered with.
# Prints KTAP.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/vtlctl_common.sh"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/tsm_common.sh"

MODULE=${MODULE:-/lib/mshv_vtl_tdx.ko}
NONCE=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff

modinfo "$MODULE" 2>/dev/null | grep -q attest_interval || grep -q attest_interval "$MODULE" ||
	skip "a module without attestation"

# mov $200, %esi; 1: xor %eax, %eax; cpuid; dec %esi; jnz 1b; hlt
printf '\276\310\0\0\0\61\300\17\242\116\165\371\364' >"$work/exits"
# What others have extended the register with before.
register=$("$VTLCTL" audit boot --register 3)
reload() { rmmod mshv_vtl_tdx && insmod "$MODULE" "$@"; }
trap 'rm -rf "$work"; reload' EXIT

echo "TAP version 13"
echo "1..43"
expect 1 "without attestation" a_module_without_attestation_is_told \
	audit attest --nonce "$NONCE" "$work/log"
reload attest=try attest_interval=0
result $? the_module_is_loaded_with_attestation
expect 0 "HLT" a_guest_runs run --mode prot32 "$work/exits"
expect 0 "records saved, 0 missed while saving, .* 1 events" its_log_is_saved audit save "$work/log"
# What says of which load a file is comes before its records: who kills the saver leaves none of no load.
boot_log=$(cat /sys/firmware/acpi/tables/data/CCEL 2>/dev/null | wc -c)
[ "$(strings -t d "$work/log" | awk '/VTLATEVT/ { print $1; exit }')" -lt $((boot_log + 1024)) ]
result $? with_its_first_event_first
# A record of CPU 0, by itself.
{
	printf 'VTLAUDIT\3\0\0\0\100\0\0\0\2\0\0\0\0\0\0\0{}\0\0\0\0\0\0'
	printf '\1\0\0\0\120\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\1'
	head -c 63 /dev/zero
} >"$work/records"
expect 1 "of which load its records are is not known" records_of_no_load_are_left_alone \
	audit save "$work/records"
expect 1 "is no regular file" what_has_no_end_is_no_file_to_go_on_with audit save /dev/zero

# A saver that is killed in the middle of a frame leaves a part of it.
"$VTLCTL" audit save --duration 60 "$work/log" &
saver=$!
sleep 1
expect 1 "another process writes it" a_second_saver_is_refused audit save "$work/log"
kill -9 $saver
wait $saver 2>/dev/null
printf '\1\0\0\0\377\0\0\0\0\0' >>"$work/log"
# Whoever asks for a proof gets none from a file that anybody can make.
printf 'VTLAUDIT\2\0\0\0\100\0\0\0\2\0\0\0\0\0\0\0{}\0\0\0\0\0\0' >"$work/older"
expect 3 "no quote and no report" a_file_without_events_is_no_proof audit verify --nonce "$NONCE" "$work/older"
expect 0 "HLT" another_guest_runs run --mode prot32 "$work/exits"
expect 0 "event 1 carries the nonce" the_log_goes_on_and_is_attested \
	audit attest --nonce "$NONCE" --kick "$work/log"
verify() {
	wanted=$1 pattern=$2 name=$3
	shift 3
	expect "$wanted" "$pattern" "$name" audit verify --open-register "$register" "$@"
}
verify 0 "^ATTESTED: events 0 to 1, open" it_verifies --nonce "$NONCE" "$work/log"
grep -qE "^CPU 0: [1-9][0-9]* records covered, [1-9][0-9]* of them proved, 0 others not" "$work/out"
result $? with_every_record
verify 0 '"verdict":"attested"' as_json_too --json "$work/log"
verify 10 "no event carries the nonce" not_with_another_nonce --nonce "$(echo $NONCE | tr 0 1)" "$work/log"
expect 0 "^event 1 CHECKPOINT" it_is_shown audit show "$work/log"
expect 0 "^ctrl +[0-9]+ create_vtl" with_what_the_control_plane_did audit show "$work/log"

expect 0 "^a quote of [0-9]+ bytes written" its_quote_comes_out_for_who_checks_signatures \
	audit quote "$work/log" "$work/quote"
grep -q "THIS IS NO SIGNATURE" "$work/quote"
result $? as_the_host_made_it
verify 0 "^ATTESTED: events 0 to 1, open" and_verifies_from_there \
	--quote "$work/quote" --nonce "$NONCE" "$work/log"
# The other register is nobody's: it may hold a log that somebody has made up.
verify 10 "of RTMR3, which is not the register" not_where_another_register_was_asked_for --rtmr 2 "$work/log"
expect 0 "^2 events written" its_events_are_exported_for_others audit cel "$work/log" "$work/cel"
# Number of the record, register, digest: types and lengths, the most significant byte first.
[ "$(head -c 29 "$work/cel" | od -An -v -tx1 | tr -d ' \n')" = \
	"0000000008""0000000000000000""6c00000001""04""0300000035""0c00000030" ]
result $? in_the_form_of_a_canonical_event_log
head -c $(($(wc -c <"$work/log") / 2)) "$work/log" >"$work/cut"
expect 7 "events are missing" an_export_without_events_says_so audit cel "$work/records" "$work/cel"

# One byte of the first event. A byte in the middle of the file may also be a frame's length, and then
# the quote is not found.
cp "$work/log" "$work/changed"
at=$(($(strings -t d "$work/log" | awk '/VTLATEVT/ { print $1; exit }') + 24))
byte=$(tail -c +$((at + 1)) "$work/log" | head -c 1 | od -An -tu1)
printf "\\$(printf %o $((byte ^ 1)))" |
	dd of="$work/changed" bs=1 seek=$at conv=notrunc 2>/dev/null
verify 10 "^NOT ATTESTED" a_changed_byte_is_found "$work/changed"
verify 3 "no quote and no report" a_cut_file_has_no_evidence "$work/cut"
expect 0 "event 2 carries the nonce" a_report_will_do audit attest --report --nonce "$NONCE" "$work/log"
# The quote is of before.
verify 0 "^not covered by the evidence: 1 later events" an_older_quote_proves_what_was_before "$work/log"
# Each asks for an event while the other waits for its evidence, which tells of both.
(while [ ! -e "$work/end" ]; do "$VTLCTL" audit attest --report --nonce "$NONCE" "$work/other" || exit; done) >/dev/null &
others=$!
whole=0
for _ in 1 2 3 4 5 6 7 8 9 10; do
	if "$VTLCTL" audit attest --report --nonce "$NONCE" "$work/one" >"$work/out" 2>&1 &&
		"$VTLCTL" audit verify --open-register "$register" --nonce "$NONCE" "$work/one" >"$work/out" 2>&1; then
		whole=$((whole + 1))
	else
		sed 's/^/# /' "$work/out"
	fi
done
touch "$work/end"
wait $others && [ "$whole" = 10 ]
result $? others_may_ask_at_the_same_time
reload attest=try attest_interval=0
expect 1 "another load of the module" a_file_of_another_load_is_left_alone audit save "$work/log"

# A ring that is too small for who saves it. The register is read without attestation: CLOSE is in it.
reload
register=$("$VTLCTL" audit boot --register 3)
reload attest=try attest_interval=0 audit_records=64
expect 0 "HLT" a_guest_laps_its_ring run --mode prot32 "$work/exits"
expect 0 "event 1 carries the nonce" what_is_left_is_saved_and_attested \
	audit attest --report --nonce "$NONCE" "$work/lapped"
verify 8 "^ATTESTED WITH GAPS: events 0 to 1, open" what_was_overwritten_is_a_gap "$work/lapped"
grep -qE "^gap: CPU 0: records 1 to 63 " "$work/out"
result $? with_its_first_and_last_record

# Without the driver of TDX guests there is no evidence; the log is saved all the same.
[ ! -e /sys/module/tdx_guest/initstate ] || rmmod tdx_guest
expect 1 "event 2 is saved, without evidence: cannot open /dev/tdx_guest: .*CONFIG_TDX_GUEST_DRIVER" \
	without_a_driver_there_is_no_report audit attest --report --nonce "$NONCE" "$work/poor"
expect 1 "event 3 is saved, without evidence: cannot read a quote: .*tsm_report" \
	and_no_quote audit attest --nonce "$NONCE" "$work/poor"
expect 3 "no quote and no report" which_the_file_says audit verify --nonce "$NONCE" "$work/poor"
expect 0 "^event 3 CHECKPOINT" but_it_has_the_events audit show "$work/poor"
load tdx_guest tdx-guest.ko

# Somebody else extends the register.
head -c 48 /dev/zero >/sys/class/misc/tdx_guest/measurements/rtmr3:sha384
expect 0 "event 4 carries the nonce.*" an_extend_by_root_gets_an_event \
	audit attest --report --nonce "$NONCE" "$work/lapped"
verify 10 "somebody else has extended the register, which event 4 found" which_ends_the_log "$work/lapped"
expect 1 "attestation is broken" there_is_no_other audit attest --report --nonce "$NONCE" "$work/lapped"
expect 0 "attestation is broken" and_who_saves_is_told audit save "$work/lapped"
expect 0 '"state":"broken"' in_json_too audit save --json "$work/lapped"
[ "$failed" = 0 ]
