// SPDX-License-Identifier: GPL-2.0
/*
 * The host merges a gigabyte that is accepted in large pages into a single page, and splits it again
 * when rights to a part of it change. Needs memory that nothing else has split, so it is the first.
 */
#include <sys/mman.h>

#include "debug_port.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define VM1_ALL 0x800f0000ULL
#define MASK_VM1 0xf0000ULL

FIXTURE(promoted)
{
	int vtl;
	uint64_t gpa;
};

FIXTURE_SETUP(promoted)
{
	if (debug_port(ACTION_BUSY_PAGES, 0) == ANSWER_NONE)
		SKIP(return, "no debug port to ask the host by");
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	if (!vtl_huge_memory(&self->gpa))
		SKIP(return, "no aligned gigabyte of lower-VTL memory");
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, VTL_HUGE_SIZE));
}

FIXTURE_TEARDOWN(promoted)
{
	close(self->vtl);
}

/* Size of the page, as the TDX module names it: 0 is 4 KiB, 1 is 2 MiB, 2 is 1 GiB. */
static int level_at(int vtl, uint64_t gpa)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ATTR_RD, .rcx = gpa };

	return vtl_tdcall(vtl, &call) || call.rax ? -1 : (int)(call.rcx & 7);
}

static uint64_t accept(int vtl, uint64_t gpa, int level)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ACCEPT,
				    .rcx = gpa | level };

	return vtl_tdcall(vtl, &call) ? 1 : call.rax;
}

static uint64_t set_rights(int vtl, uint64_t gpa, int level, uint64_t rights)
{
	struct mshv_tdcall call = {
		.rax = TDG_MEM_PAGE_ATTR_WR,
		.rcx = gpa | level,
		.rdx = rights,
		.r8 = MASK_VM1,
	};

	return vtl_tdcall(vtl, &call) ? 1 : call.rax;
}

TEST_F(promoted, a_gigabyte_is_one_page_until_a_part_of_it_changes)
{
	const uint64_t accepted = (uint64_t)TDX_PAGE_ALREADY_ACCEPTED << 32;
	const uint64_t mismatch = (uint64_t)TDX_PAGE_SIZE_MISMATCH << 32;
	uint64_t inner = self->gpa + VTL_HUGE_SIZE / 2;
	uint64_t last = self->gpa + VTL_HUGE_SIZE - VTL_PAGE_SIZE;
	volatile uint8_t *memory;

	EXPECT_EQ(1, level_at(self->vtl, inner));
	EXPECT_EQ(mismatch | 2, set_rights(self->vtl, self->gpa, 2, VM1_ALL));
	ASSERT_EQ(0, debug_port(ACTION_PROMOTE, self->gpa));
	EXPECT_EQ(2, level_at(self->vtl, self->gpa));
	EXPECT_EQ(2, level_at(self->vtl, last));
	EXPECT_EQ(accepted | 2, accept(self->vtl, inner, 1));
	EXPECT_EQ(accepted | 2, accept(self->vtl, last, 0));
	EXPECT_EQ(TDX_SUCCESS, set_rights(self->vtl, self->gpa, 2, VM1_ALL));
	EXPECT_EQ(2, level_at(self->vtl, last));

	/* The kernel sees that all of it is accepted. */
	memory = vtl_map_low_large(self->gpa, VTL_HUGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memory[VTL_HUGE_SIZE / 2] = 0x5a;
	EXPECT_EQ(0x5a, memory[VTL_HUGE_SIZE / 2]);
	munmap((void *)memory, VTL_HUGE_SIZE);

	EXPECT_EQ(TDX_SUCCESS, set_rights(self->vtl, inner, 1, 1ULL << 31));
	EXPECT_EQ(1, level_at(self->vtl, self->gpa));
	EXPECT_EQ(1, level_at(self->vtl, inner));
	EXPECT_EQ(TDX_SUCCESS, set_rights(self->vtl, last, 0, 1ULL << 31));
	EXPECT_EQ(0, level_at(self->vtl, last));
	EXPECT_EQ(1, level_at(self->vtl, inner));
	EXPECT_NE(0, debug_port(ACTION_PROMOTE, self->gpa));
}

TEST_HARNESS_MAIN
