# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# How scripts speak to a person. Sourced, by the installed command tdxemu, too.

# The names below are used by the scripts that source this file.
# shellcheck disable=SC2034

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
	BOLD='' DIM='' RED='' PLAIN=''
fi

say()  { printf '%s\n' "${BOLD}==>${PLAIN} $*"; }
note() { printf '%s\n' "    ${DIM}$*${PLAIN}"; }

# die WHAT [HINT...]: prints what went wrong in one line, then what to do about it.
die() {
	printf '%s\n' "${RED}error:${PLAIN} $1" >&2
	shift
	local hint
	for hint in "$@"; do printf '       %s\n' "$hint" >&2; done
	exit 1
}
