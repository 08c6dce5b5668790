// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts that a Hyper-V host has for VTL0: they reach the run page, and the
 * thread that runs the VP. The host acts through its debug port.
 */
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl_harness.h"
#include "debug_port.h"
#include "vtl_util.h"

FIXTURE(proxied)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(proxied)
{
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0));
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end));
}

FIXTURE_TEARDOWN(proxied)
{
	memset((void *)self->guest.run->proxy_irr_blocked, 0xff, 32);
	vtl_guest_close(&self->guest);
}

static int ask_proxy(unsigned int cpu, unsigned int vector, unsigned int count)
{
	return debug_port(ACTION_PROXY, count << 16 | cpu << 8 | vector);
}

/* Waits for what has to come, and has as long as a busy host may need. */
static void await(volatile struct mshv_vtl_run *run, int word, __u32 bits)
{
	int ms;

	for (ms = 0; ms < 10000; ms++) {
		if (run->scan_proxy_irr &&
		    (run->proxy_irr[word] & bits) == bits)
			return;
		usleep(1000);
	}
}

/* From the other processor, while the guest runs. */
static void *ask_later(void *argument)
{
	vtl_pin(1);
	usleep(50000);
	return (void *)(long)ask_proxy(0, *(unsigned int *)argument, 1);
}

TEST_F(proxied, all_are_blocked_at_first)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	unsigned int i;

	for (i = 0; i < 8; i++)
		EXPECT_EQ(0xffffffff, run->proxy_irr_blocked[i]);
	EXPECT_EQ(0, ask_proxy(0, 0x41, 1));
	usleep(20000);
	EXPECT_EQ(0, run->scan_proxy_irr);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, run->proxy_irr[i]);
}

TEST_F(proxied, interrupt_ends_the_run)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	unsigned int vector = 0x41;
	pthread_t thread;
	void *answer;

	run->proxy_irr_blocked[2] = ~2U;
	ASSERT_EQ(0, pthread_create(&thread, NULL, ask_later, &vector));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	pthread_join(thread, &answer);
	EXPECT_EQ(NULL, answer);
	EXPECT_EQ(1, run->scan_proxy_irr);
	EXPECT_EQ(2, run->proxy_irr[2]);
	EXPECT_EQ(0, run->cancel);
	/* While it is not read, the guest is not entered. */
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	run->scan_proxy_irr = 0;
	run->proxy_irr[2] = 0;
}

TEST_F(proxied, interrupt_wakes_a_halted_guest)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	unsigned int vector = 0xff;
	pthread_t thread;

	run->proxy_irr_blocked[7] = 0;
	run->flags = MSHV_VTL_RUN_HALTED;
	ASSERT_EQ(0, pthread_create(&thread, NULL, ask_later, &vector));
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	pthread_join(thread, NULL);
	EXPECT_EQ(0x80000000, run->proxy_irr[7]);
	run->flags = 0;
	run->scan_proxy_irr = 0;
	run->proxy_irr[7] = 0;
}

/* Many messages in a row, some with blocked vectors or exceptions. */
TEST_F(proxied, vectors_that_are_not_blocked_arrive_but_for_exceptions)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	unsigned int i;

	for (i = 0; i < 8; i++)
		run->proxy_irr_blocked[i] = 0;
	run->proxy_irr_blocked[1] = 0x0000ffff;
	EXPECT_EQ(0, ask_proxy(0, 0, 72));
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, ask_proxy(0, 0x80 + i, 1));
	/* The last one of them all. */
	await(run, 4, 0x80);
	EXPECT_EQ(1, run->scan_proxy_irr);
	EXPECT_EQ(0, run->proxy_irr[0]);
	EXPECT_EQ(0xffff0000, run->proxy_irr[1]);
	EXPECT_EQ(0xff, run->proxy_irr[2]);
	EXPECT_EQ(0, run->proxy_irr[3]);
	EXPECT_EQ(0xff, run->proxy_irr[4]);
	for (i = 0; i < 8; i++)
		run->proxy_irr[i] = 0;
	run->scan_proxy_irr = 0;
}

/* Both in one message; the second was requested by another VP. */
TEST_F(proxied, one_that_is_blocked_is_not_taken_from_others_that_request_it)
{
	volatile struct mshv_vtl_run *run = self->guest.run;

	run->proxy_irr_blocked[2] = ~1U;
	run->proxy_irr[2] = 2;
	run->scan_proxy_irr = 1;
	EXPECT_EQ(0, ask_proxy(0, 0x40, 2));
	await(run, 2, 1);
	EXPECT_EQ(3, run->proxy_irr[2]);
	run->proxy_irr[2] = 0;
	run->scan_proxy_irr = 0;
}

TEST_F(proxied, are_those_of_their_processor)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	volatile struct mshv_vtl_run *other =
		vtl_map_page(self->guest.fd, MSHV_VTL_MMAP_RUN_PAGE, 1);

	ASSERT_NE(MAP_FAILED, (void *)other);
	run->proxy_irr_blocked[3] = 0;
	other->proxy_irr_blocked[3] = 0;
	EXPECT_EQ(0, ask_proxy(1, 0x61, 1));
	await(other, 3, 2);
	EXPECT_EQ(0, run->scan_proxy_irr);
	EXPECT_EQ(1, other->scan_proxy_irr);
	EXPECT_EQ(2, other->proxy_irr[3]);
	other->scan_proxy_irr = 0;
	other->proxy_irr[3] = 0;
	other->proxy_irr_blocked[3] = ~0U;
}

/* One by one, with nothing blocked: none is delivered, or wakes anything. */
TEST_F(proxied, no_exception_arrives)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	unsigned int vector;

	run->proxy_irr_blocked[0] = 0;
	run->proxy_irr_blocked[1] = 0;
	for (vector = 0; vector < 32; vector++)
		EXPECT_EQ(0, ask_proxy(0, vector, 1));
	/* They are all through when this one is. */
	EXPECT_EQ(0, ask_proxy(0, 32, 1));
	await(run, 1, 1);
	EXPECT_EQ(0, run->proxy_irr[0]);
	EXPECT_EQ(1, run->proxy_irr[1]);
	run->proxy_irr[1] = 0;
	run->scan_proxy_irr = 0;
}

/* Other messages than these, to the SINT of proxied interrupts. */
TEST_F(proxied, other_messages_of_that_source_are_dropped)
{
	unsigned int i;

	for (i = 0; i < 20; i++)
		EXPECT_EQ(0, debug_port(ACTION_MESSAGE, 5 << 16 | 0));
	usleep(20000);
	EXPECT_EQ(0, self->guest.run->scan_proxy_irr);
	/* The slot is free: the next message arrives. */
	self->guest.run->proxy_irr_blocked[2] = 0;
	EXPECT_EQ(0, ask_proxy(0, 0x42, 1));
	await(self->guest.run, 2, 4);
	EXPECT_EQ(4, self->guest.run->proxy_irr[2]);
	self->guest.run->scan_proxy_irr = 0;
	self->guest.run->proxy_irr[2] = 0;
}

TEST_HARNESS_MAIN
