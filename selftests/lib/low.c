// SPDX-License-Identifier: GPL-2.0
/* Memory of the lower VTLs: rights, mappings, and what the kernel says of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernel_access.h"
#include "kselftest.h"
#include "vtl_util.h"

/* Applies a page leaf to a range, 2 MiB at a time where that works. */
static int walk_pages(int fd, uint64_t base, uint64_t size,
		      struct mshv_tdcall wanted)
{
	uint64_t gpa = base, small_until = 0;

	while (gpa < base + size) {
		bool large = gpa >= small_until && !(gpa % VTL_LARGE_SIZE) &&
			     base + size - gpa >= VTL_LARGE_SIZE;
		struct mshv_tdcall call = wanted;

		call.rcx = gpa | large;
		if (vtl_tdcall(fd, &call))
			return -1;
		switch (vtl_status(&call)) {
		case TDX_SUCCESS:
		case TDX_PAGE_ALREADY_ACCEPTED:
			gpa += large ? VTL_LARGE_SIZE : VTL_PAGE_SIZE;
			break;
		case TDX_OPERAND_BUSY:
			break;
		case TDX_PAGE_SIZE_MISMATCH:
			if (large) {
				small_until = gpa + VTL_LARGE_SIZE;
				break;
			}
			/* fallthrough */
		default:
			errno = EPROTO;
			return -1;
		}
	}
	return 0;
}

int vtl_accept(int fd, uint64_t base, uint64_t size)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ACCEPT };

	return walk_pages(fd, base, size, call);
}

/*
 * Gives a VM exactly these rights. Of whole pieces of 2 MiB only: one that is split stays
 * so, and each later vtl_guest_open() has a thousand TDCALLs to make instead of two.
 */
int vtl_set_rights_of(int fd, int vm, uint64_t base, uint64_t size,
		      unsigned int rights)
{
	struct mshv_tdcall call = {
		.rax = TDG_MEM_PAGE_ATTR_WR,
		.rdx = (0x8000ULL | rights) << 16 * vm,
		.r8 = 0xfULL << 16 * vm,
	};

	if ((base | size) % VTL_LARGE_SIZE) {
		errno = EINVAL;
		return -1;
	}
	return walk_pages(fd, base, size, call);
}

int vtl_set_rights(int fd, uint64_t base, uint64_t size, unsigned int rights)
{
	return vtl_set_rights_of(fd, 1, base, size, rights);
}

void *vtl_map_low(uint64_t gpa, size_t size)
{
	int fd = vtl_open(DEV_MSHV_VTL_LOW);
	void *memory;

	if (fd < 0)
		return MAP_FAILED;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      (off_t)gpa);
	close(fd);
	return memory;
}

/* More is reserved, and what is left over stays: it costs nothing. */
void *vtl_map_low_large(uint64_t gpa, size_t size)
{
	unsigned char *space = mmap(NULL, size + VTL_HUGE_SIZE, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				    -1, 0);
	int fd = vtl_open(DEV_MSHV_VTL_LOW);
	void *memory = MAP_FAILED;

	if (space != MAP_FAILED && fd >= 0) {
		space += (gpa - (uintptr_t)space) % VTL_HUGE_SIZE;
		memory = mmap(space, size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, fd, (off_t)gpa);
	}
	close(fd);
	return memory;
}

int vtl_register(int fd, uint64_t gpa, uint64_t size)
{
	struct mshv_vtl_ram_disposition range = {
		.start_pfn = gpa / VTL_PAGE_SIZE,
		.last_pfn = (gpa + size) / VTL_PAGE_SIZE,
	};

	return ioctl(fd, MSHV_ADD_VTL0_MEMORY, &range) ? -errno : 0;
}

bool vtl_stays_registered(uint64_t gpa)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	int left = 300, end;

	do {
		void *memory = vtl_map_low(gpa, VTL_PAGE_SIZE);

		end = memory == MAP_FAILED ? 0 : vtl_pipe_pin(memory);
		if (end > 0)
			close(end);
		munmap(memory, VTL_PAGE_SIZE);
		/* While nothing is open, the module checks by a timer, too. */
		nanosleep(&pause, NULL);
	} while (end >= 0 && --left);
	return end >= 0;
}

bool vtl_memory_named(const char *name, uint64_t *gpa)
{
	FILE *file = fopen("/proc/iomem", "r");
	bool found = false;
	char line[256];

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = strcasestr(line, name) &&
			sscanf(line, "%" SCNx64, gpa) == 1;
	fclose(file);
	return found;
}

const char *vtl_kernel_complaint(void)
{
	static const char *const words[] = { "WARNING:", "BUG:",
					     "Oops",	 "bad pud",
					     "bad pmd",	 "general protection" };
	static char log[1 << 18], line[128];
	int size =
		klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);
	size_t i;

	log[size < 0 ? 0 : size] = 0;
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		const char *at = strstr(log, words[i]);

		if (at) {
			snprintf(line, sizeof(line), "%.*s",
				 (int)strcspn(at, "\n"), at);
			printf("# kernel: %s\n", line);
			return line;
		}
	}
	return NULL;
}
