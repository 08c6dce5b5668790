// SPDX-License-Identifier: GPL-2.0
/*
 * A virtual processor that halts in the kernel, and threads that wake it in
 * every possible way at every moment: while it polls, falls asleep, sleeps, or
 * enters or leaves the halt. A thread does not continue before its last wake-up
 * has been taken, so a lost one stops it, and the watchdog reports that.
 * RACE_SECONDS is the duration, 3 if not set.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define LONGEST_RACE_SECONDS 3600
#define FIRST_VECTOR 0x51
#define WATCHDOG_NS 2000000000ULL
#define WATCHDOG_NAPS 2000
#define NUM_WAKERS 2
/* Of each kind and waker, however slow the host. */
#define FEWEST 10

enum kind { KICK, WRITE_AND_KICK, KICK_AND_WAIT, SIGNAL, PROXY, POLL, KINDS };

static const char *const kind_names[KINDS] = {
	"a kick", "a write of cancel and a kick",    "a kick that waits",
	"signal", "an interrupt that was asked for", "a poll file",
};

static const int signals[NUM_WAKERS] = { SIGUSR1, SIGUSR2 };

/* Each has its own file, eventfd, signal and vector. */
struct waker {
	struct irq_guest *irq;
	pthread_t thread, target;
	int index, vtl, event;
	unsigned int dice;
	/* What was sent, and what was taken; the guest counts PROXY. */
	volatile uint32_t sent[KINDS], taken[KINDS];
	const char *lost;
	volatile bool is_done;
};

static struct waker wakers[NUM_WAKERS];
static volatile bool is_over;
static volatile struct mshv_vtl_run *cancelled_by_signal;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* As a client must do: a signal before the call would be missed. */
static void on_signal(int signal)
{
	wakers[signal == signals[1]].taken[SIGNAL]++;
	cancelled_by_signal->cancel = 1;
}

static unsigned int roll(struct waker *waker)
{
	waker->dice = waker->dice * 1103515245 + 12345;
	return waker->dice >> 8;
}

static uint32_t taken(const struct waker *waker, enum kind kind)
{
	if (kind == PROXY)
		return waker->irq->data->taken[FIRST_VECTOR + waker->index];
	return waker->taken[kind];
}

/* On the processor's own CPU, spinning would prevent progress. */
static void nap(struct waker *waker, unsigned int turns)
{
	unsigned int us = waker->index ? 100 : 20 + roll(waker) % 128;

	if (waker->index && turns < 4096)
		__asm__ volatile("pause");
	else
		usleep(us);
}

/* Mostly short, so that it falls into the way to sleep; sometimes long. */
static void delay(struct waker *waker)
{
	unsigned int turns = roll(waker) % (roll(waker) % 8 ? 256 : 16384);

	if (!waker->index)
		nap(waker, 0);
	else if (roll(waker) % 32)
		while (turns--)
			__asm__ volatile("pause");
	else
		usleep(turns / 8);
}

static int wake(struct waker *waker, enum kind kind)
{
	volatile struct mshv_vtl_run *run = waker->irq->guest.run;
	uint64_t one = 1;

	waker->sent[kind]++;
	switch (kind) {
	case KICK:
		return irq_kick(waker->irq, MSHV_KICK_CANCEL);
	case WRITE_AND_KICK:
		run->cancel = 1;
		return irq_kick(waker->irq, 0);
	case KICK_AND_WAIT:
		return irq_kick(waker->irq, MSHV_KICK_CANCEL | MSHV_KICK_WAIT);
	case SIGNAL:
		return pthread_kill(waker->target, signals[waker->index]);
	case PROXY:
		irq_proxy(run, FIRST_VECTOR + waker->index);
		return irq_kick(waker->irq, 0);
	default:
		return write(waker->event, &one, sizeof(one)) < 0;
	}
}

/* Wall time alone would bark at a host that stops the whole machine. */
static bool is_taken_in_time(struct waker *waker, enum kind kind)
{
	uint64_t begin = now_ns();
	unsigned int turns = 0, naps = 0;

	while (taken(waker, kind) != waker->sent[kind]) {
		nap(waker, turns++);
		naps += !waker->index || turns > 4096;
		if (naps > WATCHDOG_NAPS && now_ns() - begin > WATCHDOG_NS)
			return false;
	}
	return true;
}

static void *wake_again_and_again(void *argument)
{
	struct waker *waker = argument;
	enum kind kind;

	while (!is_over && !waker->lost) {
		delay(waker);
		kind = roll(waker) % KINDS;
		if (wake(waker, kind) || !is_taken_in_time(waker, kind))
			waker->lost = kind_names[kind];
	}
	is_over = true;
	waker->is_done = true;
	if (waker->lost)
		pthread_kill(waker->target, signals[waker->index]);
	irq_kick(waker->irq, MSHV_KICK_CANCEL);
	return NULL;
}

/* First clear, then check: whatever comes later cancels the next call. */
static void look(struct waker *waker)
{
	enum kind kind;
	uint64_t count;

	for (kind = KICK; kind <= KICK_AND_WAIT; kind++)
		waker->taken[kind] = waker->sent[kind];
	if (read(waker->event, &count, sizeof(count)) == sizeof(count))
		waker->taken[POLL] += count;
}

FIXTURE(race)
{
	struct irq_guest irq;
	uint64_t seconds;
};

FIXTURE_VARIANT(race)
{
	int first, last; /* wakers: 0 on the CPU itself, 1 on another one */
};

/* clang-format off */
FIXTURE_VARIANT_ADD(race, from_the_same_cpu)
{
	.first = 0,
	.last = 0,
};

FIXTURE_VARIANT_ADD(race, from_another_cpu)
{
	.first = 1,
	.last = 1,
};

FIXTURE_VARIANT_ADD(race, from_both)
{
	.first = 0,
	.last = 1,
};
/* clang-format on */

static int set_poll_file(struct waker *waker)
{
	struct mshv_set_poll_file request = { .cpu = 0, .fd = waker->event };

	return ioctl(waker->vtl, MSHV_SET_POLL_FILE, &request);
}

FIXTURE_SETUP(race)
{
	uint64_t base, size;
	int i;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 && variant->last)
		SKIP(return, "needs two CPUs");
	self->seconds = vtl_setting("RACE_SECONDS", 3);
	if (self->seconds > LONGEST_RACE_SECONDS)
		self->seconds = LONGEST_RACE_SECONDS;
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_halt))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	self->irq.guest.run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	cancelled_by_signal = self->irq.guest.run;
	for (i = variant->first; i <= variant->last; i++) {
		struct sigaction action = { .sa_handler = on_signal };

		wakers[i].irq = &self->irq;
		wakers[i].index = i;
		wakers[i].dice = i + 1;
		wakers[i].target = pthread_self();
		sigaction(signals[i], &action, NULL);
		wakers[i].event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		wakers[i].vtl = vtl_open(DEV_MSHV_VTL);
		ASSERT_EQ(0, set_poll_file(&wakers[i]));
	}
}

FIXTURE_TEARDOWN(race)
{
	int i;

	for (i = variant->first; i <= variant->last; i++) {
		close(wakers[i].vtl);
		close(wakers[i].event);
	}
	irq_guest_close(&self->irq);
}

static bool is_enough(const struct waker *waker)
{
	enum kind kind;

	for (kind = KICK; kind < KINDS; kind++)
		if (waker->sent[kind] < FEWEST)
			return false;
	return true;
}

/* Returns how often the thread has actually slept. */
static uint32_t report(struct __test_metadata *_metadata,
		       const struct waker *waker, const struct waker *last)
{
	uint32_t all = 0, slept = vtl_times_slept();
	enum kind kind;

	for (; waker <= last; waker++)
		for (kind = KICK; kind < KINDS; kind++)
			all += waker->sent[kind];
	TH_LOG("%u wake-ups, of them from sleep about %u", all, slept);
	return slept;
}

/* One call. The reasons that it reports are checked before the next one. */
static void turn(struct __test_metadata *_metadata, struct vtl_guest *guest)
{
	int result = vtl_enter(guest);

	if (result) {
		ASSERT_EQ(-EINTR, result);
	} else if (!(guest->run->tdx.exit_info.rax >> 32)) {
		ASSERT_EQ(EXIT_VMCALL, vtl_exit_reason(guest));
		vtl_step_over(guest);
	}
}

TEST_F_TIMEOUT(race, no_wake_up_is_lost, LONGEST_RACE_SECONDS + 60)
{
	uint64_t end = now_ns() + self->seconds * 1000000000ULL / 3;
	struct waker *first = &wakers[variant->first];
	struct waker *last = &wakers[variant->last], *waker;
	volatile struct mshv_vtl_run *run = self->irq.guest.run;
	enum kind kind;

	for (waker = first; waker <= last; waker++)
		ASSERT_EQ(0, vtl_thread_on(&waker->thread, waker->index,
					   wake_again_and_again, waker));
	for (;;) {
		run->cancel = 0;
		__sync_synchronize();
		for (waker = first; waker <= last; waker++)
			look(waker);
		if (first->is_done && last->is_done)
			break;
		turn(_metadata, &self->irq.guest);
		is_over |= now_ns() >= end && is_enough(first) &&
			   is_enough(last) && vtl_times_slept() > FEWEST;
	}
	for (waker = first; waker <= last; waker++) {
		pthread_join(waker->thread, NULL);
		EXPECT_EQ(NULL, waker->lost)
		{
			TH_LOG("lost by CPU %d: %s", waker->index, waker->lost);
		}
		for (kind = KICK; kind < KINDS; kind++)
			EXPECT_EQ(waker->sent[kind], taken(waker, kind));
	}
	EXPECT_LT(FEWEST, report(_metadata, first, last));
}

TEST_HARNESS_MAIN
