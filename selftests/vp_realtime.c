// SPDX-License-Identifier: GPL-2.0
/*
 * A thread of real-time priority runs its guest without waiting for kernel work
 * of a lower priority: with PREEMPT_RT, softirqs are such work.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "vtl_harness.h"
#include "vtl_util.h"

static void on_signal(int signal)
{
	(void)signal;
}

FIXTURE(realtime)
{
	struct vtl_guest guest;
	struct mshv_vtl_stats stats;
};

FIXTURE_SETUP(realtime)
{
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t base, size;

	sigaction(SIGUSR1, &action, NULL);
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end));
}

FIXTURE_TEARDOWN(realtime)
{
	vtl_guest_close(&self->guest);
}

/* Number of ticks that the guest has had so far. */
static uint64_t ticks(int fd, struct mshv_vtl_stats *stats)
{
	uint64_t sum = 0;
	unsigned int kind;

	memset(stats, 0, sizeof(*stats));
	stats->head.size = sizeof(*stats);
	if (ioctl(fd, MSHV_VTL_STATS, stats))
		return 0;
	for (kind = 0; kind < MSHV_VTL_EXIT_KINDS; kind++)
		sum += stats->exits[kind].cycles;
	return sum;
}

/* From another CPU: the timers of this one may be soft interrupts. */
static void *signal_soon(void *target)
{
	sleep(2);
	pthread_kill(*(pthread_t *)target, SIGUSR1);
	return NULL;
}

TEST_F(realtime, the_guest_has_most_of_the_time_of_its_thread)
{
	const struct sched_param high = { .sched_priority = 50 }, normal = {};
	pthread_t self_thread = pthread_self(), thread;
	uint64_t guest, all;

	ASSERT_EQ(0, vtl_thread_on(&thread, 1, signal_soon, &self_thread));
	guest = ticks(self->guest.fd, &self->stats);
	all = __rdtsc();
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &high));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &normal));
	all = __rdtsc() - all;
	guest = ticks(self->guest.fd, &self->stats) - guest;
	pthread_join(thread, NULL);
	EXPECT_LT(all / 2, guest);
}

TEST_HARNESS_MAIN
