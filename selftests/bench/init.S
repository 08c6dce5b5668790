/* SPDX-License-Identifier: GPL-2.0 */
/*
 * First process of the boots that `make bench-emu` counts. Its first instruction
 * is the marker of tools/checks/insn_count that says so; then it powers off.
 */
#include <asm/unistd_64.h>
#include <linux/reboot.h>

	.globl	_start
_start:
	.byte	0x0f, 0x1f, 0x84, 0x00, 4, 0, 0x54, 0x56
	mov	$__NR_reboot, %eax
	mov	$LINUX_REBOOT_MAGIC1, %edi
	mov	$LINUX_REBOOT_MAGIC2, %esi
	mov	$LINUX_REBOOT_CMD_POWER_OFF, %edx
	syscall
	hlt

	.section .note.GNU-stack, "", @progbits
