// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of VTLs that call each other when the process that runs them closes the
 * file, executes another program, or is killed.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "endless_calls.h"
#include "pair_fixture.h"

struct neighbour {
	struct vtl_pair *pair;
	int fd, result;
};

static void *close_soon(void *argument)
{
	struct neighbour *neighbour = argument;

	wait_for_calls(neighbour->pair);
	neighbour->result = close(neighbour->fd);
	/* The run holds the file. */
	wait_for_calls(neighbour->pair);
	vtl_kick(&neighbour->pair->guest, MSHV_KICK_CANCEL);
	return NULL;
}

/* Each file has its own addresses; a run goes by the file that it is made through. */
TEST_F(pair, two_files_switch_each_as_it_was_set_up)
{
	struct neighbour neighbour = { .pair = &self->pair };
	struct vtl_guest other = self->pair.guest;
	unsigned char *page = own_page();
	pthread_t thread;

	other.fd = vtl_create();
	ASSERT_LE(0, other.fd);
	ASSERT_NE(MAP_FAILED, page);
	START(pair_call_forever, pair_return_fast);
	ASSERT_EQ(0, vtl_run(&other));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&other));
	EXPECT_EQ(1, pair_vm(&self->pair));
	EXPECT_EQ(0, self->page->active_vm);
	/* With a page of its own. */
	other.fd = self->pair.guest.fd;
	self->pair.guest.fd = neighbour.fd = vtl_create();
	ASSERT_LE(0, neighbour.fd);
	ASSERT_EQ(0, pair_set_up(&self->pair, page));
	*(volatile uint32_t *)(self->pair.assist + ASSIST_ENTRY_REASON) = 0;
	self->pair.guest.fd = other.fd;
	other.fd = neighbour.fd;
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, close_soon, &neighbour));
	EXPECT_EQ(-EINTR, vtl_enter(&other));
	pthread_join(thread, NULL);
	self->run->cancel = 0;
	EXPECT_EQ(0, neighbour.result);
	EXPECT_EQ(1, page[ASSIST_ENTRY_REASON]);
	EXPECT_EQ(0, self->pair.assist[ASSIST_ENTRY_REASON]);
	EXPECT_EQ(-EBADF, vtl_enter(&other));
	/* The first one takes over where that has stopped. */
	EXPECT_EQ(-EINTR, go_on(&self->pair));
	EXPECT_EQ(1, self->pair.assist[ASSIST_ENTRY_REASON]);
	munmap(page, VTL_PAGE_SIZE);
}

static void *execute_soon(void *argument)
{
	wait_for_calls(argument);
	execl("/bin/true", "true", NULL);
	_exit(11);
}

/* A process whose VTLs call each other for ever; only its end ends that. */
static void run_for_ever(bool has_to_execute)
{
	struct vtl_pair pair;
	pthread_t thread;

	if (pair_open(&pair, 0) || pair_set_up(&pair, pair.assist) ||
	    pair_start(&pair, pair_call_forever, pair_return_fast))
		_exit(12);
	if (has_to_execute && vtl_thread_on(&thread, 1, execute_soon, &pair))
		_exit(13);
	while (vtl_enter(&pair.guest) == -EINTR)
		;
	_exit(14);
}

TEST_F(pair, a_process_that_is_killed_or_executes_leaves_the_vp_to_the_next)
{
	int status, executes;
	pid_t child;

	for (executes = 0; executes < 2; executes++) {
		START(pair_call_forever, pair_return_fast);
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			run_for_ever(executes);
		wait_for_calls(&self->pair);
		if (!executes)
			kill(child, SIGKILL);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(executes ? 0 : SIGKILL, status);
		EXPECT_EQ(self->page->active_vm, pair_vm(&self->pair));
		START(pair_call_forever, pair_return_fast);
		EXPECT_EQ(-EINTR, go_on(&self->pair));
		EXPECT_LT(0, self->pair.data[0]->turns);
	}
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_HARNESS_MAIN
