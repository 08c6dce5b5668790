// SPDX-License-Identifier: GPL-2.0
/*
 * A gigabyte of lower-VTL memory, mapped where one entry of the page table would hold
 * it: what the kernel itself does with it, and changes to parts of it. For a machine
 * with enough lower-VTL memory (scripts/test.sh).
 */
#include <stdio.h>
#include <sys/mman.h>

#include "kernel_access.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define SIZE VTL_HUGE_SIZE
#define READ_WRITE (PROT_READ | PROT_WRITE)

FIXTURE(huge)
{
	int vtl;
	uint64_t gpa;
	unsigned char *memory;
};

FIXTURE_VARIANT(huge)
{
	bool is_registered;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(huge, frames)
{
	.is_registered = false,
};

FIXTURE_VARIANT_ADD(huge, pages)
{
	.is_registered = true,
};
/* clang-format on */

FIXTURE_SETUP(huge)
{
	size_t at;

	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	if (!vtl_huge_memory(&self->gpa))
		SKIP(return, "no aligned gigabyte of lower-VTL memory");
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, SIZE));
	if (variant->is_registered)
		ASSERT_EQ(0, vtl_register(self->vtl, self->gpa, SIZE));
	self->memory = vtl_map_low_large(self->gpa, SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->memory);
	for (at = 0; at < SIZE; at += VTL_LARGE_SIZE)
		self->memory[at] = at / VTL_LARGE_SIZE;
}

FIXTURE_TEARDOWN(huge)
{
	close(self->vtl);
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

static size_t wrong_pieces(const volatile unsigned char *memory, size_t from,
			   size_t to)
{
	size_t at, wrong = 0;

	for (at = from; at < to; at += VTL_LARGE_SIZE)
		wrong += memory[at - from] !=
			 (unsigned char)(at / VTL_LARGE_SIZE);
	return wrong;
}

TEST_F(huge, each_access_works_for_pages_or_fails_for_frames)
{
	static _Alignas(VTL_PAGE_SIZE) unsigned char copy[VTL_PAGE_SIZE];
	unsigned char *page = self->memory + SIZE / 2 + 5 * VTL_PAGE_SIZE;
	size_t i;

	for (i = 0; i < kernel_access_count; i++) {
		EXPECT_EQ(variant->is_registered ? kernel_accesses[i].of_pages :
						   kernel_accesses[i].of_frames,
			  kernel_accesses[i].act(page, copy))
		{
			TH_LOG("%s", kernel_accesses[i].name);
		}
	}
}

TEST_F(huge, one_page_changes)
{
	unsigned char *victim = self->memory + SIZE / 2 + 9 * VTL_PAGE_SIZE;

	ASSERT_EQ(0, mprotect(victim, VTL_PAGE_SIZE, PROT_READ));
	EXPECT_EQ(0, wrong_pieces(self->memory, 0, SIZE));
	ASSERT_EQ(victim, mmap(victim, VTL_PAGE_SIZE, READ_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, *victim);
	EXPECT_EQ(0, wrong_pieces(self->memory, 0, SIZE));
	ASSERT_EQ(0, munmap(victim, VTL_PAGE_SIZE));
	EXPECT_EQ(0, wrong_pieces(self->memory, 0, SIZE));
	munmap(self->memory, SIZE);
}

/* All of it, to where nothing larger than a small page fits; and half of it. */
TEST_F(huge, it_moves)
{
	unsigned char *space = mmap(NULL, 2 * SIZE, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				    -1, 0);
	unsigned char *old = self->memory, *half;

	ASSERT_NE(MAP_FAILED, (void *)space);
	space += (VTL_PAGE_SIZE - (uintptr_t)space) % VTL_LARGE_SIZE;
	self->memory =
		mremap(old, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, space);
	ASSERT_EQ(space, self->memory);
	EXPECT_EQ(0, wrong_pieces(self->memory, 0, SIZE));
	half = mremap(self->memory + SIZE / 2, SIZE / 2, SIZE / 2,
		      MREMAP_MAYMOVE | MREMAP_FIXED, old);
	ASSERT_EQ(old, half);
	EXPECT_EQ(0, wrong_pieces(self->memory, 0, SIZE / 2));
	EXPECT_EQ(0, wrong_pieces(half, SIZE / 2, SIZE));
	munmap(self->memory, SIZE / 2);
	munmap(half, SIZE / 2);
}

TEST_HARNESS_MAIN
