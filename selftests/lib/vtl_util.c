// SPDX-License-Identifier: GPL-2.0
/*
 * Shared by the tests: devices, TDCALLs, and a guest at VTL0.
 *
 * Functions that return int give 0 or a descriptor on success and -1 with
 * errno (or with a text in vtl_guest.why) on failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "kselftest.h"
#include "vtl_util.h"

int vtl_open(const char *path)
{
	return open(path, O_RDWR | O_CLOEXEC);
}

int vtl_create(void)
{
	int mshv = vtl_open(DEV_MSHV);
	char unused = 0;
	int vtl;

	if (mshv < 0)
		return -1;
	vtl = ioctl(mshv, MSHV_CREATE_VTL, &unused);
	close(mshv);
	return vtl;
}

/*
 * Reads the list of lower-VTL memory that the module has claimed; returns its
 * length.
 */
int vtl_memory_ranges(struct vtl_range *ranges, int most)
{
	FILE *file = fopen("/sys/module/mshv_vtl_tdx/parameters/vtl0_mem", "r");
	int count = 0;

	if (!file)
		return 0;
	while (count < most &&
	       fscanf(file, "%" SCNx64 ",%" SCNx64, &ranges[count].start,
		      &ranges[count].size) == 2) {
		count++;
		if (fgetc(file) != ',')
			break;
	}
	fclose(file);
	return count;
}

/* The largest range that begins below @limit, cut to whole large pages. */
static bool largest_range(uint64_t limit, uint64_t *base, uint64_t *size)
{
	struct vtl_range ranges[32];
	int count = vtl_memory_ranges(ranges, 32), i;

	*size = 0;
	for (i = 0; i < count; i++) {
		uint64_t start = (ranges[i].start + VTL_LARGE_SIZE - 1) &
				 -VTL_LARGE_SIZE;
		uint64_t end = (ranges[i].start + ranges[i].size) &
			       -VTL_LARGE_SIZE;

		if (start < limit && end > start && end - start > *size) {
			*base = start;
			*size = end - start;
		}
	}
	return *size > 0;
}

/* VTL0's memory. The guests of the tests run in it, in 32-bit mode, too. */
bool vtl_memory(uint64_t *base, uint64_t *size)
{
	return largest_range(1ULL << 32, base, size);
}

/*
 * Pieces of 2 MiB in the middle of the largest range, far from this kernel's memory if
 * there is enough: eight at least, or false. No guest runs there.
 */
bool vtl_middle_memory(uint64_t *gpa)
{
	uint64_t base, size;

	if (!largest_range(~0ULL, &base, &size) || size < 16 * VTL_LARGE_SIZE)
		return false;
	*gpa = base + size / 2 / VTL_LARGE_SIZE * VTL_LARGE_SIZE;
	return true;
}

/* An aligned gigabyte of the largest range. */
bool vtl_huge_memory(uint64_t *gpa)
{
	uint64_t base, size;

	if (!largest_range(~0ULL, &base, &size))
		return false;
	*gpa = (base + VTL_HUGE_SIZE - 1) & -VTL_HUGE_SIZE;
	return *gpa + VTL_HUGE_SIZE <= base + size;
}

/* A page from the middle of the largest range that has this name. */
static bool find_named(const char *name, uint64_t *gpa)
{
	FILE *file = fopen("/proc/iomem", "r");
	uint64_t start, end, largest = 0;
	char line[256];

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (!strcasestr(line, name))
			continue;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
			continue;
		if (end - start > largest) {
			largest = end - start;
			*gpa = (start + largest / 2) & ~(VTL_LARGE_SIZE - 1);
		}
	}
	fclose(file);
	return largest > VTL_LARGE_SIZE;
}

bool vtl_system_ram(uint64_t *gpa)
{
	return find_named(": system ram", gpa);
}

bool vtl_kernel_text(uint64_t *gpa)
{
	return find_named(": kernel code", gpa);
}

bool vtl_unusable_memory(uint64_t *gpa)
{
	return find_named(": unusable memory", gpa);
}

void *vtl_map_page(int fd, unsigned int kind, unsigned int cpu)
{
	off_t offset = (off_t)MSHV_VTL_MMAP_PGOFF(kind, cpu) * VTL_PAGE_SIZE;

	return mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    offset);
}

/*
 * Returns true if the directory of a device is mounted noexec, so that the
 * kernel refuses an executable mapping (EPERM) before it asks the driver
 * (EINVAL).
 */
bool vtl_is_noexec(const char *path)
{
	struct statvfs info;

	return !statvfs(path, &info) && info.f_flag & ST_NOEXEC;
}

int vtl_tdcall(int fd, struct mshv_tdcall *call)
{
	return ioctl(fd, MSHV_TDCALL, call);
}

uint32_t vtl_status(const struct mshv_tdcall *call)
{
	return call->rax >> 32;
}

int vtl_read_field(int fd, uint64_t leaf, uint64_t id, uint64_t *value)
{
	struct mshv_tdcall call = { .rax = leaf, .rdx = id };

	if (vtl_tdcall(fd, &call))
		return -1;
	if (vtl_status(&call) != TDX_SUCCESS) {
		errno = EPROTO;
		return -1;
	}
	*value = call.r8;
	return 0;
}

static int fail(struct vtl_guest *guest, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(guest->why, sizeof(guest->why), format, arguments);
	va_end(arguments);
	return -1;
}

/*
 * Uses the virtual processor of @cpu for VM 1, with the calling thread on that
 * CPU and the first 2 MiB of VTL0's memory accepted and given to VTL0.
 */
int vtl_guest_open(struct vtl_guest *guest, int cpu)
{
	uint64_t size;

	memset(guest, 0, sizeof(*guest));
	guest->cpu = cpu;
	guest->vm = 1;
	guest->fd = vtl_create();
	if (guest->fd < 0)
		return fail(guest, "cannot make a VTL file: %s",
			    strerror(errno));
	if (!vtl_memory(&guest->base, &guest->size))
		return fail(guest, "no vtl0_mem= on the kernel command line");
	if (vtl_pin(cpu))
		return fail(guest, "cannot move to cpu %d: %s", cpu,
			    strerror(errno));
	guest->run = vtl_map_page(guest->fd, MSHV_VTL_MMAP_RUN_PAGE, cpu);
	if (guest->run == MAP_FAILED) {
		guest->run = NULL;
		return fail(guest, "cannot map the run page: %s",
			    strerror(errno));
	}
	size = guest->size < VTL_LARGE_SIZE ? guest->size : VTL_LARGE_SIZE;
	if (vtl_accept(guest->fd, guest->base, size))
		return fail(guest, "cannot accept memory: %s", strerror(errno));
	if (vtl_set_rights(guest->fd, guest->base, size, RIGHTS_ALL))
		return fail(guest, "cannot give memory to VM 1: %s",
			    strerror(errno));
	return 0;
}

/* Takes another VM than 1, and gives it what VM 1 has. */
int vtl_guest_use_vm(struct vtl_guest *guest, int vm)
{
	uint64_t size = guest->size < VTL_LARGE_SIZE ? guest->size :
						       VTL_LARGE_SIZE;

	guest->vm = vm;
	if (vtl_set_rights_of(guest->fd, vm, guest->base, size, RIGHTS_ALL))
		return fail(guest, "cannot give memory to VM %d: %s", vm,
			    strerror(errno));
	return 0;
}

/* What a field of VM 1 is called for the VM of the guest. */
uint64_t vtl_guest_field(const struct vtl_guest *guest, uint64_t id)
{
	unsigned int class = id >> 56 & 0x3f;
	uint64_t further = guest->vm - 1;

	/* The VMCS and its MSR bitmaps; L2_CTLS and TSC_DEADLINE. */
	return id + (class >= 0x24 && class <= 0x26 ? further << 59 : further);
}

/* The flat 32-bit start state, independent of what an earlier guest left. */
static const struct {
	uint64_t id, value, mask;
} start_state[] = {
	/* Read shadows and masks of CR0 and CR4, then the registers. */
	{ VMCS64(0x6004), 0x31, ~0ULL },
	{ VMCS64(0x6000), ~0ULL, ~0ULL },
	{ VMCS64(0x6006), 0x600, ~0ULL },
	{ VMCS64(0x6002), ~0ULL, ~0ULL },
	{ VMCS64(0x6800), 0x31, ~0ULL },
	{ VMCS64(0x6802), 0, ~0ULL },
	{ VMCS64(0x6804), 0x2640, ~0ULL },
	/* EFER (NXE only), entry controls without long mode, no event. */
	{ VMCS64(0x2806), 0x800, ~0ULL },
	{ VMCS32(0x4012), 0, 0x200 },
	{ VMCS32(0x4016), 0, 0xffffffff },
	{ VMCS32(0x4004), 0, 0xfffbffff },
	/* Interruptibility, pending debug exceptions, DR7. */
	{ VMCS32(0x4824), 0, 0xffffffff },
	{ VMCS64(0x6822), 0, ~0ULL },
	{ VMCS64(0x681a), 0x400, ~0ULL },
	/* Code segment. */
	{ VMCS16(0x0802), 0x8, 0xffff },
	{ VMCS64(0x6808), 0, ~0ULL },
	{ VMCS32(0x4802), 0xffffffff, 0xffffffff },
	{ VMCS32(0x4816), 0xc09b, 0xffffffff },
	/* LDTR unusable, TR a busy 32-bit task, empty IDT. */
	{ VMCS32(0x4820), 0x10000, 0xffffffff },
	{ VMCS16(0x080e), 0x18, 0xffff },
	{ VMCS64(0x6814), 0, ~0ULL },
	{ VMCS32(0x480e), 0x67, 0xffffffff },
	{ VMCS32(0x4822), 0x8b, 0xffffffff },
	{ VMCS32(0x4812), 0, 0xffffffff },
	/* No calls to the host, no timer. */
	{ FIELD_L2_CTLS(1), 0, 7 },
	{ FIELD_TSC_DEADLINE(1), ~0ULL, ~0ULL },
};

/* ES, SS, DS, FS, GS: what to add to the encodings of ES. */
static const unsigned int data_segments[] = { 0, 4, 6, 8, 10 };

/* Writes a field of VM 1, or the corresponding one of another VM. */
int vtl_guest_write_field(struct vtl_guest *guest, uint64_t id, uint64_t value,
			  uint64_t mask)
{
	struct mshv_tdcall call = {
		.rax = TDG_VP_WR,
		.rdx = vtl_guest_field(guest, id),
		.r8 = value,
		.r9 = mask,
	};

	if (vtl_tdcall(guest->fd, &call))
		return fail(guest, "TDCALL ioctl: %s", strerror(errno));
	if (vtl_status(&call) != TDX_SUCCESS)
		return fail(guest, "TDG.VP.WR of %" PRIx64 ": status %" PRIx64,
			    id, (uint64_t)call.rax);
	return 0;
}

/* VM 1 has a virtual-APIC page from the kernel, any other VM needs one. */
int vtl_guest_give_apic_page(struct vtl_guest *guest)
{
	return vtl_guest_write_field(
		guest, VMCS_VIRTUAL_APIC_PAGE,
		guest->base + (3 + guest->cpu) * VTL_PAGE_SIZE, ~0ULL);
}

static int write_data_segment(struct vtl_guest *guest, unsigned int segment)
{
	if (vtl_guest_write_field(guest, VMCS16(0x0800 + segment), 0x10,
				  0xffff) ||
	    vtl_guest_write_field(guest, VMCS64(0x6806 + segment), 0, ~0ULL) ||
	    vtl_guest_write_field(guest, VMCS32(0x4800 + segment), 0xffffffff,
				  0xffffffff))
		return -1;
	return vtl_guest_write_field(guest, VMCS32(0x4814 + segment), 0xc093,
				     0xffffffff);
}

static void fill(volatile void *start, size_t size)
{
	volatile uint8_t *at = start;

	while (size--)
		*at++ = 0;
}

/* Puts the run page into its start state: see struct mshv_vtl_run. */
static void reset_run_page(struct vtl_guest *guest)
{
	volatile struct mshv_vtl_run *run = guest->run;

	run->cancel = 0;
	run->flags = 0;
	run->scan_proxy_irr = 0;
	run->offload_flags = 0;
	run->pad = 0;
	run->enter_mode = 0;
	fill(&run->tdx, sizeof(run->tdx));
	fill(&run->proxy_irr, sizeof(run->proxy_irr));
	*(volatile uint16_t *)&run->tdx.fx_state[0] = 0x037f;
	*(volatile uint32_t *)&run->tdx.fx_state[24] = 0x1f80;
	run->tdx.l2_enter_guest_state.rflags = 2;
	run->tdx.l2_enter_guest_state.rip = guest->base;
	run->tdx.l2_enter_guest_state.gpr[RSP] = guest->base + VTL_PAGE_SIZE;
	run->tdx.entry_rcx = (uint64_t)guest->vm << MSHV_TDX_ENTRY_VM_SHIFT | 1;
}

/* Sets the processor to the first instruction. */
int vtl_guest_start(struct vtl_guest *guest)
{
	size_t i;

	reset_run_page(guest);
	for (i = 0; i < ARRAY_SIZE(start_state); i++)
		if (vtl_guest_write_field(guest, start_state[i].id,
					  start_state[i].value,
					  start_state[i].mask))
			return -1;
	for (i = 0; i < ARRAY_SIZE(data_segments); i++)
		if (write_data_segment(guest, data_segments[i]))
			return -1;
	return 0;
}

/* Copies the code of a guest to the start of memory, and starts it there. */
int vtl_guest_load(struct vtl_guest *guest, const unsigned char *code,
		   const unsigned char *end)
{
	volatile uint8_t *memory = vtl_map_low(guest->base, VTL_PAGE_SIZE);
	size_t i;

	if (memory == MAP_FAILED)
		return fail(guest, "cannot map VTL0's memory: %s",
			    strerror(errno));
	for (i = 0; code + i < end; i++)
		memory[i] = code[i];
	munmap((void *)memory, VTL_PAGE_SIZE);
	return vtl_guest_start(guest);
}

void vtl_guest_close(struct vtl_guest *guest)
{
	if (guest->run) {
		/* The page outlives this process: leave no cancel set. */
		guest->run->cancel = 0;
		munmap((void *)guest->run, VTL_PAGE_SIZE);
	}
	if (guest->fd > 0)
		close(guest->fd);
}

/* One RETURN_TO_LOWER_VTL: 0 or the negative errno. */
int vtl_enter(struct vtl_guest *guest)
{
	return ioctl(guest->fd, MSHV_RETURN_TO_LOWER_VTL) ? -errno : 0;
}

int vtl_kick(const struct vtl_guest *guest, uint64_t flags)
{
	uint64_t mask = 1ULL << guest->cpu;
	struct mshv_kick_cpus request = {
		.len_bits = 64,
		.cpu_mask = (uintptr_t)&mask,
		.flags = flags,
	};

	return ioctl(guest->fd, MSHV_KICK_CPUS, &request) ? -errno : 0;
}

/* An exit of the guest's own: what it did, or an access that the host saw first. */
static bool is_exit(uint64_t rax)
{
	return rax >> 32 == TDX_SUCCESS ||
	       (rax >> 32 == TDX_L2_EXIT_HOST_ROUTED_ASYNC &&
		(rax & 0xffff) == EXIT_EPT_VIOLATION);
}

/* Enters until there is an exit to check, or an error. */
int vtl_run(struct vtl_guest *guest)
{
	int result;

	do {
		result = vtl_enter(guest);
	} while (!result && !is_exit(guest->run->tdx.exit_info.rax));
	return result;
}

/*
 * The raw reason, so that an entry failure (bit 31) does not match a valid
 * one.
 */
unsigned int vtl_exit_reason(const struct vtl_guest *guest)
{
	return (uint32_t)guest->run->tdx.exit_info.rax;
}

void vtl_step_over(struct vtl_guest *guest)
{
	guest->run->tdx.l2_enter_guest_state.rip +=
		guest->run->tdx.exit_info.r11 >> 32;
}

uint64_t vtl_roll(uint64_t *dice)
{
	*dice = *dice * 6364136223846793005ULL + 1442695040888963407ULL;
	return *dice >> 33 | *dice << 31;
}

unsigned long vtl_setting(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : otherwise;
}
