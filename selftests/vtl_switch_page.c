// SPDX-License-Identifier: GPL-2.0
/*
 * VTL1's VP assist page disappears while the VTLs call each other: it is unmapped, shared
 * with a child, moved, released, or shared with the host.
 */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

#include "endless_calls.h"
#include "hvcall.h"
#include "pair_fixture.h"

#define REPS(count) ((uint64_t)(count) << 32)

struct neighbour {
	struct vtl_pair *pair;
	unsigned char *page;
	uint64_t gpa;
	int result;
};

/* The call that has been left is VTL0's, and nothing has changed. */
#define EXPECT_LEFT_FOR_THE_PAGE()                                          \
	do {                                                                \
		EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->pair.guest)); \
		EXPECT_EQ(1, pair_vm(&self->pair));                         \
		EXPECT_EQ(MSHV_VTL_LEFT_ASSIST, self->page->left);          \
		EXPECT_EQ(pair_address(&self->pair, pair_call_forever) + 7, \
			  self->state->rip);                                \
		EXPECT_EQ(pair_address(&self->pair, pair_return_fast) + 13, \
			  self->page->parked[1].rip);                       \
	} while (0)

static void *unmap_soon(void *argument)
{
	struct neighbour *neighbour = argument;

	wait_for_calls(neighbour->pair);
	munmap(neighbour->page, VTL_PAGE_SIZE);
	return NULL;
}

/* The child shares the page until one of them writes to it. */
static void *fork_soon(void *argument)
{
	struct neighbour *neighbour = argument;
	pid_t child;

	wait_for_calls(neighbour->pair);
	child = fork();
	if (!child)
		_exit(0);
	waitpid(child, &neighbour->result, 0);
	return NULL;
}

TEST_F(pair, a_page_that_disappears_in_mid_run_leaves_the_call_to_userspace)
{
	static void *(*const ways[])(void *) = { unmap_soon, fork_soon };
	struct neighbour neighbour = { .pair = &self->pair };
	pthread_t thread;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		START(pair_call_forever, pair_return_fast);
		neighbour.page = own_page();
		ASSERT_NE(MAP_FAILED, neighbour.page);
		ASSERT_EQ(0, pair_set_up(&self->pair, neighbour.page));
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, ways[i], &neighbour));
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		pthread_join(thread, NULL);
		EXPECT_LEFT_FOR_THE_PAGE();
		EXPECT_EQ(0, neighbour.result);
		if (i) {
			*(volatile unsigned char *)neighbour.page = 1;
		} else {
			/* Not the same one as before. */
			neighbour.page = own_page();
			ASSERT_EQ(0, pair_set_up(&self->pair, neighbour.page));
		}
		EXPECT_EQ(-EINTR, go_on(&self->pair));
		EXPECT_EQ(1, neighbour.page[ASSIST_ENTRY_REASON]);
		munmap(neighbour.page, VTL_PAGE_SIZE);
	}
}

static void *move_soon(void *argument)
{
	struct neighbour *neighbour = argument;

	wait_for_calls(neighbour->pair);
	neighbour->result = pair_set_up(neighbour->pair, neighbour->page);
	vtl_kick(&neighbour->pair->guest, MSHV_KICK_CANCEL | MSHV_KICK_WAIT);
	return NULL;
}

/* After the run that was cancelled, the kernel writes to the new page only. */
TEST_F(pair, a_page_that_vtl1_moves_is_used_from_the_next_run_on)
{
	struct neighbour neighbour = { .pair = &self->pair };
	pthread_t thread;
	int round;

	START(pair_call_forever, pair_return_fast);
	for (round = 0; round < 10; round++) {
		unsigned char *earlier = neighbour.page;

		neighbour.page = own_page();
		ASSERT_NE(MAP_FAILED, neighbour.page);
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, move_soon, &neighbour));
		EXPECT_EQ(-EINTR, vtl_enter(&self->pair.guest));
		pthread_join(thread, NULL);
		self->run->cancel = 0;
		EXPECT_EQ(0, neighbour.result);
		EXPECT_EQ(0, neighbour.page[ASSIST_ENTRY_REASON]);
		if (earlier) {
			EXPECT_EQ(1, earlier[ASSIST_ENTRY_REASON]);
			munmap(earlier, VTL_PAGE_SIZE);
		}
	}
}

static void *release_soon(void *argument)
{
	struct neighbour *neighbour = argument;
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_RELEASE,
				    .rcx = neighbour->gpa | 1 };

	wait_for_calls(neighbour->pair);
	neighbour->result = vtl_tdcall(neighbour->pair->guest.fd, &call) ||
			    vtl_status(&call) != TDX_SUCCESS;
	return NULL;
}

/* Of four pages, the first of which is the assist page; 0, or -1. */
static int show_host(uint64_t gpa, uint64_t visibility)
{
	int fd = vtl_open(DEV_MSHV_HVCALL), result;

	if (fd < 0)
		return -1;
	result = hvcall_allow(fd, 64) || hvcall_show_host(fd, gpa, visibility);
	close(fd);
	return result ? -1 : 0;
}

static void *share_soon(void *argument)
{
	struct neighbour *neighbour = argument;

	wait_for_calls(neighbour->pair);
	neighbour->result = show_host(neighbour->gpa, FOR_HOST);
	return NULL;
}

/*
 * The kernel must not touch the page any more: that would end the TD. VTL1 does not ask
 * anybody before.
 */
TEST_F(pair, a_page_that_vtl1_releases_or_shares_is_not_touched)
{
	static void *(*const ways[])(void *) = { release_soon, share_soon };
	const bool is_hyperv = !access(DEV_MSHV_HVCALL, F_OK);
	struct neighbour neighbour = { .pair = &self->pair };
	const int fd = self->pair.guest.fd;
	pthread_t thread;
	unsigned int i;

	ASSERT_LE(4 * VTL_LARGE_SIZE, self->pair.guest.size);
	neighbour.gpa = self->pair.guest.base + 3 * VTL_LARGE_SIZE;
	for (i = 0; i < (is_hyperv ? 2 : 1); i++) {
		ASSERT_EQ(0, vtl_accept(fd, neighbour.gpa, VTL_LARGE_SIZE));
		neighbour.page = vtl_map_low(neighbour.gpa, VTL_PAGE_SIZE);
		ASSERT_NE(MAP_FAILED, neighbour.page);
		neighbour.page[ASSIST_ENTRY_REASON] = 0;
		START(pair_call_forever, pair_return_fast);
		ASSERT_EQ(0, pair_set_up(&self->pair, neighbour.page));
		ASSERT_EQ(0, vtl_thread_on(&thread, 1, ways[i], &neighbour));
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		pthread_join(thread, NULL);
		ASSERT_EQ(0, neighbour.result);
		EXPECT_LEFT_FOR_THE_PAGE();
		if (i)
			ASSERT_EQ(0, show_host(neighbour.gpa, 0));
		ASSERT_EQ(0,
			  vtl_accept(fd, neighbour.gpa,
				     i ? 4 * VTL_PAGE_SIZE : VTL_LARGE_SIZE));
		/* The same address, with a page again. */
		neighbour.page[ASSIST_ENTRY_REASON] = 0;
		EXPECT_EQ(-EINTR, go_on(&self->pair));
		EXPECT_EQ(1, neighbour.page[ASSIST_ENTRY_REASON]);
		munmap(neighbour.page, VTL_PAGE_SIZE);
	}
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_HARNESS_MAIN
