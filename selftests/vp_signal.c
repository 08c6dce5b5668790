// SPDX-License-Identifier: GPL-2.0
/*
 * Signals end a run with EINTR, even if their handler was installed with
 * SA_RESTART: userspace must be able to do its own work.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "vtl_harness.h"
#include "vtl_util.h"

static volatile sig_atomic_t handled;

static void on_signal(int signal)
{
	handled = signal;
}

FIXTURE(signal)
{
	struct vtl_guest guest;
};

FIXTURE_VARIANT(signal)
{
	int flags;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(signal, plain)
{
	.flags = 0,
};

FIXTURE_VARIANT_ADD(signal, sa_restart)
{
	.flags = SA_RESTART,
};
/* clang-format on */

FIXTURE_SETUP(signal)
{
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = variant->flags };
	uint64_t base, size;

	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	handled = 0;
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end))
	{
		TH_LOG("%s", self->guest.why);
	}
}

FIXTURE_TEARDOWN(signal)
{
	vtl_guest_close(&self->guest);
}

/*
 * On a busy machine the timer can expire before the guest has run, or even before
 * the call: it expires again and again, and a run in which the guest got nowhere is
 * repeated.
 */
TEST_F(signal, a_timer_ends_the_run_of_a_spinning_guest)
{
	const struct itimerval never = {}, often = {
		.it_value.tv_usec = 100 * 1000,
		.it_interval.tv_usec = 100 * 1000,
	};
	int tries = 100;

	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	do {
		EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	} while (--tries &&
		 !self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	EXPECT_EQ(SIGALRM, handled);
	EXPECT_NE(0, self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
	EXPECT_EQ(0, self->guest.run->cancel);
}

static void *signal_soon(void *target)
{
	usleep(100 * 1000);
	pthread_kill(*(pthread_t *)target, SIGUSR1);
	return NULL;
}

TEST_F(signal, another_thread_ends_the_run_of_a_spinning_guest)
{
	pthread_t self_thread = pthread_self(), thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, signal_soon, &self_thread));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	pthread_join(thread, NULL);
	EXPECT_EQ(SIGUSR1, handled);
}

/* Pending when the run begins, and during all of it. */
TEST_F(signal, a_blocked_signal_does_not_end_the_run)
{
	sigset_t set, before;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &set, &before));
	raise(SIGUSR1);
	/* Only the timer ends this run. */
	ASSERT_EQ(0, setitimer(ITIMER_REAL,
			       &(struct itimerval){ .it_value.tv_usec =
							    100 * 1000 },
			       NULL));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_EQ(SIGALRM, handled);
	ASSERT_EQ(0, sigprocmask(SIG_SETMASK, &before, NULL));
	EXPECT_EQ(SIGUSR1, handled);
}

TEST_F(signal, the_same_run_goes_on_afterwards)
{
	struct itimerval soon = { .it_value.tv_usec = 50 * 1000 };
	uint64_t before;

	ASSERT_EQ(0, setitimer(ITIMER_REAL, &soon, NULL));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	before = self->guest.run->tdx.l2_enter_guest_state.gpr[RAX];
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &soon, NULL));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	EXPECT_NE(before, self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
}

TEST_HARNESS_MAIN
