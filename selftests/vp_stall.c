// SPDX-License-Identifier: GPL-2.0
/*
 * A lower VTL that makes no progress, because the host preempts it again and
 * again and notifies VTL2 each time: userspace has to see that.
 */
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "debug_port.h"
#include "vtl_harness.h"
#include "vtl_util.h"

/* Of consecutive exits at one instruction, userspace sees one in this many. */
#define LIMIT 1024

static void on_alarm(int signal)
{
	(void)signal;
}

FIXTURE(stall)
{
	struct vtl_guest guest;
	struct mshv_vtl_stats before, after;
};

FIXTURE_SETUP(stall)
{
	struct sigaction action = { .sa_handler = on_alarm };
	uint64_t base, size;

	sigaction(SIGALRM, &action, NULL);
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
}

FIXTURE_TEARDOWN(stall)
{
	debug_port(ACTION_TAKE, 0);
	vtl_guest_close(&self->guest);
}

static void alarm_seconds(unsigned int seconds)
{
	struct itimerval soon = { .it_value = { seconds, 0 } };

	setitimer(ITIMER_REAL, &soon, NULL);
}

static int read_stats(int fd, struct mshv_vtl_stats *stats)
{
	stats->head.size = sizeof(*stats);
	stats->head.selector = 0;
	return ioctl(fd, MSHV_VTL_STATS, stats) ? -errno : 0;
}

#define READ(when) ASSERT_EQ(0, read_stats(self->guest.fd, &self->when))

#define HOST_ROUTED(when) (self->when.exits[MSHV_VTL_EXIT_HOST_ROUTED].count)

TEST_F(stall, a_guest_that_stands_still_is_shown_and_counted)
{
	uint64_t rip = self->guest.run->tdx.l2_enter_guest_state.rip;
	int round;

	READ(before);
	ASSERT_EQ(0, debug_port(ACTION_TAKE, 2 * LIMIT));
	alarm_seconds(60);
	for (round = 1; round <= 2; round++) {
		ASSERT_EQ(0, vtl_enter(&self->guest));
		EXPECT_EQ(TDX_L2_EXIT_HOST_ROUTED_ASYNC,
			  self->guest.run->tdx.exit_info.rax >> 32);
		EXPECT_EQ(rip, self->guest.run->tdx.l2_enter_guest_state.rip);
		READ(after);
		EXPECT_EQ(self->before.stalls + round, self->after.stalls);
		EXPECT_EQ(HOST_ROUTED(before) + round * LIMIT,
			  HOST_ROUTED(after));
	}
	/* Nothing is lost: it continues where it was. */
	ASSERT_EQ(0, vtl_run(&self->guest));
	alarm_seconds(0);
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
}

TEST_F(stall, what_the_host_takes_less_often_is_the_kernels)
{
	READ(before);
	ASSERT_EQ(0, debug_port(ACTION_TAKE, LIMIT - 1));
	alarm_seconds(60);
	ASSERT_EQ(0, vtl_run(&self->guest));
	alarm_seconds(0);
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	READ(after);
	EXPECT_EQ(self->before.stalls, self->after.stalls);
	EXPECT_LE(HOST_ROUTED(before) + LIMIT - 1, HOST_ROUTED(after));
}

TEST_HARNESS_MAIN
