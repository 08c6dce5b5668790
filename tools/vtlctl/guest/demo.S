/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The built-in guests: flat binaries for real, 32-bit and 64-bit mode.
 *
 * One body serves all three modes: it uses 32-bit registers and 32-bit
 * addresses only, which each mode can encode. Started by `vtlctl run` with
 *	edx	address of its first byte
 *	esp	a stack
 * and interrupts off. Every value it prints came from an exit.
 *
 * Names: vtl0_demo_MODE and vtl0_demo_MODE_end, data of the command; included by
 * src/asm.rs.
 */

	.set	CONSOLE_PORT, 0xe9
	.set	MSR_IA32_EFER, 0xc0000080
	.set	LEAF_HYPERVISOR, 0x40000000
	/* Service numbers of VMCALL, see src/services.rs. */
	.set	SERVICE_ECHO, 1
	.set	SERVICE_ADD, 2

/* Prints the text LABEL; ebp holds the address of START. Changes eax, esi. */
.macro	say_text start, label
	leal	\label-\start(%ebp), %esi
	call	\start\()_puts
.endm

.macro	demo_guest start, mode_name
	.globl	\start
	.globl	\start\()_end
\start:
	movl	%edx, %ebp
	say_text \start, \start\()_text_hello

	/* CPUID: the vendor is in ebx, edx, ecx. */
	say_text \start, \start\()_text_vendor
	xorl	%eax, %eax
	xorl	%ecx, %ecx
	cpuid
	call	\start\()_put4
	movl	%edx, %ebx
	call	\start\()_put4
	movl	%ecx, %ebx
	call	\start\()_put4
	call	\start\()_newline

	/* The hypervisor's leaf: in ebx, ecx, edx. */
	say_text \start, \start\()_text_hypervisor
	movl	$LEAF_HYPERVISOR, %eax
	xorl	%ecx, %ecx
	cpuid
	call	\start\()_put4
	movl	%ecx, %ebx
	call	\start\()_put4
	movl	%edx, %ebx
	call	\start\()_put4
	call	\start\()_newline

	/* RDMSR. */
	say_text \start, \start\()_text_efer
	movl	$MSR_IA32_EFER, %ecx
	rdmsr
	movl	%eax, %edi
	movl	%edx, %ebx
	call	\start\()_puthex
	movl	%edi, %ebx
	call	\start\()_puthex
	call	\start\()_newline

	/* VMCALL: one that gives a value back, one that computes. */
	say_text \start, \start\()_text_echo
	movl	$SERVICE_ECHO, %eax
	movl	$0x1234abcd, %ebx
	vmcall
	movl	%eax, %ebx
	call	\start\()_puthex
	call	\start\()_newline

	say_text \start, \start\()_text_add
	movl	$SERVICE_ADD, %eax
	movl	$0x00aa0055, %ebx
	movl	$0x11001100, %ecx
	vmcall
	movl	%eax, %ebx
	call	\start\()_puthex
	call	\start\()_newline

	say_text \start, \start\()_text_halt
1:	hlt
	jmp	1b

/* Prints the zero-terminated text at esi. Changes eax, esi. */
\start\()_puts:
	movb	(%esi), %al
	testb	%al, %al
	jz	2f
	outb	%al, $CONSOLE_PORT
	addl	$1, %esi
	jmp	\start\()_puts
2:	ret

/* Prints the four characters in ebx, lowest first. Changes eax, ebx, esi. */
\start\()_put4:
	movl	$4, %esi
3:	movb	%bl, %al
	outb	%al, $CONSOLE_PORT
	shrl	$8, %ebx
	subl	$1, %esi
	jnz	3b
	ret

/* Prints ebx as eight hexadecimal digits. Changes eax, ebx, esi. */
\start\()_puthex:
	movl	$8, %esi
4:	roll	$4, %ebx
	movb	%bl, %al
	andb	$0xf, %al
	addb	$0x30, %al
	cmpb	$0x3a, %al
	jb	5f
	addb	$0x27, %al
5:	outb	%al, $CONSOLE_PORT
	subl	$1, %esi
	jnz	4b
	ret

/* Ends the line. Changes eax. */
\start\()_newline:
	movb	$0x0a, %al
	outb	%al, $CONSOLE_PORT
	ret

\start\()_text_hello:
	.ascii	"hello from VTL0, in "
	.ascii	"\mode_name"
	.asciz	" mode\n"
\start\()_text_vendor:
	.asciz	"CPUID 0x0 vendor:          "
\start\()_text_hypervisor:
	.asciz	"CPUID 0x40000000 vendor:   "
\start\()_text_efer:
	.asciz	"RDMSR 0xc0000080 (EFER):   "
\start\()_text_echo:
	.asciz	"VMCALL echo 1234abcd:      "
\start\()_text_add:
	.asciz	"VMCALL 00aa0055+11001100:  "
\start\()_text_halt:
	.asciz	"halting\n"
\start\()_end:
.endm

	.section .rodata.vtl0_demo, "a", @progbits
	.code16
	demo_guest vtl0_demo_real, "real"
	.code32
	demo_guest vtl0_demo_prot32, "32-bit protected"
	.code64
	demo_guest vtl0_demo_long, "64-bit"
	.text
