// SPDX-License-Identifier: GPL-2.0
/*
 * VTL0 and VTL1 of two VPs call and return without end, while interrupts come from all
 * sources: VTL0 of both VPs, VTL0's timer, proxied ones for the kernel and for userspace,
 * and those that userspace injects into VTL1, for which it enters VTL1 at any moment. Each
 * source sends the next one only after the previous one was taken. In the end nothing was
 * lost or doubled, and no register was ever on the wrong side (lib/vtl_pair_storm.S).
 * STORM_SECONDS is the duration, 3 if not set; with STORM_SWITCHES it ends earlier, after
 * that many switches.
 */
#include <string.h>
#include <time.h>

#include "irq_guest.h"
#include "switch_storm.h"
#include "two_vps.h"

#define REPORT_SECONDS 60
/* On a slow machine each source gets more time for its first interrupt. */
#define PATIENCE_SECONDS 60

static struct storm_vp storm_vps[VPS];

/* Sends one VP something from outside. */
static void ask(struct storm_vp *vp, uint64_t dice)
{
	struct vtl_pair *pair = vp->pair;
	volatile struct storm_data *vtl0 = storm_data(vp, 1);

	if (vtl0->taken[TAKEN_PROXY] == vp->sent_proxy) {
		vp->sent_proxy++;
		irq_proxy(pair->guest.run, VECTOR_PROXY);
		vtl_kick(&pair->guest, 0);
	}
	if (!(dice & 7) && vtl0->taken[TAKEN_LEVEL] == vp->sent_level) {
		vp->sent_level++;
		irq_proxy(pair->guest.run, VECTOR_LEVEL);
		vtl_kick(&pair->guest, 0);
	}
	if (!(dice & 0x30) && vp->done == vp->wanted_vtl1 && !vtl0->stop) {
		vp->wanted_vtl1++;
		vtl_kick(&pair->guest, MSHV_KICK_CANCEL);
	}
	if (!(dice & 0x1c0))
		vtl_kick(&pair->guest, MSHV_KICK_CANCEL);
}

static bool is_balanced(struct storm_vp *vp, struct storm_vp *peer)
{
	volatile struct storm_data *vtl0 = storm_data(vp, 1);
	volatile struct storm_data *vtl1 = storm_data(vp, 2);

	return vtl0->taken[TAKEN_PEER] == storm_data(peer, 1)->sent_peer &&
	       vtl0->taken[TAKEN_SELF] == vtl0->sent_self &&
	       vtl0->taken[TAKEN_TIMER] == vtl0->sent_timer &&
	       vtl0->taken[TAKEN_PROXY] == vp->sent_proxy &&
	       vtl0->taken[TAKEN_LEVEL] == vp->sent_level &&
	       vtl1->taken[TAKEN_VTL1] == vp->injected &&
	       vp->done == vp->wanted_vtl1;
}

static bool is_any_silent(void)
{
	int i;

	for (i = 0; i < VPS; i++) {
		volatile struct storm_data *vtl0 = storm_data(&storm_vps[i], 1);

		if (!vtl0->sent_peer || !vtl0->sent_self || !vtl0->sent_timer ||
		    !storm_vps[i].sent_proxy || !storm_vps[i].sent_level ||
		    !storm_vps[i].injected || !storm_vps[i].entered_vtl1)
			return true;
	}
	return false;
}

static uint64_t num_switches(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < VPS; i++)
		sum += 2 * (storm_data(&storm_vps[i], 2)->turns +
			    storm_data(&storm_vps[i], 2)->asked);
	return sum;
}

/* Until the VTLs have stopped, and have taken what is under way. */
static void end_storm(void)
{
	int i, tries;

	for (i = 0; i < VPS; i++)
		storm_data(&storm_vps[i], 1)->stop = 1;
	for (tries = 0; tries < 1000; tries++) {
		if (storm_vps[0].is_stopped && storm_vps[1].is_stopped &&
		    is_balanced(&storm_vps[0], &storm_vps[1]) &&
		    is_balanced(&storm_vps[1], &storm_vps[0]))
			break;
		/* A halted VTL0 does not see it. */
		for (i = 0; i < VPS; i++)
			if (!storm_vps[i].is_stopped)
				ask(&storm_vps[i], 0x1f0);
		usleep(10000);
	}
}

#define EXPECT_TAKEN(data, number, sent) EXPECT_EQ(sent, (data)->taken[number])

static void expect_balance(struct __test_metadata *_metadata,
			   struct storm_vp *vp, struct storm_vp *peer)
{
	volatile struct storm_data *vtl0 = storm_data(vp, 1);
	volatile struct storm_data *vtl1 = storm_data(vp, 2);

	EXPECT_EQ(0, vp->failed)
	{
		TH_LOG("%#x", vp->failed);
	}
	EXPECT_TRUE(vp->is_stopped);
	EXPECT_EQ(0, vtl0->errors);
	EXPECT_EQ(0, vtl1->errors);
	EXPECT_EQ(vtl0->turns, vtl1->turns);
	EXPECT_EQ(vp->entered_vtl1, vtl1->asked);
	EXPECT_TAKEN(vtl0, TAKEN_PEER, storm_data(peer, 1)->sent_peer);
	EXPECT_TAKEN(vtl0, TAKEN_SELF, vtl0->sent_self);
	EXPECT_TAKEN(vtl0, TAKEN_TIMER, vtl0->sent_timer);
	EXPECT_TAKEN(vtl0, TAKEN_PROXY, vp->sent_proxy);
	EXPECT_TAKEN(vtl0, TAKEN_LEVEL, vp->sent_level);
	EXPECT_TAKEN(vtl1, TAKEN_VTL1, vp->injected);
	/* No source was silent. */
	EXPECT_LT(0, vtl0->sent_peer);
	EXPECT_LT(0, vtl0->sent_self);
	EXPECT_LT(0, vtl0->sent_timer);
	EXPECT_LT(0, vp->sent_proxy);
	EXPECT_LT(0, vp->sent_level);
	EXPECT_LT(0, vp->injected);
	EXPECT_LT(0, vp->entered_vtl1);
	TH_LOG("VP %d: %llu calls; peer %llu, self %llu, timer %llu, proxied %llu, level %llu; VTL1 entered %llu times, %llu interrupts",
	       vp->pair->guest.cpu, (unsigned long long)vtl0->turns,
	       (unsigned long long)vtl0->sent_peer,
	       (unsigned long long)vtl0->sent_self,
	       (unsigned long long)vtl0->sent_timer,
	       (unsigned long long)vp->sent_proxy,
	       (unsigned long long)vp->sent_level,
	       (unsigned long long)vp->entered_vtl1,
	       (unsigned long long)vp->injected);
}

/* Nothing of it remains for the next test. */
static void forget_timer(struct vtl_pair *pair)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;

	vtl_pin(pair->guest.cpu);
	pair_timer(pair)->vector = 0;
	pair_timer(pair)->deadline = 0;
	run->tdx.l2_tsc_deadline.deadline = 0;
	run->tdx.l2_tsc_deadline.update = 1;
	run->cancel = 1;
	vtl_enter(&pair->guest);
	run->cancel = 0;
}

TEST_F_TIMEOUT(two, nothing_is_lost_or_doubled_and_no_state_is_anothers, 36000)
{
	const unsigned long wanted = vtl_setting("STORM_SWITCHES", 0);
	const time_t begun = time(NULL);
	const time_t end =
		begun + vtl_setting("STORM_SECONDS", wanted ? 3600 : 3);
	time_t report = begun + REPORT_SECONDS;
	struct mshv_vtl_stats before[VPS], after;
	uint64_t dice = 1;
	int i;

	for (i = 0; i < VPS; i++) {
		storm_vps[i].pair = &self->vps[i].pair;
		ASSERT_EQ(0, storm_prepare(&storm_vps[i]))
		{
			TH_LOG("%s", self->vps[i].pair.guest.why);
		}
		before[i] = pair_stats(&self->vps[i].pair);
	}
	for (i = 0; i < VPS; i++) {
		storm_data(&storm_vps[i], 1)->peer = pair_gpa(
			&self->vps[!i].pair, self->vps[!i].pair.data[0]);
		ASSERT_EQ(0, vtl_thread_on(&self->vps[i].thread, i, storm_run,
					   &storm_vps[i]));
	}
	while ((time(NULL) < end ||
		(is_any_silent() && time(NULL) < end + PATIENCE_SECONDS)) &&
	       !storm_vps[0].failed && !storm_vps[1].failed &&
	       !(wanted && num_switches() >= wanted)) {
		if (time(NULL) >= report) {
			TH_LOG("%llu switches so far",
			       (unsigned long long)num_switches());
			report += REPORT_SECONDS;
		}
		for (i = 0; i < VPS; i++)
			ask(&storm_vps[i], vtl_roll(&dice));
		/* The VPs' threads need the CPU, too. */
		usleep(vtl_roll(&dice) & 1023);
	}
	end_storm();
	for (i = 0; i < VPS; i++) {
		storm_vps[i].is_over = true;
		vtl_kick(&self->vps[i].pair.guest, MSHV_KICK_CANCEL);
		pthread_join(self->vps[i].thread, NULL);
	}
	for (i = 0; i < VPS; i++) {
		struct storm_vp *vp = &storm_vps[i];

		after = pair_stats(&self->vps[i].pair);
		expect_balance(_metadata, vp, &storm_vps[!i]);
		EXPECT_EQ(storm_data(vp, 1)->turns,
			  after.vtl_calls - before[i].vtl_calls);
		EXPECT_EQ(storm_data(vp, 2)->turns,
			  after.vtl_fast_returns - before[i].vtl_fast_returns);
		EXPECT_EQ(storm_data(vp, 2)->asked,
			  after.vtl_returns - before[i].vtl_returns);
		forget_timer(&self->vps[i].pair);
	}
	TH_LOG("%llu switches", (unsigned long long)num_switches());
	EXPECT_LE(wanted, num_switches());
}

TEST_HARNESS_MAIN
