// SPDX-License-Identifier: GPL-2.0
/*
 * What is not in the list of lower-VTL memory (vtl0_mem=) is out of reach, whatever
 * it is: System RAM, ACPI tables, the non-volatile storage with the mailbox that
 * wakes processors, ROMs, page 0, interrupt controllers, a gap of the list. Each way
 * in which userspace names a guest-physical address is tried on all of them.
 * memory_list.sh runs this with other lists, too.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define VIRTUAL_APIC_PAGE_VM2 0x2c20000300002012ULL
#define MAX_PAGES 512

static sigjmp_buf after_fault;

static void on_fault(int signal)
{
	siglongjmp(after_fault, signal);
}

/* The signal that reading a byte ends with, or 0. Nothing is written. */
static int touch(const volatile uint8_t *at)
{
	int signal = sigsetjmp(after_fault, 1);

	if (!signal)
		(void)*at;
	return signal;
}

struct page {
	uint64_t gpa;
	char what[64];
};

FIXTURE(list)
{
	int vtl, num_ranges, num_pages;
	struct vtl_range ranges[32];
	/* Of those that are not in the list. */
	struct page pages[MAX_PAGES];
};

static bool is_listed(const FIXTURE_DATA(list) * list, uint64_t gpa)
{
	int i;

	for (i = 0; i < list->num_ranges; i++)
		if (gpa >= list->ranges[i].start &&
		    gpa - list->ranges[i].start < list->ranges[i].size)
			return true;
	return false;
}

static void note(FIXTURE_DATA(list) * list, uint64_t gpa, const char *what)
{
	struct page *page = &list->pages[list->num_pages];

	gpa &= -VTL_PAGE_SIZE;
	/* No mapping reaches the SHARED bit: that is another error. */
	if (gpa >> 47 || is_listed(list, gpa) || list->num_pages == MAX_PAGES)
		return;
	page->gpa = gpa;
	snprintf(page->what, sizeof(page->what), "%s", what);
	list->num_pages++;
}

/* First and last page of each resource that this kernel knows of. */
static void note_resources(FIXTURE_DATA(list) * list)
{
	FILE *file = fopen("/proc/iomem", "r");
	char line[256], *name;
	uint64_t start, end;

	while (file && fgets(line, sizeof(line), file)) {
		name = strstr(line, " : ");
		if (!name ||
		    sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
			continue;
		name[strcspn(name, "\n")] = '\0';
		note(list, start, name + 3);
		note(list, end, name + 3);
	}
	if (file)
		fclose(file);
}

static bool is_noted(const FIXTURE_DATA(list) * list, const char *what)
{
	int i;

	for (i = 0; i < list->num_pages; i++)
		if (strcasestr(list->pages[i].what, what))
			return true;
	return false;
}

FIXTURE_SETUP(list)
{
	struct sigaction action = { .sa_handler = on_fault };
	int i;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	ASSERT_EQ(0, vtl_pin(0));
	self->num_pages = 0;
	self->num_ranges = vtl_memory_ranges(self->ranges, 32);
	note_resources(self);
	note(self, 0, "page 0");
	note(self, 0xfee00000, "local APIC");
	note(self, 1ULL << 40, "nothing");
	for (i = 0; i < self->num_ranges; i++) {
		note(self, self->ranges[i].start - 1, "before a range");
		note(self, self->ranges[i].start + self->ranges[i].size,
		     "after a range");
	}
}

FIXTURE_TEARDOWN(list)
{
	close(self->vtl);
}

#define EXPECT_REFUSED(page, ...)                                         \
	do {                                                              \
		struct mshv_tdcall _call = { __VA_ARGS__ };               \
		EXPECT_EQ(0, vtl_tdcall(self->vtl, &_call));              \
		EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&_call))        \
		{                                                         \
			TH_LOG("%llx, %s", (unsigned long long)page->gpa, \
			       page->what);                               \
		}                                                         \
	} while (0)

/* What the other tests try is what they are meant to try. */
TEST_F(list, everything_that_linux_uses_is_tried)
{
	EXPECT_TRUE(is_noted(self, "System RAM"));
	EXPECT_TRUE(is_noted(self, "ACPI Tables"));
	EXPECT_TRUE(is_noted(self, "ACPI Non-volatile Storage"));
	EXPECT_TRUE(is_noted(self, "System ROM"));
	EXPECT_TRUE(is_noted(self, "page 0") || is_listed(self, 0));
	EXPECT_GT(MAX_PAGES, self->num_pages);
}

TEST_F(list, what_is_not_listed_is_a_bus_error_by_either_alias)
{
	const uint64_t aliases[] = { 0, MSHV_VTL_LOW_SHARED };
	int i;

	for (i = 0; i < 2 * self->num_pages; i++) {
		const struct page *page = &self->pages[i / 2];
		uint8_t *memory =
			vtl_map_low(aliases[i % 2] | page->gpa, VTL_PAGE_SIZE);

		ASSERT_NE(MAP_FAILED, (void *)memory);
		EXPECT_EQ(SIGBUS, touch(memory))
		{
			TH_LOG("%llx, %s", (unsigned long long)page->gpa,
			       page->what);
		}
		munmap(memory, VTL_PAGE_SIZE);
	}
}

TEST_F(list, no_tdcall_acts_on_a_page_that_is_not_listed)
{
	int i;

	for (i = 0; i < self->num_pages; i++) {
		const struct page *page = &self->pages[i];

		EXPECT_REFUSED(page, .rax = TDG_MEM_PAGE_ACCEPT,
			       .rcx = page->gpa);
		EXPECT_REFUSED(page, .rax = TDG_MEM_PAGE_ATTR_RD,
			       .rcx = page->gpa);
		EXPECT_REFUSED(page, .rax = TDG_MEM_PAGE_ATTR_WR,
			       .rcx = page->gpa, .rdx = 0x800f0000,
			       .r8 = 0xf0000);
	}
}

/*
 * As a list of linear addresses, and as the virtual-APIC page of VM 2. System RAM
 * might be the caller's own: own_pages.c has that.
 */
TEST_F(list, the_tdx_module_is_given_no_page_that_is_not_listed)
{
	int i;

	for (i = 0; i < self->num_pages; i++) {
		const struct page *page = &self->pages[i];

		if (!strcmp(page->what, "System RAM"))
			continue;
		EXPECT_REFUSED(page, .rax = TDG_VP_INVGLA,
			       .rcx = 1ULL << 52 | 1,
			       .rdx = page->gpa | 1ULL << 52);
		EXPECT_REFUSED(page, .rax = TDG_VP_WR,
			       .rdx = VIRTUAL_APIC_PAGE_VM2, .r8 = page->gpa,
			       .r9 = ~0ULL);
	}
}

TEST_F(list, what_is_not_listed_is_not_registered)
{
	const uint64_t aliases[] = { 0, MSHV_VTL_RAM_SHARED };
	int i;

	for (i = 0; i < 2 * self->num_pages; i++) {
		uint64_t piece = self->pages[i / 2].gpa / VTL_LARGE_SIZE;
		struct mshv_vtl_ram_disposition range = {
			.start_pfn = aliases[i % 2] | piece * 512,
			.last_pfn = (piece + 1) * 512,
		};

		EXPECT_EQ(-1, ioctl(self->vtl, MSHV_ADD_VTL0_MEMORY, &range));
		/* Shared memory is never registered, listed or not. */
		EXPECT_EQ(aliases[i % 2] ? EOPNOTSUPP : EINVAL, errno);
	}
}

TEST_F(list, each_end_of_each_range_is_memory)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ATTR_RD };
	volatile uint8_t *memory;
	uint8_t was;
	int i, end;

	if (!self->num_ranges)
		SKIP(return, "the module was loaded without vtl0_mem=");
	for (i = 0; i < self->num_ranges; i++)
		for (end = 0; end < 2; end++) {
			uint64_t gpa = self->ranges[i].start;

			if (end)
				gpa += self->ranges[i].size - VTL_PAGE_SIZE;
			EXPECT_EQ(0, vtl_accept(self->vtl, gpa, VTL_PAGE_SIZE));
			call = (struct mshv_tdcall){
				.rax = TDG_MEM_PAGE_ATTR_RD, .rcx = gpa
			};
			ASSERT_EQ(0, vtl_tdcall(self->vtl, &call));
			EXPECT_EQ(TDX_SUCCESS, vtl_status(&call));
			memory = vtl_map_low(gpa, VTL_PAGE_SIZE);
			ASSERT_NE(MAP_FAILED, (void *)memory);
			ASSERT_EQ(0, touch(memory));
			was = memory[0];
			memory[0] = 0x5a;
			EXPECT_EQ(0x5a, memory[0]);
			/* Restore it for the other tests. */
			memory[0] = was;
			munmap((void *)memory, VTL_PAGE_SIZE);
		}
}

TEST_HARNESS_MAIN
