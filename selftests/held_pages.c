// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of registered memory that are pinned for I/O when their last user
 * closes everything: they keep the module loaded, the next user finds them
 * registered, and when they are unpinned, everything is as before. Leaves the
 * module loaded.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "kernel_access.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define NAME "mshv_vtl_tdx"

/* The module checks by a timer; a slow machine may take longer. */
static int unload_at_last(void)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	int left = 1200, result;

	do {
		result = vtl_unload_module(0);
		nanosleep(&pause, NULL);
	} while (result && --left);
	return result;
}

FIXTURE(held)
{
	uint64_t gpa;
	int vtl, hold;
};

FIXTURE_VARIANT(held)
{
	int (*pin)(void *page);
	/*
	 * A piece of its own: the last case makes it unusable until the next
	 * boot.
	 */
	unsigned int piece;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(held, by_a_pipe)
{
	.pin = vtl_pipe_pin,
	.piece = 3,
};

FIXTURE_VARIANT_ADD(held, by_a_registered_buffer)
{
	.pin = vtl_uring_pin,
	.piece = 6,
};
/* clang-format on */

/* One page of the second piece of two. */
FIXTURE_SETUP(held)
{
	unsigned char *memory;

	/* A case that failed may have left it unloaded. */
	if (access("/sys/module/" NAME, F_OK))
		ASSERT_EQ(0, vtl_load_module());
	if (!vtl_middle_memory(&self->gpa))
		SKIP(return,
			   "no vtl0_mem= of 32 MiB or more on the kernel command line");
	self->gpa += variant->piece * VTL_LARGE_SIZE;
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	ASSERT_EQ(0, vtl_accept(self->vtl, self->gpa, 2 * VTL_LARGE_SIZE));
	ASSERT_EQ(0, vtl_register(self->vtl, self->gpa, 2 * VTL_LARGE_SIZE));
	memory = vtl_map_low_large(self->gpa, 2 * VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	memory[VTL_LARGE_SIZE] = 0x3c;
	self->hold = variant->pin(memory + VTL_LARGE_SIZE);
	ASSERT_LE(0, self->hold);
	munmap(memory, 2 * VTL_LARGE_SIZE);
	close(self->vtl);
}

FIXTURE_TEARDOWN(held)
{
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_F(held, the_module_stays_until_they_are_let_go)
{
	unsigned char *memory;
	int hold;

	EXPECT_EQ(-EWOULDBLOCK, vtl_unload_module(0));
	close(self->hold);
	ASSERT_EQ(0, unload_at_last());
	ASSERT_EQ(0, vtl_load_module());
	/* The same memory can be registered and held again. */
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	EXPECT_EQ(0, vtl_register(self->vtl, self->gpa, 2 * VTL_LARGE_SIZE));
	memory = vtl_map_low_large(self->gpa, 2 * VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(0x3c, memory[VTL_LARGE_SIZE]);
	hold = variant->pin(memory + VTL_LARGE_SIZE);
	EXPECT_LE(0, hold);
	close(hold);
	munmap(memory, 2 * VTL_LARGE_SIZE);
	close(self->vtl);
	EXPECT_EQ(0, unload_at_last());
	EXPECT_EQ(0, vtl_load_module());
}

TEST_F(held, the_next_user_finds_them_registered)
{
	unsigned char *memory;
	int hold;

	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	EXPECT_EQ(0, vtl_register(self->vtl, self->gpa, 2 * VTL_LARGE_SIZE));
	memory = vtl_map_low_large(self->gpa, 2 * VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(0x3c, memory[VTL_LARGE_SIZE]);
	hold = variant->pin(memory);
	EXPECT_LE(0, hold);
	/*
	 * The first pin ends while there is a user, the second when there is
	 * none.
	 */
	close(self->hold);
	munmap(memory, 2 * VTL_LARGE_SIZE);
	close(self->vtl);
	EXPECT_EQ(-EWOULDBLOCK, vtl_unload_module(0));
	close(hold);
	EXPECT_EQ(0, unload_at_last());
	EXPECT_EQ(0, vtl_load_module());
}

/* A struct page is never created twice for the same memory. */
TEST_F(held, what_has_a_struct_page_from_elsewhere_is_busy)
{
	unsigned char *memory;
	int result = vtl_unload_module(O_TRUNC);

	if (result == -EWOULDBLOCK) {
		close(self->hold);
		SKIP(return, "this kernel unloads no module by force");
	}
	ASSERT_EQ(0, result);
	ASSERT_EQ(0, vtl_load_module());
	self->vtl = vtl_create();
	ASSERT_LE(0, self->vtl);
	EXPECT_EQ(-EBUSY, vtl_register(self->vtl, self->gpa, VTL_LARGE_SIZE));
	/* In the middle of a range, and nothing else of it is registered then. */
	EXPECT_EQ(-EBUSY, vtl_register(self->vtl, self->gpa - VTL_LARGE_SIZE,
				       4 * VTL_LARGE_SIZE));
	memory = vtl_map_low(self->gpa - VTL_LARGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(-EFAULT, variant->pin(memory));
	munmap(memory, VTL_PAGE_SIZE);
	/* It is still memory. */
	memory = vtl_map_low_large(self->gpa, 2 * VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)memory);
	EXPECT_EQ(0x3c, memory[VTL_LARGE_SIZE]);
	EXPECT_EQ(-EFAULT, variant->pin(memory + VTL_LARGE_SIZE));
	munmap(memory, 2 * VTL_LARGE_SIZE);
	close(self->vtl);
	close(self->hold);
}

TEST_HARNESS_MAIN
