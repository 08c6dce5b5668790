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

#define VECTOR_TIMER 0x41
#define VECTOR_PROXY 0x51
#define VECTOR_LEVEL 0x52 /* one of those that exit to userspace */
#define VECTOR_VTL1 0x91
#define VMCS_ENTRY_INTERRUPT_INFO VMCS32(0x4016)
#define EVENT_VALID (1U << 31)
#define OFFLOAD (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)
#define PROXY MSHV_VTL_SWITCH_PROXY
#define ALL (MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN | PROXY)
#define ENTERED_BY_CALL 1
#define ENTERED_BY_INTERRUPT 2
#define REPORT_SECONDS 60
/* On a slow machine each source gets more time for its first interrupt. */
#define PATIENCE_SECONDS 60
#define FAILED_EXIT 0x10000
#define FAILED_FIELD 0x20000

/* What the thread of a VP knows of it, beside struct runner. */
struct storm_vp {
	struct runner *runner;
	uint64_t sent_proxy, sent_level;
	volatile uint64_t
		wanted_vtl1; /* requests to enter VTL1, by another thread */
	uint64_t entered_vtl1, injected, done;
	bool is_injecting;
	volatile bool is_stopped;
	volatile int failed; /* what the run ended with unexpectedly */
};

static struct storm_vp storm_vps[VPS];
static volatile bool is_storm_over;

static volatile struct storm_data *data_of(const struct storm_vp *vp, int vm)
{
	return (void *)((volatile uint8_t *)vp->runner->pair.data[vm - 1] +
			STORM_AT);
}

/* Userspace's own way to request an interrupt of VTL0, while nothing runs. */
static void request(struct vtl_pair *pair, unsigned int vector)
{
	volatile uint32_t *word =
		(volatile uint32_t *)(pair->vapic + 0x200 + vector / 32 * 16);

	*word |= 1U << vector % 32;
	if (pair_vm(pair) == 2) {
		if (pair->page->parked[0].rvi < vector)
			pair->page->parked[0].rvi = vector;
	} else if (pair->guest.run->tdx.l2_enter_guest_state.rvi < vector) {
		pair->guest.run->tdx.l2_enter_guest_state.rvi = vector;
	}
}

/* Takes what the kernel has left. */
static void take_proxied(struct vtl_pair *pair)
{
	volatile struct mshv_vtl_run *run = pair->guest.run;
	unsigned int word, bit;
	uint32_t bits;

	if (!__atomic_exchange_n(&run->scan_proxy_irr, 0, __ATOMIC_SEQ_CST))
		return;
	for (word = 0; word < 8; word++) {
		bits = __atomic_exchange_n(&run->proxy_irr[word], 0,
					   __ATOMIC_SEQ_CST);
		for (bit = 0; bit < 32; bit++)
			if (bits >> bit & 1)
				request(pair, word * 32 + bit);
	}
}

/* VTL1 runs next, with the reason of an interrupt. VTL0 stays halted if it is. */
static void enter_vtl1(struct storm_vp *vp)
{
	struct vtl_pair *pair = &vp->runner->pair;
	volatile struct mshv_vtl_run *run = pair->guest.run;
	const uint8_t halts = MSHV_VTL_HALT_HLT | MSHV_VTL_HALT_IDLE;

	pair_exchange(pair);
	pair->page->parked[0].halt = run->offload_flags & halts;
	run->offload_flags &= ~halts;
	run->flags = 0;
	*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON) =
		ENTERED_BY_INTERRUPT;
	vp->entered_vtl1++;
}

/* The kernel must not switch until the event was delivered. */
static void inject(struct storm_vp *vp)
{
	if (pair_write_field(&vp->runner->pair, 2, VMCS_ENTRY_INTERRUPT_INFO,
			     EVENT_VALID | VECTOR_VTL1, 0xffffffff))
		vp->failed = FAILED_FIELD;
	vp->is_injecting = true;
	vp->injected++;
	vp->runner->pair.page->enable = PROXY;
}

/* Another thread wants VTL1 to run, or to be interrupted. */
static void look_at_vtl1(struct storm_vp *vp)
{
	struct vtl_pair *pair = &vp->runner->pair;

	if (vp->done == vp->wanted_vtl1 || vp->is_injecting)
		return;
	if (pair_vm(pair) == 1)
		enter_vtl1(vp);
	vp->done++;
	/* With interrupts off it is in its handler. */
	if (vp->done & 1 &&
	    pair->guest.run->tdx.l2_enter_guest_state.rflags & RFLAGS_IF)
		inject(vp);
}

/* A VMCALL that the kernel has left. Returns 0, or what is wrong. */
static int on_vmcall(struct storm_vp *vp)
{
	struct vtl_pair *pair = &vp->runner->pair;
	const uint64_t rcx = pair->guest.run->tdx.l2_enter_guest_state.gpr[RCX];

	if (pair_vm(pair) == 1 && rcx == STORM_END) {
		vp->is_stopped = true;
		vtl_step_over(&pair->guest);
		return 0;
	}
	/* VTL1 has handled the event and may return. */
	if (pair_vm(pair) == 2 && vp->is_injecting &&
	    pair->page->left == MSHV_VTL_LEFT_DISABLED) {
		vp->is_injecting = false;
		pair->page->enable = ALL;
		return 0;
	}
	return FAILED_EXIT | pair->page->left << 8 | pair_vm(pair);
}

/* One call. Returns 0, or what is wrong. */
static int storm_turn(struct storm_vp *vp)
{
	struct vtl_guest *guest = &vp->runner->pair.guest;
	int result = vtl_enter(guest);

	if (result == -EINTR) {
		guest->run->cancel = 0;
		take_proxied(&vp->runner->pair);
		look_at_vtl1(vp);
		return vp->failed;
	}
	if (result)
		return result;
	/* A host that is hostile ends runs for no reason. */
	if (guest->run->tdx.exit_info.rax >> 32)
		return 0;
	if (vtl_exit_reason(guest) == EXIT_VMCALL)
		return on_vmcall(vp);
	return FAILED_EXIT | vtl_exit_reason(guest);
}

static void set_gates(struct vtl_pair *pair)
{
	pair_set_gate(pair, 1, VECTOR_PEER, pair_storm_irq_peer);
	pair_set_gate(pair, 1, VECTOR_SELF, pair_storm_irq_self);
	pair_set_gate(pair, 1, VECTOR_TIMER, pair_storm_irq_timer);
	pair_set_gate(pair, 1, VECTOR_PROXY, pair_storm_irq_proxy);
	pair_set_gate(pair, 1, VECTOR_LEVEL, pair_storm_irq_level);
	pair_set_gate(pair, 2, VECTOR_VTL1, pair_storm_irq_vtl1);
}

static volatile struct mshv_vtl_timer *timer(struct vtl_pair *pair)
{
	return (void *)((volatile uint8_t *)pair->guest.run +
			MSHV_VTL_RUN_TIMER);
}

/* Distinct for each VTL of each VP; the high halves are what each MSR allows. */
static void set_own_msrs(volatile struct storm_data *data, unsigned int owner)
{
	int i;

	for (i = 0; i < NUM_MSRS; i++)
		data->own[i] = (owner + 1) << 28 | i << 24;
	for (i = 0; i < NUM_MSRS - 1; i++)
		if (i != 2)
			data->own[i] |= (uint64_t)(0x100 + owner) << 32;
}

static int storm_prepare(struct storm_vp *vp)
{
	struct vtl_pair *pair = &vp->runner->pair;
	const int cpu = pair->guest.cpu;
	int vm;

	if (start(vp->runner, pair_storm_vtl0, pair_storm_vtl1) ||
	    pair_deliver(pair) || pair_let_live_msrs_through(pair))
		return -1;
	set_gates(pair);
	for (vm = 1; vm <= 2; vm++)
		set_own_msrs(data_of(vp, vm), 2 * cpu + vm - 1);
	pair->page->parked[1].rflags = 2 | RFLAGS_IF;
	pair->page->enable = ALL;
	pair->guest.run->offload_flags = OFFLOAD;
	pair->guest.run->proxy_irr_exit_mask[VECTOR_LEVEL / 32] =
		1U << VECTOR_LEVEL % 32;
	timer(pair)->vector = VECTOR_TIMER;
	data_of(vp, 1)->ticks = (2 + cpu) << 20;
	data_of(vp, 1)->peer_apic_id = irq_apic_id(!cpu);
	return 0;
}

static void *run_storm(void *argument)
{
	struct storm_vp *vp = argument;

	while (!vp->failed && !is_storm_over)
		vp->failed = storm_turn(vp);
	return NULL;
}

/* Sends one VP something from outside. */
static void ask(struct storm_vp *vp, uint64_t dice)
{
	struct vtl_pair *pair = &vp->runner->pair;
	volatile struct storm_data *vtl0 = data_of(vp, 1);

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
	volatile struct storm_data *vtl0 = data_of(vp, 1);
	volatile struct storm_data *vtl1 = data_of(vp, 2);

	return vtl0->taken[TAKEN_PEER] == data_of(peer, 1)->sent_peer &&
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
		volatile struct storm_data *vtl0 = data_of(&storm_vps[i], 1);

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
		sum += 2 * (data_of(&storm_vps[i], 2)->turns +
			    data_of(&storm_vps[i], 2)->asked);
	return sum;
}

/* Until the VTLs have stopped, and have taken what is under way. */
static void end_storm(void)
{
	int i, tries;

	for (i = 0; i < VPS; i++)
		data_of(&storm_vps[i], 1)->stop = 1;
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
	volatile struct storm_data *vtl0 = data_of(vp, 1);
	volatile struct storm_data *vtl1 = data_of(vp, 2);

	EXPECT_EQ(0, vp->failed)
	{
		TH_LOG("%#x", vp->failed);
	}
	EXPECT_TRUE(vp->is_stopped);
	EXPECT_EQ(0, vtl0->errors);
	EXPECT_EQ(0, vtl1->errors);
	EXPECT_EQ(vtl0->turns, vtl1->turns);
	EXPECT_EQ(vp->entered_vtl1, vtl1->asked);
	EXPECT_TAKEN(vtl0, TAKEN_PEER, data_of(peer, 1)->sent_peer);
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
	       vp->runner->pair.guest.cpu, (unsigned long long)vtl0->turns,
	       (unsigned long long)vtl0->sent_peer,
	       (unsigned long long)vtl0->sent_self,
	       (unsigned long long)vtl0->sent_timer,
	       (unsigned long long)vp->sent_proxy,
	       (unsigned long long)vp->sent_level,
	       (unsigned long long)vp->entered_vtl1,
	       (unsigned long long)vp->injected);
}

/* Nothing of it remains for the next test. */
static void forget_timer(struct runner *vp)
{
	volatile struct mshv_vtl_run *run = vp->pair.guest.run;

	vtl_pin(vp->pair.guest.cpu);
	timer(&vp->pair)->vector = 0;
	timer(&vp->pair)->deadline = 0;
	run->tdx.l2_tsc_deadline.deadline = 0;
	run->tdx.l2_tsc_deadline.update = 1;
	run->cancel = 1;
	vtl_enter(&vp->pair.guest);
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
		storm_vps[i].runner = &self->vps[i];
		ASSERT_EQ(0, storm_prepare(&storm_vps[i]))
		{
			TH_LOG("%s", self->vps[i].pair.guest.why);
		}
		before[i] = pair_stats(&self->vps[i].pair);
	}
	for (i = 0; i < VPS; i++) {
		data_of(&storm_vps[i], 1)->peer = pair_gpa(
			&self->vps[!i].pair, self->vps[!i].pair.data[0]);
		ASSERT_EQ(0, vtl_thread_on(&self->vps[i].thread, i, run_storm,
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
	is_storm_over = true;
	for (i = 0; i < VPS; i++) {
		vtl_kick(&self->vps[i].pair.guest, MSHV_KICK_CANCEL);
		pthread_join(self->vps[i].thread, NULL);
	}
	for (i = 0; i < VPS; i++) {
		struct storm_vp *vp = &storm_vps[i];

		after = pair_stats(&self->vps[i].pair);
		expect_balance(_metadata, vp, &storm_vps[!i]);
		EXPECT_EQ(data_of(vp, 1)->turns,
			  after.vtl_calls - before[i].vtl_calls);
		EXPECT_EQ(data_of(vp, 2)->turns,
			  after.vtl_fast_returns - before[i].vtl_fast_returns);
		EXPECT_EQ(data_of(vp, 2)->asked,
			  after.vtl_returns - before[i].vtl_returns);
		forget_timer(&self->vps[i]);
	}
	TH_LOG("%llu switches", (unsigned long long)num_switches());
	EXPECT_LE(wanted, num_switches());
}

TEST_HARNESS_MAIN
