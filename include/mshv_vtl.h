/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Helpers in C for a program that runs a guest at VTL0: the memory that it gets,
 * the state that it starts in, and entering it. They call what
 * <linux/mshv_vtl_tdx.h> declares, and nothing else. [ABI] and [SDM3] are named in
 * Documentation/bibliography.rst.
 *
 * A function that fails returns -1, or MAP_FAILED, and sets errno. With EIO the TDX
 * module has refused a TDCALL, and its status is in @status of the VP.
 */
#ifndef MSHV_VTL_H
#define MSHV_VTL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mshv_vtl_tdx.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VTL_PAGE 4096ULL
#define VTL_LARGE_PAGE 0x200000ULL
#define VTL_ALL_BITS (~0ULL)

/* Leaves of TDCALL. [ABI 5.4] */
#define VTL_MEM_PAGE_ACCEPT 6
#define VTL_VP_WR 10
#define VTL_MEM_PAGE_ATTR_WR 24

/* Completion statuses, without their details. [ABI 3.3] */
#define VTL_OPERAND_BUSY 0x80000200U
#define VTL_PAGE_SIZE_MISMATCH 0xc0000b0bU

/* What vtl_run() returns. [SDM3 C] */
#define VTL_EXIT_TRIPLE_FAULT 2
#define VTL_EXIT_CPUID 10
#define VTL_EXIT_HLT 12
#define VTL_EXIT_VMCALL 18
#define VTL_EXIT_IO 30
#define VTL_EXIT_RDMSR 31
#define VTL_EXIT_WRMSR 32
#define VTL_EXIT_EPT_VIOLATION 48

/* Registers, as indices of l2_enter_guest_state.gpr. */
enum { VTL_RAX, VTL_RCX, VTL_RDX, VTL_RBX, VTL_RSP, VTL_RBP, VTL_RSI, VTL_RDI };

/**
 * struct vtl_vp - Virtual processor of a CPU, with VTL0 on it
 * @fd: VTL file descriptor
 * @low: memory of the lower VTLs, by guest-physical address
 * @run: the run page
 * @status: status of the latest TDCALL
 */
struct vtl_vp {
	int fd;
	int low;
	volatile struct mshv_vtl_run *run;
	__u64 status;
};

/* Undoes vtl_open(). What is mapped of VTL0's memory stays mapped. */
static inline void vtl_close(struct vtl_vp *vp)
{
	if (vp->run != MAP_FAILED)
		munmap((void *)vp->run, VTL_PAGE);
	if (vp->low >= 0)
		close(vp->low);
	if (vp->fd >= 0)
		close(vp->fd);
}

/* Binds this thread to a CPU, whose virtual processor only a thread on it runs. */
static inline int vtl_open(struct vtl_vp *vp, unsigned int cpu)
{
	unsigned long cpus[128] = { 0 };
	const unsigned int bits = 8 * sizeof(cpus[0]);
	int error;

	vp->run = (volatile struct mshv_vtl_run *)MAP_FAILED;
	vp->status = 0;
	vp->low = open("/dev/mshv_vtl_low", O_RDWR | O_CLOEXEC);
	vp->fd = open("/dev/mshv_vtl", O_RDWR | O_CLOEXEC);
	if (vp->low < 0 || vp->fd < 0)
		goto failed;
	errno = EINVAL;
	if (cpu >= bits * 128)
		goto failed;
	cpus[cpu / bits] = 1UL << cpu % bits;
	if (syscall(SYS_sched_setaffinity, 0, sizeof(cpus), cpus) < 0)
		goto failed;
	vp->run = (volatile struct mshv_vtl_run *)mmap(
		NULL, VTL_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, vp->fd,
		MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_RUN_PAGE, cpu) * VTL_PAGE);
	if (vp->run != MAP_FAILED)
		return 0;
failed:
	error = errno;
	vtl_close(vp);
	errno = error;
	return -1;
}

/* The first range of memory that the module has for lower VTLs; ENXIO: it has none. */
static inline int vtl_first_range(__u64 *base, __u64 *size)
{
	FILE *list = fopen("/sys/module/mshv_vtl_tdx/parameters/vtl0_mem", "r");
	int found;

	if (!list)
		return -1;
	found = fscanf(list, "%llx,%llx", base, size);
	fclose(list);
	errno = ENXIO;
	return found == 2 ? 0 : -1;
}

/* The registers in @call become those after it, where it succeeds. */
static inline int vtl_tdcall(struct vtl_vp *vp, struct mshv_tdcall *call)
{
	struct mshv_tdcall once;
	int tries = 1000;

	do {
		once = *call;
		if (ioctl(vp->fd, MSHV_TDCALL, &once))
			return -1;
		vp->status = once.rax;
	} while (once.rax >> 32 == VTL_OPERAND_BUSY && --tries);
	if (once.rax >> 63) {
		errno = EIO;
		return -1;
	}
	*call = once;
	return 0;
}

/* Changes the bits of @mask in a field of the TDX module, by its identifier. [ABI 3.6] */
static inline int vtl_write_field(struct vtl_vp *vp, __u64 id, __u64 value,
				  __u64 mask)
{
	struct mshv_tdcall call = { .rax = VTL_VP_WR };

	call.rdx = id;
	call.r8 = value;
	call.r9 = mask;
	return vtl_tdcall(vp, &call);
}

/* The same for VTL0's VMCS, by VMX encoding, which has the size of the field. [ABI 3.6.3] */
static inline int vtl_write_vmcs(struct vtl_vp *vp, __u32 encoding, __u64 value,
				 __u64 mask)
{
	static const struct {
		__u64 id, bits;
	} sizes[] = {
		{ 0x2424000100000000, 0xffff },
		{ 0x2424000300000000, VTL_ALL_BITS },
		{ 0x2424000200000000, 0xffffffff },
		{ 0x2424000300000000, VTL_ALL_BITS }, /* natural width */
	};
	unsigned int size = encoding >> 13 & 3;

	return vtl_write_field(vp, sizes[size].id + encoding, value,
			       mask & sizes[size].bits);
}

/* A leaf for each page of a range, or each 2 MiB, where the host has mapped these. */
static inline int vtl_for_pages(struct vtl_vp *vp, __u64 gpa, __u64 size,
				const struct mshv_tdcall *leaf)
{
	__u64 end = gpa + size, next;

	for (; gpa < end; gpa = next) {
		struct mshv_tdcall call = *leaf;

		call.rcx = gpa;
		next = gpa + VTL_PAGE;
		if (!vtl_tdcall(vp, &call))
			continue;
		if (vp->status >> 32 != VTL_PAGE_SIZE_MISMATCH)
			return -1;
		call = *leaf;
		call.rcx = (gpa & -VTL_LARGE_PAGE) | 1;
		next = (gpa & -VTL_LARGE_PAGE) + VTL_LARGE_PAGE;
		if (vtl_tdcall(vp, &call))
			return -1;
	}
	return 0;
}

/*
 * Gives VTL0 all rights to memory, which is zero then, and maps it here. The range
 * consists of whole pages; where the host has mapped 2 MiB, VTL0 gets all of these.
 */
static inline void *vtl_give(struct vtl_vp *vp, __u64 gpa, __u64 size)
{
	const struct mshv_tdcall accept = { .rax = VTL_MEM_PAGE_ACCEPT };
	struct mshv_tdcall rights = { .rax = VTL_MEM_PAGE_ATTR_WR };
	void *memory;
	int error;

	rights.rdx = 0x800fULL << 16;
	rights.r8 = 0x000fULL << 16;
	if (vtl_for_pages(vp, gpa, size, &accept))
		return MAP_FAILED;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vp->low,
		      (off_t)gpa);
	if (memory == MAP_FAILED)
		return MAP_FAILED;
	/* A page that was accepted before has what an earlier guest left in it. */
	memset(memory, 0, size);
	if (!vtl_for_pages(vp, gpa, size, &rights))
		return memory;
	error = errno;
	munmap(memory, size);
	errno = error;
	return MAP_FAILED;
}

/* Whole fields of VTL0's VMCS, by encoding and value; after them a row of zeros. */
static inline int vtl_write_rows(struct vtl_vp *vp, const __u64 rows[][2])
{
	for (; rows[0][0]; rows++)
		if (vtl_write_vmcs(vp, rows[0][0], rows[0][1], VTL_ALL_BITS))
			return -1;
	return 0;
}

/* A segment register by its number: selector, limit, access rights; its base is 0. */
static inline int vtl_write_segment(struct vtl_vp *vp, unsigned int number,
				    __u16 selector, __u32 limit, __u32 rights)
{
	const __u64 rows[][2] = { { 0x0800 + 2 * number, selector },
				  { 0x6806 + 2 * number, 0 },
				  { 0x4800 + 2 * number, limit },
				  { 0x4814 + 2 * number, rights },
				  { 0, 0 } };

	return vtl_write_rows(vp, rows);
}

/* The VMCS at the start of a program in flat 32-bit protected mode. */
static inline int vtl_write_prot32(struct vtl_vp *vp)
{
	static const __u64 rows[][2] = {
		/* CR0 and CR4, of which VTL0 changes nothing: read shadow, mask, value. */
		{ 0x6004, 0x31 },
		{ 0x6000, VTL_ALL_BITS },
		{ 0x6800, 0x31 },
		{ 0x6006, 0 },
		{ 0x6002, VTL_ALL_BITS },
		{ 0x6804, 0x2040 },
		/* CR3, EFER, PAT, DR7, SYSENTER_CS, ESP, EIP. */
		{ 0x6802, 0 },
		{ 0x2806, 0x800 },
		{ 0x2804, 0x0007040600070406 },
		{ 0x681a, 0x400 },
		{ 0x482a, 0 },
		{ 0x6824, 0 },
		{ 0x6826, 0 },
		/* No event to deliver, nothing that blocks one, no debug exception. */
		{ 0x4016, 0 },
		{ 0x4824, 0 },
		{ 0x6822, 0 },
		/* Base and limit of GDTR and IDTR; TPR threshold. */
		{ 0x6816, 0 },
		{ 0x4810, 0 },
		{ 0x6818, 0 },
		{ 0x4812, 0 },
		{ 0x401c, 0 },
		{ 0, 0 }
	};
	unsigned int i;

	/* ES, CS, SS, DS, FS, GS. */
	for (i = 0; i < 6; i++)
		if (vtl_write_segment(vp, i, i == 1 ? 0x08 : 0x10, 0xffffffff,
				      i == 1 ? 0xc09b : 0xc093))
			return -1;
	/* LDTR: unusable. TR: a busy 32-bit task. */
	if (vtl_write_segment(vp, 6, 0, 0xffff, 0x10000) ||
	    vtl_write_segment(vp, 7, 0x18, 0x67, 0x8b) ||
	    vtl_write_rows(vp, rows))
		return -1;
	/* No 64-bit mode; RDPMC exits, windows do not; no exception that is ours exits. */
	if (vtl_write_vmcs(vp, 0x4012, 0, 0x200) ||
	    vtl_write_vmcs(vp, 0x4002, 0x800, 0x400804) ||
	    vtl_write_vmcs(vp, 0x4004, 0, ~0x40000ULL))
		return -1;
	return 0;
}

/*
 * Puts VTL0 at the start of a program in 32-bit protected mode: registers zero except
 * @rip, no paging, flat segments, interrupts disabled. Also resets what all lower VTLs
 * of the processor share. All of it is written, because the VMCS outlives its users.
 */
static inline int vtl_start_prot32(struct vtl_vp *vp, __u64 rip)
{
	static const __u8 fpu[] = { [0] = 0x7f, 3, [24] = 0x80, 0x1f };
	struct mshv_vtl_head head = { .size = sizeof(head) };
	volatile struct mshv_tdx_vp_context *tdx = &vp->run->tdx;

	if (ioctl(vp->fd, MSHV_VTL_RESET, &head) || vtl_write_prot32(vp) ||
	    /* L2_CTLS, TSC_DEADLINE. [ABI 3.6] */
	    vtl_write_field(vp, 0xa020000300000051, 0, 7) ||
	    vtl_write_field(vp, 0xa020000300000059, VTL_ALL_BITS, VTL_ALL_BITS))
		return -1;
	vp->run->cancel = 0;
	memcpy((void *)tdx->fx_state, fpu, sizeof(fpu));
	tdx->l2_enter_guest_state.rflags = 2;
	tdx->l2_enter_guest_state.rip = rip;
	tdx->entry_rcx = 1ULL << MSHV_TDX_ENTRY_VM_SHIFT | 1;
	return 0;
}

/*
 * Runs VTL0 until there is something to handle, and returns the exit reason. A signal
 * alone does not end it: to end it, a handler sets run->cancel, which is EINTR then.
 */
static inline int vtl_run(struct vtl_vp *vp)
{
	while (ioctl(vp->fd, MSHV_RETURN_TO_LOWER_VTL))
		if (errno != EINTR || vp->run->cancel ||
		    vp->run->scan_proxy_irr)
			return -1;
	return vp->run->tdx.exit_info.rax & 0xffff;
}

/* Steps over the instruction that has exited. */
static inline void vtl_skip(struct vtl_vp *vp)
{
	volatile struct mshv_tdx_vp_context *tdx = &vp->run->tdx;

	tdx->l2_enter_guest_state.rip += tdx->exit_info.r11 >> 32;
}

#endif
