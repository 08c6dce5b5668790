// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts that a Hyper-V host has for VTL0, all the way to the guest's handler:
 * message of the host, run page, virtual-APIC page, with one call of userspace
 * that does not come back in between. And what a flood of them does.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "debug_port.h"
#include "irq_guest.h"

#define VECTOR 0x63
#define LAST_VECTOR 0xd5

/* What the host does meanwhile, on the other processor. */
struct host {
	struct irq_guest *irq;
	unsigned int count; /* how many interrupts to request */
	unsigned int asked; /* how many of them the host has accepted */
	uint32_t progress; /* of the guest, from first to last */
	bool is_waiting; /* for the guest to take each */
	bool has_all; /* the guest has taken the last one */
};

FIXTURE(proxied)
{
	struct irq_guest irq;
	struct host host;
};

FIXTURE_SETUP(proxied)
{
	volatile struct mshv_vtl_run *run;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "a second CPU is needed");
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_sleep));
	run = self->irq.guest.run;
	run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT;
	run->proxy_irr_blocked[VECTOR / 32] = ~(1U << VECTOR % 32);
	run->proxy_irr_blocked[LAST_VECTOR / 32] = ~(1U << LAST_VECTOR % 32);
	self->host.irq = &self->irq;
}

FIXTURE_TEARDOWN(proxied)
{
	memset((void *)self->irq.guest.run->proxy_irr_blocked, 0xff, 32);
	irq_guest_close(&self->irq);
}

static int ask_proxy(unsigned int vector)
{
	return debug_port(ACTION_PROXY, vector);
}

/* Waits until the guest has taken that many, or a long time has passed. */
static bool await_taken(const struct host *host, unsigned int vector,
			uint32_t count)
{
	int tries;

	for (tries = 0; tries < 10000; tries++) {
		if (host->irq->data->taken[vector] >= count)
			return true;
		usleep(1000);
	}
	return false;
}

static void *play_host(void *argument)
{
	struct host *host = argument;
	volatile struct irq_data *data = host->irq->data;
	uint32_t before = data->spins;
	unsigned int count = host->count;

	while (count--) {
		int answer = ask_proxy(VECTOR);

		host->asked += answer == 0;
		if (answer && answer != ANSWER_FULL)
			break;
		if (host->is_waiting && !await_taken(host, VECTOR, host->asked))
			break;
	}
	host->progress = data->spins - before;
	/* After all the others. The host may have no room for it yet. */
	while (ask_proxy(LAST_VECTOR) == ANSWER_FULL)
		usleep(1000);
	host->has_all = await_taken(host, LAST_VECTOR, 1);
	irq_kick(host->irq, MSHV_KICK_CANCEL);
	return NULL;
}

/* One run with the host at work; what it ends with. */
static int run_with_host(struct irq_guest *irq, struct host *host)
{
	pthread_t thread;
	int result;

	if (vtl_thread_on(&thread, 1, play_host, host))
		return -EAGAIN;
	result = vtl_enter(&irq->guest);
	pthread_join(thread, NULL);
	return result;
}

#define EXPECT_NOTHING_LEFT(run)                            \
	do {                                                \
		unsigned int _i;                            \
		EXPECT_EQ(0, (run)->scan_proxy_irr);        \
		for (_i = 0; _i < 8; _i++)                  \
			EXPECT_EQ(0, (run)->proxy_irr[_i]); \
	} while (0)

/* The guest halts between them: each one wakes it. */
TEST_F(proxied, a_halted_guest_takes_each_in_one_call)
{
	self->host.count = 200;
	self->host.is_waiting = true;
	EXPECT_EQ(-EINTR, run_with_host(&self->irq, &self->host));
	EXPECT_EQ(200, self->host.asked);
	EXPECT_TRUE(self->host.has_all);
	EXPECT_EQ(200, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(1, self->irq.data->taken[LAST_VECTOR]);
	EXPECT_NOTHING_LEFT(self->irq.guest.run);
}

/* The guest never exits by itself: each interrupt has to interrupt it. */
TEST_F(proxied, a_running_guest_takes_each_in_one_call)
{
	self->irq.guest.run->tdx.l2_enter_guest_state.rip =
		irq_guest_address(&self->irq, irq_guest_spin);
	self->host.count = 200;
	self->host.is_waiting = true;
	EXPECT_EQ(-EINTR, run_with_host(&self->irq, &self->host));
	EXPECT_EQ(200, self->host.asked);
	EXPECT_TRUE(self->host.has_all);
	EXPECT_EQ(200, self->irq.data->taken[VECTOR]);
	EXPECT_NOTHING_LEFT(self->irq.guest.run);
}

/* As many as the host can send: the guest gets on, and the last one arrives. */
TEST_F(proxied, a_flood_neither_stops_the_guest_nor_hides_the_last_one)
{
	self->irq.guest.run->tdx.l2_enter_guest_state.rip =
		irq_guest_address(&self->irq, irq_guest_spin);
	self->host.count = 1000;
	EXPECT_EQ(-EINTR, run_with_host(&self->irq, &self->host));
	/* The host reports when no more of them can be queued. */
	EXPECT_LT(100, self->host.asked);
	EXPECT_LT(0, self->host.progress);
	EXPECT_TRUE(self->host.has_all);
	/* Several may become one, as in an APIC; none is made up. */
	EXPECT_LE(1, self->irq.data->taken[VECTOR]);
	EXPECT_GE(self->host.asked, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(1, self->irq.data->taken[LAST_VECTOR]);
	EXPECT_NOTHING_LEFT(self->irq.guest.run);
}

/* Blocked vectors are dropped; those that exit to userspace end the run. */
TEST_F(proxied, masks_decide_who_sees_them)
{
	volatile struct mshv_vtl_run *run = self->irq.guest.run;

	run->proxy_irr_blocked[VECTOR / 32] = ~0U;
	self->host.count = 5;
	EXPECT_EQ(-EINTR, run_with_host(&self->irq, &self->host));
	EXPECT_TRUE(self->host.has_all);
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
	run->cancel = 0;

	run->proxy_irr_blocked[VECTOR / 32] = 0;
	run->proxy_irr_exit_mask[VECTOR / 32] = 1U << VECTOR % 32;
	EXPECT_EQ(0, ask_proxy(VECTOR));
	EXPECT_EQ(-EINTR, vtl_enter(&self->irq.guest));
	EXPECT_EQ(0, run->cancel);
	EXPECT_EQ(1, run->scan_proxy_irr);
	EXPECT_EQ(1U << VECTOR % 32, run->proxy_irr[VECTOR / 32]);
	EXPECT_EQ(0, self->irq.data->taken[VECTOR]);
}

TEST_HARNESS_MAIN
