// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts that the lower VTL sends by its x2APIC: which the kernel delivers,
 * to whom, and which it leaves to userspace unchanged.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "irq_guest.h"

#define MSR_ICR 0x830
#define VECTOR 0x41
#define NOBODY 0x7f

#define ICR_LOGICAL (1ULL << 11)
#define ICR_LEVEL (1ULL << 14)
#define ICR_SELF (1ULL << 18)
#define ICR_ALL (2ULL << 18)
#define ICR_OTHERS (3ULL << 18)
#define ICR_TO(id) ((uint64_t)(id) << 32)
#define BROADCAST 0xffffffffU

/* VP 0 sends, VP 1 does not run: requests stay in its run page. */
FIXTURE(icr)
{
	struct irq_guest irq;
	volatile struct mshv_vtl_run *run, *peer;
	uint32_t own_id, peer_id;
};

FIXTURE_SETUP(icr)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) != 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, irq_guest_open(&self->irq, 0))
	{
		TH_LOG("%s", self->irq.guest.why);
	}
	self->run = self->irq.guest.run;
	self->peer =
		vtl_map_page(self->irq.guest.fd, MSHV_VTL_MMAP_RUN_PAGE, 1);
	ASSERT_NE(MAP_FAILED, self->peer);
	self->own_id = irq_apic_id(0);
	self->peer_id = irq_apic_id(1);
	ASSERT_NE(self->own_id, self->peer_id);
	ASSERT_GT(NOBODY, self->own_id);
	ASSERT_GT(NOBODY, self->peer_id);
}

static void forget_peer(volatile struct mshv_vtl_run *peer)
{
	unsigned int i;

	peer->offload_flags = 0;
	peer->scan_proxy_irr = 0;
	for (i = 0; i < 8; i++)
		peer->proxy_irr[i] = 0;
}

FIXTURE_TEARDOWN(icr)
{
	if (self->peer) {
		forget_peer(self->peer);
		munmap((void *)self->peer, VTL_PAGE_SIZE);
	}
	irq_guest_close(&self->irq);
}

static bool is_asked(volatile struct mshv_vtl_run *run, unsigned int vector)
{
	return run->proxy_irr[vector / 32] >> vector % 32 & 1;
}

/* Has the guest write @icr. Returns the exit reason, or the negative errno. */
static int write_icr(struct irq_guest *irq, uint64_t icr, uint8_t offload)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&irq->guest.run->tdx.l2_enter_guest_state;
	int result;

	if (irq_guest_start(irq, irq_guest_wrmsr))
		return -EPROTO;
	irq->guest.run->offload_flags = offload;
	state->gpr[RCX] = MSR_ICR;
	state->gpr[RAX] = (uint32_t)icr;
	state->gpr[RDX] = icr >> 32;
	result = vtl_run(&irq->guest);
	return result ? result : (int)vtl_exit_reason(&irq->guest);
}

#define BOTH (MSHV_VTL_OFFLOAD_INTR_INJECT | MSHV_VTL_OFFLOAD_X2APIC)

/* Interrupts are disabled in the guest, so requests stay in the page. */
#define EXPECT_DELIVERED(icr, to_own, to_peer)                                \
	do {                                                                  \
		forget_peer(self->peer);                                      \
		self->peer->offload_flags = BOTH;                             \
		EXPECT_EQ(EXIT_VMCALL, write_icr(&self->irq, icr, BOTH));     \
		EXPECT_EQ(to_own, irq_is_requested(self->irq.vapic, VECTOR)); \
		EXPECT_EQ((to_own) ? VECTOR : 0,                              \
			  self->run->tdx.l2_enter_guest_state.rvi);           \
		EXPECT_EQ(to_peer, is_asked(self->peer, VECTOR));             \
		EXPECT_EQ(to_peer, self->peer->scan_proxy_irr);               \
	} while (0)

TEST_F(icr, shorthands_reach_whom_they_name)
{
	EXPECT_DELIVERED(VECTOR | ICR_SELF, 1, 0);
	EXPECT_DELIVERED(VECTOR | ICR_ALL, 1, 1);
	EXPECT_DELIVERED(VECTOR | ICR_OTHERS, 0, 1);
	EXPECT_DELIVERED(VECTOR | ICR_SELF | ICR_TO(self->peer_id), 1, 0);
}

TEST_F(icr, physical_and_logical_ids_reach_whom_they_name)
{
	uint64_t own_bit = (self->own_id >> 4) << 16 | 1U << self->own_id % 16;
	uint64_t peer_bit = (self->peer_id >> 4) << 16 |
			    1U << self->peer_id % 16;

	EXPECT_DELIVERED(VECTOR | ICR_TO(self->own_id), 1, 0);
	EXPECT_DELIVERED(VECTOR | ICR_TO(self->peer_id), 0, 1);
	EXPECT_DELIVERED(VECTOR | ICR_LEVEL | ICR_TO(self->peer_id), 0, 1);
	EXPECT_DELIVERED(VECTOR | ICR_TO(BROADCAST), 1, 1);
	EXPECT_DELIVERED(VECTOR | ICR_LOGICAL | ICR_TO(own_bit), 1, 0);
	EXPECT_DELIVERED(VECTOR | ICR_LOGICAL | ICR_TO(peer_bit), 0, 1);
	EXPECT_DELIVERED(VECTOR | ICR_LOGICAL | ICR_TO(own_bit | peer_bit), 1,
			 1);
	EXPECT_DELIVERED(VECTOR | ICR_LOGICAL | ICR_TO(BROADCAST), 1, 1);
}

/* Nothing has changed: userspace can carry it out. */
#define EXPECT_LEFT(icr, offload)                                              \
	do {                                                                   \
		EXPECT_EQ(EXIT_WRMSR, write_icr(&self->irq, icr, offload))     \
		{                                                              \
			TH_LOG("icr %llx", (unsigned long long)(icr));         \
		}                                                              \
		EXPECT_EQ(irq_guest_address(&self->irq, irq_guest_wrmsr),      \
			  self->run->tdx.l2_enter_guest_state.rip);            \
		EXPECT_FALSE(irq_is_requested(self->irq.vapic, (icr) & 0xff)); \
		EXPECT_FALSE(is_asked(self->peer, (icr) & 0xff));              \
		EXPECT_EQ(0, self->run->tdx.l2_enter_guest_state.rvi);         \
		EXPECT_EQ(0, self->peer->scan_proxy_irr);                      \
	} while (0)

TEST_F(icr, what_is_not_a_plain_interrupt_is_left_to_userspace)
{
	unsigned int mode, bit;

	self->peer->offload_flags = BOTH;
	for (mode = 1; mode < 8; mode++)
		EXPECT_LEFT(VECTOR | mode << 8 | ICR_SELF, BOTH);
	EXPECT_LEFT(VECTOR | ICR_SELF | 1ULL << 12, BOTH);
	EXPECT_LEFT(VECTOR | ICR_SELF | 1ULL << 13, BOTH);
	EXPECT_LEFT(VECTOR | ICR_SELF | 1ULL << 15, BOTH);
	for (bit = 20; bit < 32; bit++)
		EXPECT_LEFT(VECTOR | ICR_SELF | 1ULL << bit, BOTH);
	EXPECT_LEFT(0 | ICR_ALL, BOTH);
	EXPECT_LEFT(15 | ICR_ALL, BOTH);
}

TEST_F(icr, who_cannot_be_reached_is_left_to_userspace)
{
	static const uint8_t refusing[] = {
		0,
		MSHV_VTL_OFFLOAD_INTR_INJECT,
		MSHV_VTL_OFFLOAD_X2APIC,
		BOTH | MSHV_VTL_HALT_OTHER,
	};
	size_t i;

	self->peer->offload_flags = BOTH;
	EXPECT_LEFT(VECTOR | ICR_TO(NOBODY), BOTH);
	EXPECT_LEFT(VECTOR | ICR_LOGICAL | ICR_TO(0xffff0001), BOTH);
	EXPECT_LEFT(VECTOR | ICR_LOGICAL | ICR_TO(0), BOTH);
	for (i = 0; i < ARRAY_SIZE(refusing); i++) {
		self->peer->offload_flags = refusing[i];
		EXPECT_LEFT(VECTOR | ICR_TO(self->peer_id), BOTH);
		/* One of several is enough. */
		EXPECT_LEFT(VECTOR | ICR_ALL, BOTH);
	}
}

TEST_F(icr, without_leave_userspace_sees_it)
{
	self->peer->offload_flags = BOTH;
	EXPECT_LEFT(VECTOR | ICR_SELF, 0);
	EXPECT_LEFT(VECTOR | ICR_SELF, MSHV_VTL_OFFLOAD_INTR_INJECT);
	EXPECT_LEFT(VECTOR | ICR_SELF, MSHV_VTL_OFFLOAD_X2APIC);
}

TEST_F(icr, a_self_interrupt_is_taken_at_once)
{
	ASSERT_EQ(0, irq_guest_start(&self->irq, irq_guest_wrmsr));
	self->run->offload_flags = BOTH;
	self->run->tdx.l2_enter_guest_state.rflags = 2 | RFLAGS_IF;
	self->run->tdx.l2_enter_guest_state.gpr[RCX] = MSR_ICR;
	self->run->tdx.l2_enter_guest_state.gpr[RAX] = VECTOR | ICR_SELF;
	ASSERT_EQ(0, vtl_run(&self->irq.guest));
	EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->irq.guest));
	EXPECT_EQ(1, self->irq.data->taken[VECTOR]);
	EXPECT_EQ(0, self->run->tdx.l2_enter_guest_state.rvi);
}

/* On CPU 1: has the guest halt, and ends when it has taken an interrupt. */
static void *run_peer(void *argument)
{
	struct irq_guest *peer = argument;

	if (irq_guest_start(peer, irq_guest_halt))
		return (void *)-EPROTO;
	peer->data->taken[VECTOR] = 0;
	peer->guest.run->offload_flags = BOTH;
	return (void *)(long)vtl_run(&peer->guest);
}

/*
 * Has VP 1 halt, sets the flag as userspace does that is about to kick, and sends an
 * interrupt to VP 1. Returns the milliseconds until it was taken, or -1.
 */
static long send_to_halted(struct irq_guest *irq, struct irq_guest *peer,
			   uint32_t peer_id)
{
	pthread_t thread;
	uint64_t begin;
	void *result;
	int sent;

	if (vtl_thread_on(&thread, 1, run_peer, peer))
		return -1;
	while (!peer->guest.run->flags)
		usleep(1000);
	/* It no longer polls. */
	usleep(100 * 1000);
	__atomic_store_n(&peer->guest.run->scan_proxy_irr, 1, __ATOMIC_SEQ_CST);
	begin = vtl_now_ms();
	sent = write_icr(irq, VECTOR | ICR_TO(peer_id), BOTH);
	if (pthread_join(thread, &result) || result || sent != EXIT_VMCALL ||
	    peer->data->taken[VECTOR] != 1)
		return -1;
	return (long)(vtl_now_ms() - begin);
}

/*
 * Nobody knows when the thread that has set the flag will kick. A sleeping thread looks
 * by itself after a second; on a busy machine a kick may be as slow, but not each time.
 */
TEST_F(icr, a_halted_vp_takes_an_interrupt_before_userspaces_own_kick)
{
	struct irq_guest peer;
	long turn, ms = 1000;

	ASSERT_EQ(0, irq_guest_open(&peer, 1))
	{
		TH_LOG("%s", peer.guest.why);
	}
	/* It was opened on its own CPU. */
	vtl_pin(0);
	for (turn = 0; turn < 5 && ms >= 500; turn++) {
		ms = send_to_halted(&self->irq, &peer, self->peer_id);
		EXPECT_LE(0, ms);
	}
	EXPECT_GT(500, ms);
	irq_guest_close(&peer);
}

TEST_HARNESS_MAIN
