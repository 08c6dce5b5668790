# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The tables of Documentation/reference.rst, and the sources, have the same names. Sourced by lint.sh.

# documented SECTION: the names in the first column of its table.
documented() {
	# shellcheck disable=SC2016 # the grave accents are the document's
	awk -v section="$1" '$0 == section { on = 1; next }
		on && /^=+$/ && seen++ { exit }
		on' Documentation/reference.rst | sed -n '/^=.* =/,$p' | sed -nE 's/^``([A-Za-z0-9_]+)``  +.*/\1/p'
}

# same SECTION: standard input has the names of the sources, one a line.
same() {
	local found
	found=$(comm -3 <(LC_ALL=C sort -u) <(documented "$1" | LC_ALL=C sort) | tr -d '\t' | paste -sd' ')
	[ -z "$found" ] || complain "Documentation/reference.rst: '$1' and the sources differ in: $found"
}

# What scripts tell each other, and not a person them.
OF_SCRIPTS="BARE_METAL_FLAGS BUILD CARGO_TERM_COLOR CLIPPY CONSOLE COUNT_BOOT COUNT_TO DIRECT EMULATOR GDB_NAME GUEST_KIMAGE HOME ICOUNT
	INITRAMFS INNER KIMAGE_GIVEN LOGS MEM_NAME SECOND_SERIAL SMP_NAME STEP_COUNT TD TERM TEST"

# make_variables: what the Makefile exports, what its help has, and what scripts take from the environment.
make_variables() {
	{
		sed -n '/^export /,/[^\\]$/p' Makefile | grep -oE '\b[A-Z_]+\b'
		sed -n 's/.*## //p; s/^.*@echo "  *//p' Makefile | grep -oE '\b[A-Z_]+='
		tracked 'scripts/*.sh' | xargs grep -ohE '[$][{][A-Z_]+:?[-+]'
	} | grep -oE '[A-Z_]+' | sort -u | grep -vxF "$(tr -s ' \t' '\n' <<<"$OF_SCRIPTS")"
}

house_reference() {
	# Not by a pipe: its last part would count complaints in a shell of its own.
	same 'Module parameters' < <(
		sed -n '/^    params: {/,/^    }/p' rust/mshv_vtl_tdx_main.rs | sed -nE 's/^ {8}([a-z0-9_]+): .*\{$/\1/p'
		tracked 'rust/*.c' | xargs sed -nE 's/^(module_param_[a-z]+\(|__module_param_call\(MODULE_PARAM_PREFIX, )([a-z0-9_]+),.*/\2/p'
	)
	same 'Files in debugfs' < <(tracked 'rust/*.rs' | xargs sed -nE 's/.*_file\(c"([a-z_]+)".*/\1/p')
	same 'Tracepoints' < <(
		tr -d '\n' <rust/observe/vtl_trace.h | grep -oE 'TRACE_EVENT\(\s*[a-z_]+' | sed 's/.*[( \t]//'
	)
	same 'Exit statuses of vtlctl' < <(
		sed -n '/^const STATUS_HELP/,/;$/p' tools/vtlctl/src/main.rs | sed -nE 's/^ {1,2}([0-9]+)  .*/\1/p'
	)
	same 'Variables of make' < <(make_variables)
	house_commands
	house_targets
	house_messages
}

# Each target of make, and each option of the emulator, that a page has its reader type does exist.
house_targets() {
	local page name options
	while IFS=: read -r page name; do
		# The kernel's own.
		[ "$name" != defconfig ] || continue
		grep -q "^$name:.*##" Makefile || complain "$page: there is no target '$name'"
	done < <(tracked 'Documentation/*.rst' '*.rst' | sort -u | xargs grep -oHE '(``|^	)make [a-z][a-z-]*' |
		sed 's/:.*make /:/' | sort -u)
	# shellcheck disable=SC2016 # the grave accents are the document's
	options=$(sed -nE 's/^``(emu[.][a-z0-9_]+)=.*/\1/p' Documentation/emulator.rst)
	while IFS=: read -r page name; do
		grep -qxF "$name" <<<"$options" || complain "$page: there is no option $name"
	done < <(tracked 'Documentation/*.rst' '*.rst' | sort -u | xargs grep -oHE 'emu[.][a-z0-9_]+=' | tr -d '=' | sort -u)
}

# Each message in the tables of the troubleshooting page is one of ours, or of those that are named here.
house_messages() {
	local page=Documentation/troubleshooting.rst all=$BUILD/log/messages text
	mkdir -p "$BUILD/log"
	tracked 'scripts/*.sh' 'rust/*.rs' 'rust/*.c' 'tools/*.rs' Kbuild | xargs cat | tr -s '\\\n ' ' ' >"$all"
	# shellcheck disable=SC2016 # the grave accents are the document's
	while read -r text; do
		case $text in
		'make: command not found' | 'disagrees about version of symbol' | 'Key was rejected by service') continue ;;
		esac
		grep -qF -- "$text" "$all" || complain "$page: nobody says '$text'"
	done < <(sed -nE 's/^``(.*)``  +.*/\1/p' "$page")
}

# Each command of vtlctl is somewhere in the documents, and each option of tdxemu in its manual page.
# (The pages of vtlctl come from the same source as its --help.)
house_commands() {
	local name
	while read -r name; do
		grep -qE "vtlctl $name\b" Documentation/*.rst || complain "Documentation: nothing about vtlctl $name"
	done < <(sed -n '/^enum Command {/,/^}/p' tools/vtlctl/src/main.rs | sed -nE 's/^    ([A-Z][a-z]+)\(.*/\L\1/p')
	while read -r name; do
		sed 's/\\-/-/g' scripts/tdxemu.1 | grep -qF -- "$name" || complain "scripts/tdxemu.1: nothing about $name"
		grep -qE "^	(.*\| )?$name(=[*])?( \|.*)?\)" scripts/tdxemu || complain "scripts/tdxemu: --help has $name, which it does not take"
	done < <(sed -nE 's/^	  (--[a-z]+).*/\1/p' scripts/tdxemu)
}
