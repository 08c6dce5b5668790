// SPDX-License-Identifier: GPL-2.0
/*
 * A first paravisor without a library: what
 * tools/vtl/examples/first_paravisor.rs does, with the ABI alone. Runs a guest
 * of a few bytes at VTL0 and prints what it says.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mshv_vtl_tdx.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define LARGE_PAGE 0x200000ULL
#define ALL_BITS (~0ULL)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Leaves of TDCALL, completion statuses, and two fields. [ABI 5.4, 3.3, 3.6] */
enum { TDG_MEM_PAGE_ACCEPT = 6, TDG_VP_WR = 10, TDG_MEM_PAGE_ATTR_WR = 24 };
#define IS_ERROR (1ULL << 63)
#define SIZE_MISMATCH 0xc0000b0b
#define L2_CTLS 0xa020000300000051ULL
#define TSC_DEADLINE 0xa020000300000059ULL

/* Exits. [SDM3 C] */
enum { EXIT_HLT = 12, EXIT_IO = 30 };

/* 1: lodsb; test al, al; jz 2f; out 0xe9, al; jmp 1b; 2: hlt */
static const unsigned char code[] = { 0xac, 0x84, 0xc0, 0x74, 0x04,
				      0xe6, 0xe9, 0xeb, 0xf7, 0xf4 };
static const char text[] = "hello from VTL0\n";

/* 32-bit protected mode without paging. */
static const struct {
	uint32_t encoding;
	uint64_t value;
} start_state[] = {
	/* CR0 and CR4, of which VTL0 changes nothing: read shadow, mask, value. */
	{ 0x6004, 0x31 },
	{ 0x6000, ALL_BITS },
	{ 0x6800, 0x31 },
	{ 0x6006, 0x600 },
	{ 0x6002, ALL_BITS },
	{ 0x6804, 0x2640 },
	/* CR3, EFER, DR7. */
	{ 0x6802, 0 },
	{ 0x2806, 0x800 },
	{ 0x681a, 0x400 },
	/* No event to deliver, nothing that blocks one, no debug exception. */
	{ 0x4016, 0 },
	{ 0x4824, 0 },
	{ 0x6822, 0 },
	/* Limit of the IDT. */
	{ 0x4812, 0 },
};

/* Segments by number: selector and access rights. All are flat, but for the last two. */
static const struct {
	uint16_t selector;
	uint32_t rights;
} segments[] = {
	{ 0x10, 0xc093 }, /* ES */
	{ 0x08, 0xc09b }, /* CS */
	{ 0x10, 0xc093 }, /* SS */
	{ 0x10, 0xc093 }, /* DS */
	{ 0x10, 0xc093 }, /* FS */
	{ 0x10, 0xc093 }, /* GS */
	{ 0, 0x10000 }, /* LDTR: unusable */
	{ 0x18, 0x8b }, /* TR: a busy 32-bit task */
};

static int vtl;

/* Returns the completion status. */
static uint64_t tdcall(const char *what, struct mshv_tdcall call)
{
	if (ioctl(vtl, MSHV_TDCALL, &call))
		err(1, "%s", what);
	return call.rax;
}

static void write_bits(uint64_t id, uint64_t value, uint64_t mask)
{
	struct mshv_tdcall call = {
		.rax = TDG_VP_WR, .rdx = id, .r8 = value, .r9 = mask
	};
	uint64_t status = tdcall("TDG.VP.WR", call);

	if (status & IS_ERROR)
		errx(1, "TDG.VP.WR of %#" PRIx64 ": status %#" PRIx64, id,
		     status);
}

/* A field of VM 1's VMCS by its VMX encoding, which has its size. [ABI 3.6.3] */
static void write_vmcs(uint32_t encoding, uint64_t value, uint64_t mask)
{
	static const struct {
		uint64_t id, all_bits;
	} sizes[] = {
		{ 0x2424000100000000, 0xffff },
		{ 0x2424000300000000, ALL_BITS },
		{ 0x2424000200000000, 0xffffffff },
		{ 0x2424000300000000, ALL_BITS }, /* natural width */
	};
	unsigned int size = encoding >> 13 & 3;

	write_bits(sizes[size].id + encoding, value,
		   mask & sizes[size].all_bits);
}

/* A leaf about a page of 4 KiB, or about the 2 MiB that it is part of. */
static void for_page(const char *what, uint64_t gpa, struct mshv_tdcall call)
{
	uint64_t status;

	call.rcx = gpa;
	status = tdcall(what, call);
	if (status >> 32 == SIZE_MISMATCH) {
		call.rcx = (gpa & -LARGE_PAGE) | 1;
		status = tdcall(what, call);
	}
	if (status & IS_ERROR)
		errx(1, "%s: status %#" PRIx64, what, status);
}

/* The page is accepted, and VTL0 gets all rights to it. */
static void give_page(uint64_t gpa)
{
	for_page("TDG.MEM.PAGE.ACCEPT", gpa,
		 (struct mshv_tdcall){ .rax = TDG_MEM_PAGE_ACCEPT });
	for_page("TDG.MEM.PAGE.ATTR.WR", gpa,
		 (struct mshv_tdcall){ .rax = TDG_MEM_PAGE_ATTR_WR,
				       .rdx = 0x8007ULL << 16,
				       .r8 = 0xfULL << 16 });
}

/* Puts VM 1 of this processor at the start of a page. */
static void reset(volatile struct mshv_vtl_run *run, uint64_t gpa)
{
	const struct mshv_tdx_vp_context start = {
		.fx_state = { [0] = 0x7f, [1] = 3, [24] = 0x80, [25] = 0x1f },
		.l2_enter_guest_state.rflags = 2,
		.l2_enter_guest_state.rip = gpa,
		.l2_enter_guest_state.gpr[6] = gpa + sizeof(code), /* RSI */
		.entry_rcx = 1ULL << MSHV_TDX_ENTRY_VM_SHIFT | 1,
	};
	size_t i;

	run->cancel = 0;
	run->flags = 0;
	run->offload_flags = 0;
	memcpy((void *)&run->tdx, &start, sizeof(start));
	for (i = 0; i < ARRAY_SIZE(start_state); i++)
		write_vmcs(start_state[i].encoding, start_state[i].value,
			   ALL_BITS);
	for (i = 0; i < ARRAY_SIZE(segments); i++) {
		write_vmcs(0x0800 + 2 * i, segments[i].selector, ALL_BITS);
		write_vmcs(0x6806 + 2 * i, 0, ALL_BITS); /* base */
		write_vmcs(0x4800 + 2 * i, i < 6 ? 0xffffffff : 0x67, ALL_BITS);
		write_vmcs(0x4814 + 2 * i, segments[i].rights, ALL_BITS);
	}
	/* Entry controls: no 64-bit mode. Exceptions: none of those that are ours. */
	write_vmcs(0x4012, 0, 0x200);
	write_vmcs(0x4004, 0, ~0x40000ULL);
	write_bits(L2_CTLS, 0, 7);
	write_bits(TSC_DEADLINE, ALL_BITS, ALL_BITS);
}

int main(void)
{
	int mshv = open("/dev/mshv", O_RDWR);
	int low = open("/dev/mshv_vtl_low", O_RDWR);
	FILE *list = fopen("/sys/module/mshv_vtl_tdx/parameters/vtl0_mem", "r");
	volatile struct mshv_vtl_run *run;
	cpu_set_t first;
	uint64_t gpa;
	char *page;

	if (mshv < 0 || low < 0 || !list)
		err(1, "the module is not loaded");
	/* One page of the memory that the module has for lower VTLs. */
	if (fscanf(list, "%" SCNx64, &gpa) != 1)
		errx(1, "no memory for lower VTLs");
	/* Each processor has a VP, which only a thread on it can run. */
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
	vtl = ioctl(mshv, MSHV_CREATE_VTL, &(char){ 0 });
	if (vtl < 0)
		err(1, "MSHV_CREATE_VTL");
	run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vtl,
		   MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_RUN_PAGE, 0) * PAGE);
	give_page(gpa);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, low, gpa);
	if (run == MAP_FAILED || page == MAP_FAILED)
		err(1, "mmap");
	memcpy(page, code, sizeof(code));
	memcpy(page + sizeof(code), text, sizeof(text));

	for (reset(run, gpa);;) {
		if (ioctl(vtl, MSHV_RETURN_TO_LOWER_VTL))
			err(1, "MSHV_RETURN_TO_LOWER_VTL");
		switch (run->tdx.exit_info.rax) {
		case EXIT_IO:
			putchar(run->tdx.l2_enter_guest_state.gpr[0] & 0xff);
			run->tdx.l2_enter_guest_state.rip +=
				run->tdx.exit_info.r11 >> 32;
			break;
		case EXIT_HLT:
			return 0;
		default:
			errx(1, "exit %#llx", run->tdx.exit_info.rax);
		}
	}
}
