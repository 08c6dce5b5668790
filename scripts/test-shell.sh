#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make shell` as a person uses it, at a terminal: banner, files in and out, Ctrl-C, and how to leave;
# then RUN=; then the guide to a kernel of one's own. Prints KTAP; needs a finished image.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"

work=$(mktemp -d "$BUILD/test-shell.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
number=0 failed=0

# result STATUS NAME FILE: what to show if it failed.
result() {
	number=$((number + 1))
	if [ "$1" = 0 ]; then
		echo "ok $number $2"
		return
	fi
	tail -n 30 "$3" | tr -d '\r' | sed 's/^/# /'
	echo "not ok $number $2"
	failed=$((failed + 1))
}

mkdir "$work/share" "$work/extra"
echo 'from outside' >"$work/share/note"
echo 'more' >"$work/extra/file"
echo "KTAP version 1"
echo "1..12"

# A terminal of its own; what is written to descriptor 5 is typed.
mkfifo "$work/keys"
SHARE=$work/share EXTRA=$work/extra timeout 600 script -qefc "$TOP/scripts/td.sh shell $work/shell.log" \
	"$work/console" <"$work/keys" >/dev/null 2>&1 &
terminal=$!
exec 5>"$work/keys"

# wait_for TEXT: on the console, after what was waited for before.
at=0
wait_for() {
	local second found
	for ((second = 0; second < 300; second++)); do
		found=$(tail -c +$((at + 1)) "$work/console" 2>/dev/null | grep -abo -m 1 -F -- "$1" | head -n 1 | cut -d : -f 1) || :
		if [ -n "$found" ]; then
			at=$((at + found + ${#1}))
			return
		fi
		kill -0 "$terminal" 2>/dev/null || break
		sleep 1
	done
	echo "# '$1' did not appear"
	return 1
}

# enter TEXT: at the prompt. The words that are waited for are not in it, for it is echoed.
enter() { wait_for '/ # ' && printf '%s\r' "$1" >&5; }

status=0
{
	enter 'cat /share/note /extra/file; uname -r >/share/release' && wait_for more &&
		enter "sh -c 'echo be\"\"gun; sleep 1000'" && wait_for begun &&
		sleep 1 && printf '\003' >&5 && enter "echo \"ended by \$?\"" && wait_for 'ended by 130' &&
		enter 'mv /share/note /share/renamed; exit' && wait_for 'in /share is in'
} || status=1
[ "$status" = 0 ] || kill "$terminal" || :
exec 5>&-
wait "$terminal" || status=1
result "$status" typing_is_answered_and_ctrl_c_ends_a_program "$work/console"
status=0
grep -aq 'the Linux at VTL2 of a TD' "$work/console" && grep -aq "Ctrl-A X" "$work/console" || status=1
result $status a_banner_says_how_to_leave "$work/console"
status=0
grep -aq 'Linux version' "$work/console" && grep -aq 'Run /init' "$work/console" || status=1
result $status the_boot_is_shown "$work/console"
status=0
grep -aq '^from outside' "$work/console" && [ "$(cat "$work/share/renamed")" = 'from outside' ] || status=1
result $status files_go_in "$work/console"
status=0
[ "$(cat "$work/share/release")" = "$(cat "$CACHE/kernel/release")" ] && [ ! -e "$work/share/extra" ] || status=1
result $status files_come_back "$work/console"

status=0
# shellcheck disable=SC2016 # the TD's shell expands it
SHARE=$work/share RUN='echo "$((6 * 7))" >/share/answer; vtlctl --version; exit 5' \
	"$TOP/scripts/td.sh" command "$work/run.log" >"$work/out" 2>&1 </dev/null || status=$?
{ [ "$status" = 1 ] && grep -q "failed inside the TD with status 5" "$work/out"; } && status=0 || status=1
result $status a_command_that_fails_has_its_status "$work/out"
status=0
grep -q "^vtlctl $VTL_VERSION" "$work/out" && [ "$(cat "$work/share/answer")" = 42 ] || status=1
result $status a_command_says_and_writes_what_it_found "$work/out"
status=0
SHARE=$work/none "$TOP/scripts/td.sh" command "$work/run.log" >"$work/out" 2>&1 </dev/null || status=$?
{ [ "$status" != 0 ] && grep -q 'SHARE=.*/none is not a folder' "$work/out"; } && status=0 || status=1
result $status a_missing_folder_is_named "$work/out"

# What is unpacked at each boot: of what `make run` has, only what it needs, and no debug information.
mkdir "$work/run"
(cd "$work/run" && gzip -dc "$BUILD/initramfs-run" | in_root cpio --quiet -i) || :
status=0
(cd "$work/run" && find . -type f | LC_ALL=C sort) | tee "$work/out" |
	diff - <(printf '%s\n' ./bin/busybox ./bin/vtlctl ./init ./lib/mshv_vtl_tdx.ko) >/dev/null || status=1
result $status a_run_has_only_what_it_needs "$work/out"
status=0
in_root readelf -S "$work/run/bin/vtlctl" "$work/run/lib/mshv_vtl_tdx.ko" >"$work/out" && ! grep -q '[.]debug_info' "$work/out" ||
	status=1
result $status programs_in_a_td_have_no_debug_information "$work/out"

# The guide's commands, from the block that begins with mkdir, in the build root, which has its busybox.
guide=$TOP/Documentation/own-kernel.rst
sed -n '/^\tmkdir -p root.bin$/,/^$/s/^\t//p' "$guide" >"$work/guide"
sed -nE 's/^\t(CONFIG_[A-Z0-9_]+=y)$/\1/p' "$guide" >"$work/options"
status=0
[ "$(wc -l <"$work/options")" -ge 5 ] && ! grep -vxFf "$CACHE/kernel/obj/.config" "$work/options" >"$work/out" || status=1
result $status the_options_of_the_guide_are_those_of_the_kernel_that_boots "$work/out"
status=0
# shellcheck disable=SC2016 # not this shell expands it
in_root sh -ec 'cd "$1" && . ./guide' sh "$work" && [ -s "$work/archive" ] &&
	KERNEL=$KIMAGE INITRD=$work/archive timeout 300 "$TOP/scripts/emu-run.sh" >"$work/out" 2>&1 </dev/null &&
	grep -q 'tdx: Guest detected' "$work/out" &&
	grep -q "^hello from $(cat "$CACHE/kernel/release"), in a TD" "$work/out" || status=1
result $status the_kernel_of_the_guide_boots "$work/out"
[ "$failed" = 0 ]
