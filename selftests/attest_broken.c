// SPDX-License-Identifier: GPL-2.0
/*
 * Attestation that fails: the register is extended by somebody else, busy, or refused.
 * It is seen, nothing is attested from then on, and where it is required no lower VTL
 * runs. Loads the module anew for each case, and at last as it was.
 */
#include "attested.h"
#include "debug_port.h"
#include "vtl_harness.h"
#include "vtl_util.h"

/* No checkpoint by itself, and rings that are lapped soon. */
#define SMALL "attest=try attest_interval=0 audit_records=64"
/* More than the module tries. */
#define FOR_EVER 0xffff

#define RELOAD(parameters)                                      \
	do {                                                    \
		ASSERT_EQ(0, vtl_unload_module(0));             \
		ASSERT_EQ(0, vtl_load_module_with(parameters)); \
	} while (0)

FIXTURE(broken)
{
	struct vtl_guest guest;
	struct attested log;
};

FIXTURE_SETUP(broken)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (!attested_has_helpers())
		SKIP(return, "no modules for tests, or no debugfs");
}

FIXTURE_TEARDOWN(broken)
{
	attested_stop(&self->log, &self->guest);
	debug_port(ACTION_BUSY_RTMRS, 0);
	debug_port(ACTION_EXTENDS, 0);
	vtl_unload_module(0);
	EXPECT_EQ(0, vtl_load_module());
}

TEST_F(broken, a_foreign_extend_ends_the_log_and_is_seen)
{
	struct mshv_vtl_audit_event state;
	union {
		struct attested_event event;
		uint8_t bytes[ATTESTED_EVENT_BYTES];
	} last;
	static const uint8_t none[SHA256_BYTES];
	int fd;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	fd = self->guest.fd;
	EXPECT_EQ(1, attested_checkpoint(fd, NULL, 0));
	ASSERT_EQ(0, attested_extend(3));
	EXPECT_EQ(-1, attested_verify(&self->log));
	/* One event more tells of it; and that is all. */
	EXPECT_EQ(2, attested_checkpoint(fd, NULL, 0));
	ASSERT_LT(0, attested_read(fd, 2, &last, sizeof(last)));
	EXPECT_EQ(ATTESTED_ASKED | ATTESTED_FOREIGN | ATTESTED_LAST,
		  last.event.flags);
	EXPECT_NE(0, memcmp(last.event.prev, last.event.seen, SHA384_BYTES));
	EXPECT_EQ(0, memcmp(none, last.event.commit, sizeof(none)));
	EXPECT_EQ(-EIO, attested_checkpoint(fd, NULL, 0));
	ASSERT_EQ(0, attested_state(fd, &state));
	EXPECT_EQ(MSHV_VTL_ATTEST_BROKEN, state.state);
	EXPECT_EQ(3, state.next);
	/* Attestation was to be tried: the lower VTL runs, and its ring is lapped. */
	for (fd = 0; fd < 200; fd++)
		EXPECT_EQ(0, vtl_run(&self->guest));
}

TEST_F(broken, a_busy_register_is_waited_for)
{
	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_EQ(0, debug_port(ACTION_BUSY_RTMRS, 6));
	EXPECT_EQ(1, attested_checkpoint(self->guest.fd, NULL, 0));
	/* Between report and extend. */
	ASSERT_EQ(0, debug_port(ACTION_BUSY_RTMRS, 6 | 1 << 16));
	EXPECT_EQ(2, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_F(broken, a_register_that_stays_busy_or_refuses_breaks_it)
{
	static const unsigned int actions[] = { ACTION_BUSY_RTMRS,
						ACTION_EXTENDS };
	struct mshv_vtl_audit_event state;
	int i, run;

	for (i = 0; i < 2; i++) {
		RELOAD(SMALL);
		ASSERT_EQ(0, attested_start(&self->log, &self->guest));
		ASSERT_EQ(0, vtl_run(&self->guest));
		ASSERT_EQ(0, debug_port(actions[i], FOR_EVER));
		EXPECT_EQ(-EIO, attested_checkpoint(self->guest.fd, NULL, 0));
		ASSERT_EQ(0, debug_port(actions[i], 0));
		/* Good again, but too late. */
		EXPECT_EQ(-EIO, attested_checkpoint(self->guest.fd, NULL, 0));
		ASSERT_EQ(0, attested_state(self->guest.fd, &state));
		EXPECT_EQ(MSHV_VTL_ATTEST_BROKEN, state.state);
		EXPECT_EQ(1, state.next);
		for (run = 0; run < 200; run++)
			EXPECT_EQ(0, vtl_run(&self->guest));
		attested_stop(&self->log, &self->guest);
	}
}

TEST_F(broken, without_a_register_it_is_tried_in_vain_or_not_loaded)
{
	struct mshv_vtl_audit_event state;
	int fd;

	ASSERT_EQ(0, vtl_unload_module(0));
	ASSERT_EQ(0, debug_port(ACTION_EXTENDS, FOR_EVER));
	EXPECT_EQ(-EIO, vtl_load_module_with("attest=require"));
	ASSERT_EQ(0, vtl_load_module_with("attest=try"));
	fd = vtl_create();
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, attested_state(fd, &state));
	EXPECT_EQ(MSHV_VTL_ATTEST_BROKEN, state.state);
	EXPECT_EQ(0, state.next);
	EXPECT_EQ(-EIO, attested_checkpoint(fd, NULL, 0));
	close(fd);
}

TEST_F(broken, where_it_is_required_a_break_stops_the_lower_vtls)
{
	RELOAD("attest=require attest_interval=0");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	EXPECT_EQ(2, self->log.state.mode);
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(1, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
	ASSERT_EQ(0, debug_port(ACTION_EXTENDS, 1));
	EXPECT_EQ(-EIO, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_EQ(-EIO, vtl_enter(&self->guest));
	EXPECT_EQ(-EIO, vtl_enter(&self->guest));
	/* No exit to look at. */
	EXPECT_EQ(TDX_PENDING_INTERRUPT,
		  self->guest.run->tdx.exit_info.rax >> 32);
	attested_stop(&self->log, &self->guest);
	/* Not with another descriptor either, but after a reload. */
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	EXPECT_EQ(-EIO, vtl_enter(&self->guest));
	attested_stop(&self->log, &self->guest);
	RELOAD("attest=require attest_interval=0");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	EXPECT_EQ(0, vtl_run(&self->guest));
}

TEST_F(broken, where_it_is_required_a_foreign_extend_stops_the_lower_vtls)
{
	RELOAD("attest=require attest_interval=0");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_EQ(0, attested_extend(3));
	/* Nobody has looked yet. */
	EXPECT_EQ(0, vtl_run(&self->guest));
	/* The event that tells of it. */
	EXPECT_EQ(1, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_EQ(-EIO, vtl_enter(&self->guest));
	EXPECT_EQ(-EIO, attested_checkpoint(self->guest.fd, NULL, 0));
}

/* Stays in a lower VTL until somebody takes it out. */
static void *stay(void *argument)
{
	volatile int *result = argument;
	struct vtl_guest guest;

	*result = vtl_guest_open(&guest, 0);
	if (!*result)
		*result = vtl_guest_load(&guest, vtl_guest_spin,
					 vtl_guest_spin_end);
	while (!*result)
		*result = vtl_enter(&guest);
	vtl_guest_close(&guest);
	return NULL;
}

TEST_F(broken, where_it_is_required_a_break_takes_out_who_is_inside)
{
	const volatile struct mshv_vtl_audit_record *ring;
	volatile int result = 0;
	pthread_t thread;

	RELOAD("attest=require attest_interval=0");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_EQ(0, vtl_thread_on(&thread, 0, stay, (void *)&result));
	/* Each kick takes it out, which is a record, and it enters again. */
	ring = self->log.streams[0].records;
	do {
		usleep(10 * 1000);
		ASSERT_LT(0, attested_checkpoint(self->guest.fd, NULL,
						 MSHV_VTL_CHECKPOINT_KICK));
	} while (!result && !ring[2].sequence);
	ASSERT_EQ(0, result);
	ASSERT_EQ(0, debug_port(ACTION_EXTENDS, 1));
	EXPECT_EQ(-EIO, attested_checkpoint(self->guest.fd, NULL, 0));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-EIO, result);
}

TEST_HARNESS_MAIN
