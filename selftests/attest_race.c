// SPDX-License-Identifier: GPL-2.0
/*
 * Attestation while other things happen: two virtual processors lap their rings during
 * a thousand checkpoints, a process is killed inside a lower VTL, the module is unloaded
 * when a checkpoint is due. Afterwards the log is whole. Loads the module anew for each
 * case, and at last as it was.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "attested.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define PARAMETERS \
	"attest=try attest_interval=0 audit_records=64 attest_batch=1"
#define CHECKPOINTS 1000

FIXTURE(race)
{
	int fd;
	struct attested log;
};

FIXTURE_SETUP(race)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (access("/sys/devices/system/cpu/cpu1", F_OK))
		SKIP(return, "needs two CPUs");
	if (!attested_has_helpers())
		SKIP(return, "no modules for tests");
	self->fd = attested_load(&self->log, PARAMETERS);
	ASSERT_LE(0, self->fd)
	{
		TH_LOG("%s", self->log.why);
	}
}

FIXTURE_TEARDOWN(race)
{
	EXPECT_EQ(0, attested_unload(&self->log));
}

struct runner {
	int cpu;
	volatile bool may_end;
	volatile unsigned long runs;
	int result;
};

/* Runs the guest of a CPU until told to stop: each is an exit, and a record at least. */
static void *run(void *argument)
{
	struct runner *runner = argument;
	struct vtl_guest guest;

	runner->result = vtl_guest_open(&guest, runner->cpu);
	if (!runner->result)
		runner->result = vtl_guest_start(&guest);
	while (!runner->result && !runner->may_end) {
		runner->result = vtl_run(&guest);
		runner->runs++;
		vtl_guest_start(&guest);
	}
	vtl_guest_close(&guest);
	return NULL;
}

static int load_guest(void)
{
	struct vtl_guest guest;
	int result = vtl_guest_open(&guest, 0);

	if (!result)
		result = vtl_guest_load(&guest, vtl_guest_exits,
					vtl_guest_exits_end);
	vtl_guest_close(&guest);
	return result;
}

TEST_F(race, two_processors_switch_during_a_thousand_checkpoints)
{
	struct runner runners[2] = { { .cpu = 0 }, { .cpu = 1 } };
	pthread_t threads[2];
	unsigned long before;
	int i;

	ASSERT_EQ(0, load_guest());
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, vtl_thread_on(&threads[i], i, run, &runners[i]));
	while ((!runners[0].runs && !runners[0].result) ||
	       (!runners[1].runs && !runners[1].result))
		sched_yield();
	before = runners[0].runs + runners[1].runs;
	for (i = 1; i <= CHECKPOINTS; i++) {
		ASSERT_EQ(i, attested_checkpoint(
				     self->fd, NULL,
				     i % 8 ? 0 : MSHV_VTL_CHECKPOINT_KICK));
		/* Somebody else has another register. */
		if (i % 4 == 0)
			ASSERT_EQ(0, attested_extend(2));
	}
	/* Each ring is lapped at least once. */
	while (!runners[0].result && !runners[1].result &&
	       (runners[0].runs < 200 || runners[1].runs < 200))
		sched_yield();
	for (i = 0; i < 2; i++)
		runners[i].may_end = true;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
		EXPECT_EQ(0, runners[i].result);
	}
	EXPECT_LT(before, runners[0].runs + runners[1].runs);
	EXPECT_EQ(CHECKPOINTS + 1, attested_checkpoint(self->fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_F(race, who_is_killed_in_a_lower_vtl_leaves_a_whole_log)
{
	struct vtl_guest guest;
	int round, status;
	pid_t child;

	for (round = 1; round <= 5; round++) {
		child = fork();
		if (!child) {
			if (vtl_guest_open(&guest, 0) ||
			    vtl_guest_load(&guest, vtl_guest_spin,
					   vtl_guest_spin_end))
				_exit(1);
			vtl_enter(&guest);
			_exit(0);
		}
		usleep(50 * 1000);
		ASSERT_EQ(round, attested_checkpoint(self->fd, NULL,
						     MSHV_VTL_CHECKPOINT_KICK));
		ASSERT_EQ(0, kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
	}
	EXPECT_EQ(round, attested_checkpoint(self->fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
}

/* Checkpoints are due all the time: one may be in the making, or about to begin. */
TEST(unloading_meets_periodic_checkpoints)
{
	uint64_t base, size;
	int round;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	for (round = 0; round < 12; round++) {
		ASSERT_EQ(0, vtl_unload_module(0));
		ASSERT_EQ(0, vtl_load_module_with(
				     "attest=require attest_interval=1"));
		usleep(round * 100 * 1000);
	}
	ASSERT_EQ(0, vtl_unload_module(0));
	EXPECT_EQ(0, vtl_load_module());
	EXPECT_EQ(NULL, vtl_kernel_complaint());
}

TEST_HARNESS_MAIN
