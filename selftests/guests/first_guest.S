/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A first guest for `vtlctl run`, in 64-bit mode: prints a line, has its paravisor
 * add two numbers, prints the sum, and halts. See Documentation/first-guest.rst.
 */
	.code64
	.globl	_start
_start:
	lea	hello(%rip), %rsi
	call	print

	mov	$2, %eax		# the service that adds
	mov	$40, %ebx
	mov	$2, %ecx
	vmcall				# the sum is in RAX
	mov	$10, %ecx
	xor	%edx, %edx
	div	%ecx
	add	%al, tens(%rip)
	add	%dl, ones(%rip)
	lea	sum(%rip), %rsi
	call	print
	hlt

/* Prints the text at RSI, up to its zero byte, by the serial port. */
print:
	mov	$0x3f8, %edx
next:	lodsb
	test	%al, %al
	jz	done
	outb	%al, %dx
	jmp	next
done:	ret

hello:	.asciz	"hello from a guest of my own\n"
sum:	.ascii	"40 + 2 = "
tens:	.ascii	"0"
ones:	.asciz	"0\n"
