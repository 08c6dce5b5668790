#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make emu-run KERNEL=bzImage INITRD=archive [CMDLINE=...] [EMU=...]`: boots any
# TDX-enabled kernel as a TD. EMU holds options of the emulator.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/env.sh"
. "$TOP/scripts/machine.sh"

if [ -z "${KERNEL:-}" ] || [ -z "${INITRD:-}" ]; then
	die "KERNEL= and INITRD= are needed" \
		"example: make emu-run KERNEL=build/bzImage INITRD=build/initramfs CMDLINE=quiet"
fi
mkdir -p "$BUILD"
machine "$KERNEL" "$INITRD" "$BUILD/emu-run.emu.log" "${EMU:-}" "console=ttyS0 ${CMDLINE:-}"
in_root "${qemu[@]}"
