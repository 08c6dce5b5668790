/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Checks what Documentation/first-guest.rst promises to a guest of `vtlctl run` in
 * 64-bit mode. Prints "kept", or a letter for the first promise that is broken: A
 * is the first one.
 */
	.code64
	.globl	_start

	.set	number, 0
/* The promise is kept if the comparison before it found both equal. */
.macro	promise
	.set	number, number + 1
	mov	$number, %r15d
	jne	broken
.endm

_start:
	pushfq
	popq	%r12
	mov	%rdi, %r8
	mov	%rsi, %r9
	lea	_start(%rip), %r10
	cmp	%r10, %rdx
	promise			# RDX is the address of the first byte
	lea	(%r8, %r9), %r10
	cmp	%r10, %rsp
	promise			# RSP is the end of memory
	lea	0x100000(%r8), %r10
	cmp	%r10, %rdx
	promise			# which is 1 MiB after the beginning
	cmp	$2, %r12
	promise			# RFLAGS: interrupts are disabled
	mov	%cr3, %r10
	lea	0x1000(%r8), %r11
	cmp	%r10, %r11
	promise			# page tables
	mov	%cs, %eax
	cmp	$8, %eax
	promise
	mov	%ss, %eax
	cmp	$0x10, %eax
	promise
	mov	(%r8), %r10		# the first descriptor, which is empty
	cmp	$0, %r10
	promise
	mov	$1, %eax
	mov	$0x1234, %ebx
	vmcall
	cmp	$0x1234, %rax
	promise			# the service that echoes
	mov	$77, %eax
	vmcall
	cmp	$-1, %rax
	promise			# one that there is not
	mov	$0x3fd, %edx
	inb	%dx, %al
	cmp	$0x60, %al
	promise			# the serial port is always ready
	inb	$0xe9, %al
	cmp	$0xe9, %al
	promise			# the debug port
	inl	$0x60, %eax
	cmp	$-1, %eax
	promise			# other ports float
	outb	%al, $0x80
	mov	$0x40000000, %eax
	cpuid
	cmp	$0x636c7476, %ebx	# "vtlc"
	promise			# the leaf of the hypervisor
	mov	$0x40000010, %eax
	cpuid
	or	%ebx, %eax
	or	%ecx, %eax
	or	%edx, %eax
	cmp	$0, %eax
	promise			# other leaves are zero
	mov	$0x1b, %ecx
	rdmsr
	cmp	$0xfee00900, %eax
	promise			# IA32_APIC_BASE
	mov	$0xc0000102, %ecx
	mov	$0x5678, %eax
	xor	%edx, %edx
	wrmsr
	rdmsr
	cmp	$0x5678, %eax
	promise			# KERNEL_GS_BASE keeps its value
	movb	$'k', %al
	outb	%al, $0xe9
	movb	$'e', %al
	outb	%al, $0xe9
	movb	$'p', %al
	outb	%al, $0xe9
	movb	$'t', %al
end:
	outb	%al, $0xe9
	movb	$'\n', %al
	outb	%al, $0xe9
	hlt

broken:
	mov	%r15d, %eax
	add	$'@', %al
	jmp	end
