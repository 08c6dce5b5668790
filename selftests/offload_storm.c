// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts from all sources at once: two guests that send each other and
 * themselves interrupts and halt, proxied ones for the kernel and for
 * userspace, the timers, and kicks. Each source sends the next one only after
 * the previous one was taken, and counts; so do the guests. At the end no
 * interrupt may be lost or duplicated. STORM_SECONDS is the duration, 3 if not
 * set; with STORM_EVENTS it ends earlier, after that many interrupts, so that
 * an hour can be allowed if necessary.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define VECTOR_TIMER 0x41
#define VECTOR_PROXY 0x51
#define VECTOR_LEVEL 0x52 /* one of those that exit to userspace */
#define NUM_VPS 2
#define REPORT_SECONDS 60

struct storm_vp {
	struct irq_guest irq;
	pthread_t thread;
	int cpu;
	uint64_t ticks; /* from one deadline to the next */
	uint32_t sent_timer, sent_proxy, sent_level;
	volatile bool is_ready, is_stopped;
	volatile int failed; /* what the run ended with unexpectedly */
};

static volatile bool is_begun, is_over;

static void yield_until(volatile bool *flag)
{
	while (!*flag && !is_over)
		usleep(1000);
}

static void on_timer(struct storm_vp *vp)
{
	volatile struct mshv_vtl_run *run = vp->irq.guest.run;

	if (vp->irq.data->taken[VECTOR_TIMER] == vp->sent_timer &&
	    !vp->irq.data->stop) {
		vp->sent_timer++;
		irq_request(vp->irq.vapic, &run->tdx.l2_enter_guest_state.rvi,
			    VECTOR_TIMER);
	}
	run->tdx.l2_tsc_deadline.deadline = irq_tsc() + vp->ticks;
	run->tdx.l2_tsc_deadline.update = 1;
}

/* One call. Returns 0, or what is wrong. */
static int turn(struct storm_vp *vp)
{
	struct vtl_guest *guest = &vp->irq.guest;
	int result = vtl_enter(guest);

	if (result == -EINTR) {
		guest->run->cancel = 0;
		irq_take_proxied(guest->run, vp->irq.vapic,
				 &guest->run->tdx.l2_enter_guest_state.rvi);
		return 0;
	}
	if (result)
		return result;
	if (guest->run->tdx.exit_info.rax >> 32)
		return guest->run->tdx.exit_info.rax >> 32;
	switch (vtl_exit_reason(guest)) {
	case EXIT_TIMER:
		on_timer(vp);
		return 0;
	case EXIT_VMCALL:
		vp->is_stopped = true;
		vtl_step_over(guest);
		return 0;
	default:
		return vtl_exit_reason(guest);
	}
}

static int prepare(struct storm_vp *vp)
{
	volatile struct mshv_vtl_run *run;

	if (irq_guest_open(&vp->irq, vp->cpu) ||
	    irq_guest_start(&vp->irq, irq_guest_storm))
		return -1;
	run = vp->irq.guest.run;
	run->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT |
			     MSHV_VTL_OFFLOAD_X2APIC;
	run->proxy_irr_exit_mask[VECTOR_LEVEL / 32] = 1U << VECTOR_LEVEL % 32;
	vp->irq.data->peer_apic_id = irq_apic_id(!vp->cpu);
	return 0;
}

static void *run_vp(void *argument)
{
	struct storm_vp *vp = argument;

	vp->failed = prepare(vp);
	vp->is_ready = true;
	yield_until(&is_begun);
	on_timer(vp);
	while (!vp->failed && !is_over)
		vp->failed = turn(vp);
	return NULL;
}

FIXTURE(storm)
{
	struct storm_vp vps[NUM_VPS];
	uint64_t dice;
};

FIXTURE_SETUP(storm)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	uint64_t base, size;
	int i, mshv;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) != NUM_VPS)
		SKIP(return, "needs two CPUs");
	mshv = vtl_open(DEV_MSHV);
	ASSERT_EQ(0, ioctl(mshv, MSHV_VTL_INFO, &info));
	close(mshv);
	for (i = 0; i < NUM_VPS; i++) {
		self->vps[i].cpu = i;
		self->vps[i].ticks = (3 + 2 * i) * info.tsc_khz;
		ASSERT_EQ(0, pthread_create(&self->vps[i].thread, NULL, run_vp,
					    &self->vps[i]));
	}
	for (i = 0; i < NUM_VPS; i++) {
		yield_until(&self->vps[i].is_ready);
		ASSERT_EQ(0, self->vps[i].failed)
		{
			TH_LOG("%s", self->vps[i].irq.guest.why);
		}
	}
	for (i = 0; i < NUM_VPS; i++)
		self->vps[i].irq.data->peer =
			self->vps[!i].irq.memory +
			((uint8_t *)self->vps[!i].irq.data -
			 (uint8_t *)self->vps[!i].irq.part);
}

/* Each VP is reset on its own CPU. */
FIXTURE_TEARDOWN(storm)
{
	int i;

	is_over = true;
	for (i = 0; i < NUM_VPS; i++) {
		if (!self->vps[i].thread)
			continue;
		irq_kick(&self->vps[i].irq, MSHV_KICK_CANCEL);
		pthread_join(self->vps[i].thread, NULL);
		vtl_pin(i);
		vtl_guest_write_field(&self->vps[i].irq.guest,
				      FIELD_TSC_DEADLINE(1), ~0ULL, ~0ULL);
		irq_guest_close(&self->vps[i].irq);
	}
}

/* Sends one VP something from outside. */
static void ask(struct storm_vp *vp, uint32_t dice)
{
	volatile struct mshv_vtl_run *run = vp->irq.guest.run;
	volatile uint32_t *taken = vp->irq.data->taken;

	if (taken[VECTOR_PROXY] == vp->sent_proxy) {
		vp->sent_proxy++;
		irq_proxy(run, VECTOR_PROXY);
		irq_kick(&vp->irq, 0);
	}
	if (!(dice & 7) && taken[VECTOR_LEVEL] == vp->sent_level) {
		vp->sent_level++;
		irq_proxy(run, VECTOR_LEVEL);
		irq_kick(&vp->irq, 0);
	}
	if (!(dice & 0x70))
		irq_kick(&vp->irq, dice & 0x80 ? MSHV_KICK_CANCEL : 0);
}

/* Returns true if one VP has taken exactly what it was sent. */
static bool is_balanced(struct storm_vp *vp, struct storm_vp *peer)
{
	volatile uint32_t *taken = vp->irq.data->taken;

	return taken[VECTOR_TIMER] == vp->sent_timer &&
	       taken[VECTOR_PROXY] == vp->sent_proxy &&
	       taken[VECTOR_LEVEL] == vp->sent_level &&
	       taken[STORM_PEER_VECTOR] == peer->irq.data->sent_peer &&
	       taken[STORM_SELF_VECTOR] == vp->irq.data->sent_self;
}

static uint64_t total(struct storm_vp *vp)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < 256; i++)
		sum += vp->irq.data->taken[i];
	return sum;
}

#define EXPECT_TAKEN(vp, vector, sent) \
	EXPECT_EQ(sent, (vp)->irq.data->taken[vector])

TEST_F_TIMEOUT(storm, nothing_is_lost_and_nothing_doubled, 36000)
{
	unsigned long wanted = vtl_setting("STORM_EVENTS", 0);
	time_t end =
		time(NULL) + vtl_setting("STORM_SECONDS", wanted ? 3600 : 3);
	time_t report = time(NULL) + REPORT_SECONDS;
	struct storm_vp *vps = self->vps;
	uint64_t before, sum = 0;
	int i, tries;

	is_begun = true;
	while (time(NULL) < end && !vps[0].failed && !vps[1].failed &&
	       !(wanted && total(&vps[0]) + total(&vps[1]) >= wanted)) {
		if (time(NULL) >= report) {
			TH_LOG("%llu interrupts so far",
			       (unsigned long long)(total(&vps[0]) +
						    total(&vps[1])));
			report += REPORT_SECONDS;
		}
		for (i = 0; i < NUM_VPS; i++)
			ask(&vps[i], vtl_roll(&self->dice));
		/* The VPs' threads need the CPU, too. */
		if (vtl_roll(&self->dice) & 15)
			usleep(vtl_roll(&self->dice) & 127);
	}
	for (i = 0; i < NUM_VPS; i++)
		vps[i].irq.data->stop = 1;
	/* A halted guest does not see it: its timer no longer wakes it. */
	for (tries = 0; tries < 500; tries++) {
		if (vps[0].is_stopped && vps[1].is_stopped &&
		    is_balanced(&vps[0], &vps[1]) &&
		    is_balanced(&vps[1], &vps[0]))
			break;
		for (i = 0; i < NUM_VPS; i++)
			if (!vps[i].is_stopped)
				ask(&vps[i], 1);
		usleep(10000);
	}
	before = total(&vps[0]) + total(&vps[1]);
	usleep(50000);
	for (i = 0; i < NUM_VPS; i++) {
		struct storm_vp *vp = &vps[i];

		EXPECT_EQ(0, vp->failed);
		EXPECT_TRUE(vp->is_stopped);
		EXPECT_TAKEN(vp, VECTOR_TIMER, vp->sent_timer);
		EXPECT_TAKEN(vp, VECTOR_PROXY, vp->sent_proxy);
		EXPECT_TAKEN(vp, VECTOR_LEVEL, vp->sent_level);
		EXPECT_TAKEN(vp, STORM_PEER_VECTOR,
			     vps[!i].irq.data->sent_peer);
		EXPECT_TAKEN(vp, STORM_SELF_VECTOR, vp->irq.data->sent_self);
		TH_LOG("VP %d: timer %u, proxied %u, level %u, peer %u, self %u",
		       i, vp->sent_timer, vp->sent_proxy, vp->sent_level,
		       vp->irq.data->taken[STORM_PEER_VECTOR],
		       vp->irq.data->taken[STORM_SELF_VECTOR]);
		sum += (uint64_t)vp->sent_timer + vp->sent_proxy +
		       vp->sent_level + vp->irq.data->sent_peer +
		       vp->irq.data->sent_self;
		EXPECT_LT(0, vp->sent_timer);
		EXPECT_LT(0, vp->sent_level);
		EXPECT_LT(0, vp->irq.data->sent_peer);
	}
	/* No vector but those that were sent, and no late ones. */
	EXPECT_EQ(sum, total(&vps[0]) + total(&vps[1]));
	EXPECT_EQ(before, total(&vps[0]) + total(&vps[1]));
	TH_LOG("%llu interrupts", (unsigned long long)sum);
	EXPECT_LE(wanted, sum);
}

TEST_HARNESS_MAIN
