// SPDX-License-Identifier: GPL-2.0
/*
 * A first paravisor: runs a guest of a few bytes at VTL0 and prints what it says.
 */
#include <err.h>
#include <mshv_vtl.h>

/* 1: lodsb; test al, al; jz 2f; out 0xe9, al; jmp 1b; 2: hlt */
static const unsigned char code[] = { 0xac, 0x84, 0xc0, 0x74, 0x04,
				      0xe6, 0xe9, 0xeb, 0xf7, 0xf4 };
static const char text[] = "hello from VTL0\n";

int main(void)
{
	volatile __u64 *registers;
	struct vtl_vp vp;
	__u64 gpa, size;
	char *memory;
	int exit;

	if (vtl_open(&vp, 0))
		err(1, "VTL0 of CPU 0 (is the module loaded?)");
	/* One page of the memory that the module has for lower VTLs. */
	if (vtl_first_range(&gpa, &size))
		err(1, "memory of the lower VTLs");
	memory = vtl_give(&vp, gpa, VTL_PAGE);
	if (memory == MAP_FAILED)
		err(1, "page %#llx, status %#llx", gpa, vp.status);
	memcpy(memory, code, sizeof(code));
	memcpy(memory + sizeof(code), text, sizeof(text));

	if (vtl_start_prot32(&vp, gpa))
		err(1, "start, status %#llx", vp.status);
	registers = vp.run->tdx.l2_enter_guest_state.gpr;
	registers[VTL_RSI] = gpa + sizeof(code);
	for (;;) {
		exit = vtl_run(&vp);
		switch (exit) {
		case VTL_EXIT_IO:
			putchar(registers[VTL_RAX] & 0xff);
			vtl_skip(&vp);
			break;
		case VTL_EXIT_HLT:
			return 0;
		case -1:
			err(1, "run");
		default:
			errx(1, "unexpected exit %d", exit);
		}
	}
}
