// SPDX-License-Identifier: GPL-2.0
/*
 * The host holds an entry of the secure EPT when a TDCALL needs it, or an interrupt is pending during a
 * long TDCALL: the first is OPERAND_BUSY, which says to try again, the second is not seen at all.
 */
#include <sys/mman.h>

#include "debug_port.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define VIRTUAL_APIC_PAGE_VM2 0x2c20000300002012ULL
#define ENTRIES 8ULL

enum operand { OPERAND_RCX = 1, OPERAND_RDX = 2, OPERAND_R8 = 8 };

FIXTURE(busy)
{
	int vtl;
	uint64_t gpa;
};

FIXTURE_SETUP(busy)
{
	if (debug_port(ACTION_BUSY_PAGES, 0) == ANSWER_NONE)
		SKIP(return, "no debug port to ask the host by");
	if (!vtl_middle_memory(&self->gpa))
		SKIP(return,
			   "no vtl0_mem= of 32 MiB or more on the kernel command line");
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	ASSERT_EQ(0, vtl_pin(0));
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, VTL_LARGE_SIZE));
}

FIXTURE_TEARDOWN(busy)
{
	debug_port(ACTION_BUSY_PAGES, 0);
	debug_port(ACTION_INTERRUPTED_CALLS, 0);
	close(self->vtl);
}

static uint64_t call(int fd, struct mshv_tdcall call)
{
	return vtl_tdcall(fd, &call) ? 1 : call.rax;
}

/* The host holds the page once, so the same call succeeds the second time. */
#define EXPECT_BUSY_ONCE(operand, then, ...)                            \
	do {                                                            \
		struct mshv_tdcall _call = { __VA_ARGS__ };             \
		ASSERT_EQ(0, debug_port(ACTION_BUSY_PAGES, 1));         \
		EXPECT_EQ((uint64_t)TDX_OPERAND_BUSY << 32 | (operand), \
			  call(self->vtl, _call));                      \
		EXPECT_EQ((then), call(self->vtl, _call) >> 32);        \
	} while (0)

/* Each names the page by its size: nothing is held for the part of a larger one. */
TEST_F(busy, a_call_on_a_page_says_so_and_succeeds_the_second_time)
{
	struct mshv_tdcall look = { .rax = TDG_MEM_PAGE_ATTR_RD,
				    .rcx = self->gpa };
	uint64_t page;

	ASSERT_EQ(0, vtl_tdcall(self->vtl, &look));
	ASSERT_EQ(TDX_SUCCESS, look.rax);
	page = self->gpa | (look.rcx & 7);
	EXPECT_BUSY_ONCE(OPERAND_RCX, TDX_PAGE_ALREADY_ACCEPTED,
			 .rax = TDG_MEM_PAGE_ACCEPT, .rcx = page);
	EXPECT_BUSY_ONCE(OPERAND_RCX, TDX_SUCCESS, .rax = TDG_MEM_PAGE_ATTR_RD,
			 .rcx = self->gpa);
	EXPECT_BUSY_ONCE(OPERAND_RCX, TDX_SUCCESS, .rax = TDG_MEM_PAGE_ATTR_WR,
			 .rcx = page, .rdx = 0x800f0000, .r8 = 0xf0000);
}

/* The kernel itself looks at these pages before the TDX module does. */
TEST_F(busy, an_operand_in_such_a_page_is_not_invalid)
{
	EXPECT_BUSY_ONCE(OPERAND_RDX, TDX_SUCCESS, .rax = TDG_VP_INVGLA,
			 .rcx = 1ULL << 52 | 1, .rdx = self->gpa | 1ULL << 52);
	EXPECT_BUSY_ONCE(OPERAND_R8, TDX_SUCCESS, .rax = TDG_VP_WR,
			 .rdx = VIRTUAL_APIC_PAGE_VM2, .r8 = self->gpa,
			 .r9 = ~0ULL);
}

TEST_F(busy, an_access_by_a_mapping_waits)
{
	volatile uint8_t *memory = vtl_map_low(self->gpa, VTL_PAGE_SIZE);

	ASSERT_NE(MAP_FAILED, (void *)memory);
	ASSERT_EQ(0, debug_port(ACTION_BUSY_PAGES, 20));
	memory[0] = 0x5a;
	EXPECT_EQ(0x5a, memory[0]);
	munmap((void *)memory, VTL_PAGE_SIZE);
}

TEST_F(busy, an_interrupted_list_is_done_to_its_end)
{
	volatile uint64_t *list = vtl_map_low(self->gpa, VTL_PAGE_SIZE);
	/* Once, then three times from the third entry on. */
	static const uint64_t interrupts[] = { 1, 2 << 16 | 3 };
	size_t i;

	ASSERT_NE(MAP_FAILED, (void *)list);
	for (i = 0; i < ENTRIES; i++)
		list[i] = 0x7654000 + i * VTL_PAGE_SIZE;
	munmap((void *)list, VTL_PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(interrupts); i++) {
		struct mshv_tdcall call = {
			.rax = TDG_VP_INVGLA,
			.rcx = 1ULL << 52 | 1,
			.rdx = self->gpa | ENTRIES << 52,
		};

		ASSERT_EQ(0,
			  debug_port(ACTION_INTERRUPTED_CALLS, interrupts[i]));
		ASSERT_EQ(0, vtl_tdcall(self->vtl, &call));
		EXPECT_EQ(TDX_SUCCESS, call.rax);
		EXPECT_EQ(self->gpa | ENTRIES, call.rdx);
	}
}

TEST_HARNESS_MAIN
