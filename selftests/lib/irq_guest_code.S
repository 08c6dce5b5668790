/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of irq_guest.c, in 32-bit protected mode without paging. EBP holds
 * the address of struct irq_data. Each place to begin at ends in VMCALL.
 */
#define DATA_SPINS 0x400
#define DATA_PEER 0x404
#define DATA_PEER_APIC_ID 0x408
#define DATA_SENT_PEER 0x40c
#define DATA_SENT_SELF 0x410
#define DATA_STOP 0x414

	.section .rodata
	.code32

	.globl	irq_guest, irq_guest_end
	.balign	16
/* The gates of all vectors come here, the vector on the stack. */
irq_guest:
	pushl	%eax
	pushl	%ecx
	pushl	%edx
	movl	12(%esp), %eax
	incl	(%ebp,%eax,4)
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$0x80b, %ecx
	wrmsr
	popl	%edx
	popl	%ecx
	popl	%eax
	addl	$4, %esp
	iretl

/* Halts until an interrupt was taken, again and again. */
	.globl	irq_guest_halt
irq_guest_halt:
	sti
1:	hlt
	vmcall
	jmp	1b

/* Halts for ever. */
	.globl	irq_guest_halt_cli
irq_guest_halt_cli:
	cli
	hlt
	vmcall
	jmp	.

/* Takes interrupts nowhere but at HLT. */
	.globl	irq_guest_halt_once
irq_guest_halt_once:
	cli
	sti
	hlt
	cli
	vmcall
	jmp	.

/* Reads and writes an MSR, registers as they came. */
	.globl	irq_guest_rdmsr
irq_guest_rdmsr:
	rdmsr
	vmcall
	jmp	.

	.globl	irq_guest_wrmsr
irq_guest_wrmsr:
	wrmsr
	vmcall
	jmp	.

/* Never exits by itself. */
	.globl	irq_guest_spin
irq_guest_spin:
	sti
1:	pause
	incl	DATA_SPINS(%ebp)
	jmp	1b

/* Halts between its interrupts, and exits for nothing else. */
	.globl	irq_guest_sleep
irq_guest_sleep:
	sti
1:	hlt
	incl	DATA_SPINS(%ebp)
	jmp	1b

/* Sets its timer EDI ticks ahead and halts until the interrupt was taken, EBX times. */
	.globl	irq_guest_tick
irq_guest_tick:
	cli
	rdtsc
	addl	%edi, %eax
	adcl	$0, %edx
	movl	$0x6e0, %ecx
	wrmsr
	sti
	hlt
	decl	%ebx
	jnz	irq_guest_tick
	vmcall
	jmp	.

/* Sets its timer to what has passed, for ever. */
	.globl	irq_guest_late
irq_guest_late:
	sti
	movl	$0x6e0, %ecx
	xorl	%edx, %edx
	movl	$1, %eax
	wrmsr
	jmp	irq_guest_late

/*
 * Sends an interrupt to its peer whenever the one before was taken, and one to
 * itself; halts between.
 */
	.globl	irq_guest_storm
irq_guest_storm:
	cli
	cmpl	$0, DATA_STOP(%ebp)
	jne	3f
	incl	DATA_SPINS(%ebp)
	movl	DATA_PEER(%ebp), %esi
	movl	4*0x61(%esi), %eax
	cmpl	DATA_SENT_PEER(%ebp), %eax
	jne	1f
	incl	DATA_SENT_PEER(%ebp)
	movl	DATA_PEER_APIC_ID(%ebp), %edx
	movl	$0x61, %eax
	movl	$0x830, %ecx
	wrmsr
1:	movl	4*0x71(%ebp), %eax
	cmpl	DATA_SENT_SELF(%ebp), %eax
	jne	2f
	incl	DATA_SENT_SELF(%ebp)
	xorl	%edx, %edx
	movl	$0x40071, %eax
	movl	$0x830, %ecx
	wrmsr
2:	sti
	hlt
	jmp	irq_guest_storm
3:	sti
	nop
	vmcall
	jmp	irq_guest_storm

/*
 * Markers of tools/checks/insn_count, around exits that the kernel handles. Each
 * interrupt is taken outside of them. VMCALL after EBX turns.
 */
.macro mark kind, path
	.byte	0x0f, 0x1f, 0x84, 0x00, \kind, \path, 0x54, 0x56
.endm

	.globl	irq_guest_bench_icr
irq_guest_bench_icr:
	movl	$0x830, %ecx
	movl	$0x40071, %eax
	xorl	%edx, %edx
	mark	1, 4
	wrmsr
	mark	2, 4
	sti
	nop
	cli
	decl	%ebx
	jnz	irq_guest_bench_icr
	vmcall
	jmp	irq_guest_bench_icr

/* EBX interrupts to itself, then a halt. */
	.globl	irq_guest_busy
irq_guest_busy:
	movl	$0x830, %ecx
	movl	$0x40071, %eax
	xorl	%edx, %edx
	wrmsr
	sti
	nop
	cli
	decl	%ebx
	jnz	irq_guest_busy
	sti
	hlt
	jmp	irq_guest_busy

/* STI holds the interrupt back until HLT was executed. */
	.globl	irq_guest_bench_hlt
irq_guest_bench_hlt:
	movl	$0x830, %ecx
	movl	$0x40071, %eax
	xorl	%edx, %edx
	wrmsr
	mark	1, 5
	sti
	hlt
	mark	2, 5
	cli
	decl	%ebx
	jnz	irq_guest_bench_hlt
	vmcall
	jmp	irq_guest_bench_hlt
irq_guest_end:

	.section .note.GNU-stack, "", @progbits
