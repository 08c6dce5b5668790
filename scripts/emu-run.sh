#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make emu-run KERNEL=bzImage INITRD=archive [CMDLINE=...] [EMU=...]`: boots any
# TDX-enabled kernel as a TD. EMU holds options of the emulator. With GDB=1 it waits
# for a debugger; with ROOTLESS=1 it is for any user, and this system's QEMU is used.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"

if [ -z "$KIMAGE_GIVEN" ] || [ -z "${INITRD:-}" ]; then
	die "KERNEL= and INITRD= are needed" \
		"example: make emu-run KERNEL=build/bzImage INITRD=build/initramfs CMDLINE=quiet"
fi
mkdir -p "$BUILD"
emu_log=$BUILD/emu-run.emu.log
rm -f "$emu_log"
[ -z "${ROOTLESS:-}" ] || need_qemu
CONSOLE=shell machine "$KIMAGE" "$INITRD" "$emu_log" "${EMU:-}" "console=ttyS0 ${CMDLINE:-}"
banner_of_machine
status=0
in_root "${qemu[@]}" || status=$?
why_machine_ended "$status" "$emu_log"
