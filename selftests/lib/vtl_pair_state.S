/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Part of vtl_pair_code.S: guests that read and write the registers of the processor, to
 * show which of them belong to one VTL and which to both.
 */

/* Reads an MSR into a list. */
.macro read_msr list, place, number
	movl	$\number, %ecx
	rdmsr
	movl	%eax, DATA_LOADED + 8 * \place(%\list)
	movl	%edx, DATA_LOADED + 8 * \place + 4(%\list)
.endm

/* Likewise, and writes another value from the list. */
.macro exchange_msr list, place, number
	read_msr \list, \place, \number
	movl	DATA_TO_LOAD + 8 * \place(%\list), %eax
	movl	DATA_TO_LOAD + 8 * \place + 4(%\list), %edx
	wrmsr
.endm

.macro exchange_live list
	exchange_msr \list, 0, 0xc0000081
	exchange_msr \list, 1, 0xc0000082
	exchange_msr \list, 2, 0xc0000084
	exchange_msr \list, 3, 0xc0000102
	exchange_msr \list, 4, 0xc0000103
.endm

.macro exchange_kept list
	exchange_msr \list, 0, 0x48
	exchange_msr \list, 1, 0xe1
	exchange_msr \list, 2, 0x122
	exchange_msr \list, 3, 0x1c4
	exchange_msr \list, 4, 0x1c5
	exchange_msr \list, 5, 0x6a0
	exchange_msr \list, 6, 0x6a4
	exchange_msr \list, 7, 0x6a5
	exchange_msr \list, 8, 0x6a6
	exchange_msr \list, 9, 0x6a7
	read_msr \list, 10, 0xda0
.endm

/*
 * VTL0 exchanges its MSRs with the list at RSI before and after a call; VTL1 exchanges
 * its own with the list at RDI once in each call.
 */
.macro msr_guests kind
	.globl	pair_\kind\()_vtl0, pair_\kind\()_vtl1
pair_\kind\()_vtl0:
	exchange_\kind rsi
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	exchange_\kind rsi
	hlt
	jmp	pair_\kind\()_vtl0

pair_\kind\()_vtl1:
	exchange_\kind rdi
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	pair_\kind\()_vtl1
.endm

msr_guests live
msr_guests kept

/* Shared registers: VTL1 finds the values of VTL0 and leaves its own. */
	.globl	pair_shared_vtl0
pair_shared_vtl0:
	movq	DATA_TO_LOAD(%rbp), %xmm3
	movq	DATA_TO_LOAD(%rbp), %rdx
	movq	%rdx, %cr2
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	movq	%xmm3, DATA_LOADED(%rbp)
	movq	%cr2, %rdx
	movq	%rdx, DATA_LOADED+8(%rbp)
	hlt
	jmp	.

	.globl	pair_shared_vtl1
pair_shared_vtl1:
	movq	%xmm3, DATA_LOADED+16(%rbp)
	movq	%cr2, %rdx
	movq	%rdx, DATA_LOADED+24(%rbp)
	movq	DATA_TO_LOAD+8(%rbp), %xmm3
	movq	DATA_TO_LOAD+8(%rbp), %rdx
	movq	%rdx, %cr2
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	.

/* Offsets in struct all_registers of vtl_switch_shared.c. */
#define ALL_MM 0x100
#define ALL_DR 0x140
#define ALL_PKRU 0x168
#define ALL_XCR0 0x16c
#define ALL_CR2 0x170

.macro	store_all list
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	%ymm\n, 32 * \n(%\list)
	movq	%mm\n, ALL_MM + 8 * \n(%\list)
	.endr
	.irp	n, 0, 1, 2, 3
	movq	%dr\n, %rax
	movq	%rax, ALL_DR + 8 * \n(%\list)
	.endr
	movq	%dr6, %rax
	movq	%rax, ALL_DR + 32(%\list)
	xorl	%ecx, %ecx
	rdpkru
	movl	%eax, ALL_PKRU(%\list)
	xgetbv
	movl	%eax, ALL_XCR0(%\list)
	movq	%cr2, %rax
	movq	%rax, ALL_CR2(%\list)
.endm

.macro	load_all list
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	vmovups	32 * \n(%\list), %ymm\n
	movq	ALL_MM + 8 * \n(%\list), %mm\n
	.endr
	.irp	n, 0, 1, 2, 3
	movq	ALL_DR + 8 * \n(%\list), %rax
	movq	%rax, %dr\n
	.endr
	movq	ALL_DR + 32(%\list), %rax
	movq	%rax, %dr6
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	movl	ALL_PKRU(%\list), %eax
	wrpkru
	movq	ALL_CR2(%\list), %rax
	movq	%rax, %cr2
.endm

/*
 * All shared registers: VTL1 stores what it finds at RDI and loads what is at R9;
 * VTL0 loads what is at R8 before its call, and stores what it finds at RSI after it.
 */
	.globl	pair_all_vtl0, pair_all_vtl1
pair_all_vtl0:
	load_all r8
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	store_all rsi
	hlt
	jmp	pair_all_vtl0

pair_all_vtl1:
	store_all rdi
	load_all r9
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	pair_all_vtl1

/* What the processor takes from the VMCS: struct tables of vtl_switch_state.c. */
.macro	store_tables list
	movq	%cr3, %rax
	movq	%rax, (%\list)
	movq	%fs:DATA_STORE, %rax
	movq	%rax, 8(%\list)
	movq	%gs:DATA_STORE, %rax
	movq	%rax, 16(%\list)
	sidt	24(%\list)
	sgdt	40(%\list)
	str	%rax
	movq	%rax, 56(%\list)
	movq	%ds, %rax
	movq	%rax, 64(%\list)
.endm

/* VTL0 stores at RSI after its call, VTL1 at RDI in it. */
	.globl	pair_tables_vtl0, pair_tables_vtl1
pair_tables_vtl0:
	xorl	%eax, %eax
	movl	$0x11, %ecx
	vmcall
	store_tables rsi
	decq	%rbx
	jnz	pair_tables_vtl0
	hlt
	jmp	.

pair_tables_vtl1:
	store_tables rdi
	movl	$1, %eax
	movl	$0x12, %ecx
	vmcall
	jmp	pair_tables_vtl1
