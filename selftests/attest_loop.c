// SPDX-License-Identifier: GPL-2.0
/*
 * Attestation of switches between which userspace does nothing: exits that the kernel
 * handles, and VTL calls that it carries out. A ring of 64 records is lapped in one call
 * again and again, and no record is overwritten that is not hashed. Loads the module anew
 * for each case, and at last as it was. ATTEST_SECONDS is how long exits go on; if not set,
 * there is one call of them.
 */
#include <stdlib.h>
#include <time.h>

#include "attested.h"
#include "irq_guest.h"
#include "vtl_harness.h"
#include "vtl_pair.h"

#define PARAMETERS                                       \
	"attest=try attest_interval=0 audit_records=64 " \
	"attest_batch=1 audit_leaves=65536"
#define EXITS 60000
#define CALLS 10000
#define SELF_VECTOR 0x71
/* As many records as there may be hashes of, a segment having half a ring. */
#define LONGEST_ATTEST_SECONDS 60

FIXTURE(loop)
{
	int fd;
	struct attested log;
};

FIXTURE_SETUP(loop)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	self->fd = attested_load(&self->log, PARAMETERS);
	ASSERT_LE(0, self->fd)
	{
		TH_LOG("%s", self->log.why);
	}
}

FIXTURE_TEARDOWN(loop)
{
	EXPECT_EQ(0, attested_unload(&self->log));
}

/* Number of records of CPU 0 that the newest event covers. */
static uint64_t covered(struct attested *log, int64_t number)
{
	static union {
		struct attested_event event;
		uint8_t bytes[ATTESTED_EVENT_BYTES];
	} event;
	const struct attested_head *heads = (const void *)(&event.event + 1);

	if (attested_read(log->fd, number, &event, sizeof(event)) < 0)
		return 0;
	return heads[0].next - 1;
}

/* Interrupted calls are no calls of another guest. */
static int run(struct vtl_guest *guest)
{
	int result;

	do {
		result = vtl_run(guest);
	} while (result == -EINTR);
	return result;
}

static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

TEST_F_TIMEOUT(loop, exits_that_the_kernel_handles_are_all_hashed,
	       2 * LONGEST_ATTEST_SECONDS + 60)
{
	time_t begun = now(), wanted = vtl_setting("ATTEST_SECONDS", 0);
	volatile struct mshv_vtl_run *page;
	struct irq_guest irq;
	uint64_t exits = 0;
	int64_t number;

	ASSERT_EQ(0, irq_guest_open(&irq, 0))
	{
		TH_LOG("%s", irq.guest.why);
	}
	page = irq.guest.run;
	do {
		ASSERT_EQ(0, irq_guest_start(&irq, irq_guest_bench_icr));
		page->offload_flags = MSHV_VTL_OFFLOAD_INTR_INJECT |
				      MSHV_VTL_OFFLOAD_X2APIC;
		page->tdx.l2_enter_guest_state.gpr[RBX] = EXITS;
		irq.data->taken[SELF_VECTOR] = 0;
		ASSERT_EQ(0, run(&irq.guest));
		EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&irq.guest));
		EXPECT_EQ(EXITS, irq.data->taken[SELF_VECTOR]);
		exits += EXITS;
	} while (now() - begun < wanted);
	TH_LOG("%llu exits in %lld s", (unsigned long long)exits,
	       (long long)(now() - begun));
	number = attested_checkpoint(self->fd, NULL, 0);
	ASSERT_EQ(1, number);
	EXPECT_LE(exits, covered(&self->log, number));
	EXPECT_STREQ("", attested_verdict(&self->log));
	irq_guest_close(&irq);
}

TEST_F(loop, vtl_calls_that_the_kernel_carries_out_are_all_hashed)
{
	const volatile struct mshv_vtl_audit_record *ring;
	struct mshv_vtl_stats before, after;
	unsigned int of_vm[4] = {}, i;
	struct vtl_pair pair;
	int64_t number;

	ASSERT_EQ(0, pair_open(&pair, 0))
	{
		TH_LOG("%s", pair.guest.why);
	}
	ASSERT_EQ(0, pair_set_up(&pair, pair.assist));
	ASSERT_EQ(0, pair_start(&pair, pair_call, pair_return_fast));
	before = pair_stats(&pair);
	pair.guest.run->tdx.l2_enter_guest_state.gpr[RBX] = CALLS;
	ASSERT_EQ(0, run(&pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&pair.guest));
	EXPECT_EQ(1, pair_vm(&pair));
	after = pair_stats(&pair);
	EXPECT_EQ(before.vtl_calls + CALLS, after.vtl_calls);
	number = attested_checkpoint(self->fd, NULL, 0);
	ASSERT_EQ(1, number);
	/* An entry of each VTL for each call, and the last one. */
	EXPECT_LE(2 * CALLS + 1, covered(&self->log, number));
	ring = self->log.streams[0].records;
	for (i = 0; i < 64; i++)
		of_vm[ring[i].vm & 3]++;
	EXPECT_LE(31, of_vm[1]);
	EXPECT_LE(31, of_vm[2]);
	EXPECT_STREQ("", attested_verdict(&self->log));
	pair_close(&pair);
}

TEST_HARNESS_MAIN
