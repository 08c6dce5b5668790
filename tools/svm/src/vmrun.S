# SPDX-License-Identifier: MIT OR GPL-2.0-only
#
# svm_vmrun(rdi: physical address of the VMCB, rsi: struct Gprs *, edx: 0 for L1)
#
# Called with GIF clear. Saves the callee-saved registers of the System V ABI,
# loads the guest's registers except RAX and RSP (VMRUN takes these from the
# VMCB), runs the guest, and stores its registers back. VMRUN saves the host's
# RAX (the VMCB address), RSP and RIP in the host save area and restores them.
#
# Marker no-ops tell the counting plugin whose instructions follow (tools/checks/insn_count).
#
# stack:  [rsp]    Gprs *
#         [rsp+8]  rbx rbp r12 r13 r14 r15, return address

	.section .text.svm_vmrun, "ax"
	.globl	svm_vmrun
	.type	svm_vmrun, @function
	.balign	16
svm_vmrun:
	push	r15
	push	r14
	push	r13
	push	r12
	push	rbp
	push	rbx
	push	rsi

	mov	rax, rdi
	test	edx, edx		# none of the loads changes flags
	mov	rcx, [rsi + {RCX}]
	mov	rdx, [rsi + {RDX}]
	mov	rbx, [rsi + {RBX}]
	mov	rbp, [rsi + {RBP}]
	mov	rdi, [rsi + {RDI}]
	mov	r8,  [rsi + {R8}]
	mov	r9,  [rsi + {R9}]
	mov	r10, [rsi + {R10}]
	mov	r11, [rsi + {R11}]
	mov	r12, [rsi + {R12}]
	mov	r13, [rsi + {R13}]
	mov	r14, [rsi + {R14}]
	mov	r15, [rsi + {R15}]
	mov	rsi, [rsi + {RSI}]

	jz	1f
	nop	dword ptr [rax + rax + 0x56540105]	# L2
	jmp	2f
1:	nop	dword ptr [rax + rax + 0x56540005]	# L1
2:	vmrun	rax
	.globl	svm_vmrun_exit
svm_vmrun_exit:
	nop	dword ptr [rax + rax + 0x56540006]	# the emulator

	# RAX is the VMCB address again; the guest's RSI needs the pointer, so
	# it goes through the stack.
	push	rsi
	mov	rsi, [rsp + 8]
	mov	[rsi + {RCX}], rcx
	mov	[rsi + {RDX}], rdx
	mov	[rsi + {RBX}], rbx
	mov	[rsi + {RBP}], rbp
	mov	[rsi + {RDI}], rdi
	mov	[rsi + {R8}],  r8
	mov	[rsi + {R9}],  r9
	mov	[rsi + {R10}], r10
	mov	[rsi + {R11}], r11
	mov	[rsi + {R12}], r12
	mov	[rsi + {R13}], r13
	mov	[rsi + {R14}], r14
	mov	[rsi + {R15}], r15
	pop	rcx
	mov	[rsi + {RSI}], rcx

	pop	rsi
	pop	rbx
	pop	rbp
	pop	r12
	pop	r13
	pop	r14
	pop	r15
	ret
	.size	svm_vmrun, . - svm_vmrun

# svm_nmi_window: opens GIF until an NMI's handler has set RAX, RCX times at most.

	.globl	svm_nmi_window
	.type	svm_nmi_window, @function
	.balign	16
svm_nmi_window:
	xor	eax, eax
	cli
1:	stgi
	nop
	clgi
	test	eax, eax
	jnz	2f
	dec	rcx
	jnz	1b
2:	sti
	.globl	svm_nmi_window_end
svm_nmi_window_end:
	ret
	.size	svm_nmi_window, . - svm_nmi_window
