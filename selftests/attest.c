// SPDX-License-Identifier: GPL-2.0
/*
 * Attestation of the audit: what the module hashes, commits to and extends a register
 * with agrees with its records and with the TDX module. Loads the module anew for each
 * case, and at last as it was.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "attested.h"
#include "vtl_harness.h"
#include "vtl_util.h"

/* No checkpoint by itself, and rings that are lapped soon. */
#define SMALL "attest=try attest_interval=0 audit_records=64"

#define RELOAD(parameters)                                      \
	do {                                                    \
		ASSERT_EQ(0, vtl_unload_module(0));             \
		ASSERT_EQ(0, vtl_load_module_with(parameters)); \
	} while (0)

FIXTURE(attest)
{
	struct vtl_guest guest;
	struct attested log;
};

FIXTURE_SETUP(attest)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (!attested_has_helpers())
		SKIP(return, "no modules for tests, or no debugfs");
}

FIXTURE_TEARDOWN(attest)
{
	attested_stop(&self->log, &self->guest);
	vtl_unload_module(0);
	EXPECT_EQ(0, vtl_load_module());
}

static int map_errno(int fd, unsigned int kind, unsigned int cpu, size_t size,
		     int protection)
{
	off_t offset =
		(off_t)MSHV_VTL_MMAP_PGOFF((uint64_t)kind, cpu) * VTL_PAGE_SIZE;
	void *at = mmap(NULL, size, protection, MAP_SHARED, fd, offset);

	if (at == MAP_FAILED)
		return errno;
	munmap(at, size);
	return 0;
}

TEST_F(attest, without_the_parameter_there_is_none)
{
	struct mshv_vtl_audit_event state;
	uint8_t before[SHA384_BYTES], after[SHA384_BYTES];
	int fd = vtl_create();
	unsigned int kind;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, attested_register(fd, 3, before));
	EXPECT_EQ(-EOPNOTSUPP, attested_state(fd, &state));
	EXPECT_EQ(-EOPNOTSUPP, attested_checkpoint(fd, NULL, 0));
	for (kind = MSHV_VTL_MMAP_LEAVES; kind <= MSHV_VTL_MMAP_CONTROL_LEAVES;
	     kind++)
		EXPECT_EQ(EINVAL, map_errno(fd, kind, 0, 64 * 4096, PROT_READ));
	EXPECT_EQ(0, attested_register(fd, 3, after));
	EXPECT_EQ(0, memcmp(before, after, sizeof(before)));
	close(fd);
}

TEST_F(attest, wrong_parameters_are_refused)
{
	static const char *const wrong[] = {
		"attest=on",
		"attest=",
		"attest=1",
		"attest=try attest_rtmr=1",
		"attest=try attest_rtmr=4",
		"attest=try attest_interval=86401",
		"attest=try attest_batch=0",
		"attest=try attest_batch=1025",
		"attest=try audit_leaves=63",
		"attest=require audit_leaves=96",
	};
	size_t i;

	ASSERT_EQ(0, vtl_unload_module(0));
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		int result = vtl_load_module_with(wrong[i]);

		TH_LOG("%s", wrong[i]);
		EXPECT_EQ(-EINVAL, result);
		if (!result)
			vtl_unload_module(0);
	}
	EXPECT_EQ(0, vtl_load_module_with("attest=off attest_rtmr=1"));
}

static bool is_online(unsigned int cpu)
{
	char path[64], text = '1';
	int fd;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online",
		 cpu);
	fd = open(path, O_RDONLY);
	/* Without a file it is online always. */
	if (fd >= 0 && read(fd, &text, 1) != 1)
		text = '0';
	close(fd);
	return text == '1';
}

TEST_F(attest, the_first_event_tells_parameters_and_the_log_is_whole)
{
	union {
		struct attested_event event;
		uint8_t bytes[ATTESTED_EVENT_BYTES];
	} first;
	const struct attested_head *heads = (const void *)(&first.event + 1);
	uint8_t boot[SHA384_BYTES];
	uint32_t facts[4];
	unsigned int i, streams;
	int size;

	RELOAD("attest=try attest_interval=3600 audit_records=128 attest_batch=2 audit_leaves=128");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest))
	{
		TH_LOG("%s%s", self->guest.why, self->log.why);
	}
	EXPECT_EQ(MSHV_VTL_ATTEST_OPEN, self->log.state.state);
	EXPECT_EQ(1, self->log.state.mode);
	EXPECT_EQ(3, self->log.state.rtmr);
	EXPECT_EQ(128, self->log.state.leaves);
	EXPECT_EQ(3600, self->log.state.interval);
	EXPECT_EQ(2, self->log.state.batch);
	EXPECT_EQ(1, self->log.state.next);
	EXPECT_EQ(0, self->log.state.first);
	size = attested_read(self->guest.fd, 0, &first, sizeof(first));
	streams = self->log.state.streams;
	ASSERT_EQ(256 + 64 * streams + ATTESTED_OPEN_BYTES, size);
	EXPECT_EQ(ATTESTED_KIND_OPEN, first.event.kind);
	EXPECT_EQ(0, first.event.flags);
	for (i = 0; i < streams; i++) {
		EXPECT_EQ(1, heads[i].next);
		EXPECT_EQ(0, heads[i].segments);
		EXPECT_EQ(is_online(i) || i == streams - 1 ? 0 :
							     ATTESTED_OFFLINE,
			  heads[i].flags);
	}
	memcpy(facts, heads + streams, sizeof(facts));
	EXPECT_EQ(128, facts[0]);
	EXPECT_EQ(3600, facts[2]);
	EXPECT_EQ(2, facts[3]);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, attested_register(self->guest.fd, i, boot));
		EXPECT_EQ(0, memcmp(boot,
				    first.bytes + size - (3 - i) * SHA384_BYTES,
				    SHA384_BYTES));
	}
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_F(attest, a_checkpoint_has_all_switches_and_the_nonce)
{
	union {
		struct attested_event event;
		uint8_t bytes[ATTESTED_EVENT_BYTES];
	} last;
	const struct attested_head *heads = (const void *)(&last.event + 1);
	const volatile struct mshv_vtl_audit_record *ring;
	uint8_t nonce[32];
	uint64_t newest = 0;
	int64_t number;
	unsigned int i;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	for (i = 0; i < sizeof(nonce); i++)
		nonce[i] = 0xa0 + i;
	for (i = 0; i < 30; i++)
		ASSERT_EQ(0, vtl_run(&self->guest));
	number = attested_checkpoint(self->guest.fd, nonce, 0);
	ASSERT_EQ(1, number);
	ASSERT_LT(0,
		  attested_read(self->guest.fd, number, &last, sizeof(last)));
	EXPECT_EQ(ATTESTED_KIND_CHECKPOINT, last.event.kind);
	EXPECT_EQ(ATTESTED_ASKED, last.event.flags);
	EXPECT_EQ(0, memcmp(nonce, last.event.nonce, sizeof(nonce)));
	ring = self->log.streams[0].records;
	for (i = 0; i < 64; i++)
		if (ring[i].sequence > newest)
			newest = ring[i].sequence;
	EXPECT_LE(30, newest);
	EXPECT_EQ(newest + 1, heads[0].next);
	EXPECT_STREQ("", attested_verdict(&self->log));
	/* Nothing new: a checkpoint without a segment. */
	EXPECT_EQ(2, attested_checkpoint(self->guest.fd, nonce,
					 MSHV_VTL_CHECKPOINT_KICK));
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_F(attest, a_ring_that_is_lapped_loses_no_hash)
{
	int i, round;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 200 * (round + 1) + 7 * round; i++)
			ASSERT_EQ(0, vtl_run(&self->guest));
		ASSERT_EQ(round + 1,
			  attested_checkpoint(self->guest.fd, NULL, 0));
		EXPECT_STREQ("", attested_verdict(&self->log));
	}
}

TEST_F(attest, the_control_plane_is_recorded_without_a_limit)
{
	struct mshv_tdcall call;
	union {
		struct attested_event event;
		uint8_t bytes[ATTESTED_EVENT_BYTES];
	} last;
	const struct attested_head *control;
	const volatile struct mshv_vtl_control_record *ring, *record;
	uint64_t begin;
	int i;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	/* The load, and the descriptor; the guest's page was accepted and given. */
	ring = self->log.streams[self->log.state.streams - 1].records;
	EXPECT_EQ(1, ring[1].sequence);
	EXPECT_EQ(MSHV_VTL_CONTROL_LOAD, ring[1].op);
	EXPECT_EQ(64, ring[1].operands[1]);
	EXPECT_EQ(MSHV_VTL_CONTROL_CREATE_VTL, ring[2].op);
	EXPECT_EQ((uint32_t)getpid(), ring[2].process);
	EXPECT_EQ(getuid(), ring[2].user);
	ASSERT_LT(0, attested_checkpoint(self->guest.fd, NULL, 0));
	ASSERT_LT(0, attested_read(self->guest.fd, 1, &last, sizeof(last)));
	control = (const struct attested_head *)(&last.event + 1) +
		  self->log.state.streams - 1;
	begin = control->next;
	/* Far more than the log would take, and than the ring has room for. */
	for (i = 0; i < 300; i++) {
		call = (struct mshv_tdcall){ .rax = 2,
					     .rcx = 4096 * i,
					     .rdx = 3 };
		ASSERT_EQ(0, vtl_tdcall(self->guest.fd, &call));
		ASSERT_EQ(TDX_OPERAND_INVALID, vtl_status(&call));
	}
	ASSERT_LT(0, attested_checkpoint(self->guest.fd, NULL, 0));
	ASSERT_LT(0, attested_read(self->guest.fd, 2, &last, sizeof(last)));
	EXPECT_EQ(begin + 300, control->next);
	record = &ring[(begin + 299) % 64];
	EXPECT_EQ(begin + 299, record->sequence);
	EXPECT_EQ(MSHV_VTL_CONTROL_TDCALL_REFUSED, record->op);
	EXPECT_EQ(2, record->operands[0]);
	EXPECT_EQ(4096 * 299, record->operands[1]);
	EXPECT_EQ(3, record->operands[2]);
	EXPECT_EQ(TDX_OPERAND_INVALID, record->result >> 32);
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_F(attest, a_note_of_userspace_is_recorded_as_its_own)
{
	struct mshv_vtl_audit_note note = { .head.size = sizeof(note),
					    .words = { 1, ~0ULL, 3 } };
	const volatile struct mshv_vtl_control_record *ring, *record;
	uint64_t number = 0;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ring = self->log.streams[self->log.state.streams - 1].records;
	while (ring[number + 1].sequence == number + 1)
		number++;
	note.head.selector = 1;
	EXPECT_EQ(-1, ioctl(self->guest.fd, MSHV_VTL_AUDIT_NOTE, &note));
	EXPECT_EQ(EINVAL, errno);
	note.head.selector = 0;
	ASSERT_EQ(0, ioctl(self->guest.fd, MSHV_VTL_AUDIT_NOTE, &note));
	record = &ring[number + 1];
	EXPECT_EQ(number + 1, record->sequence);
	EXPECT_EQ(MSHV_VTL_CONTROL_NOTE, record->op);
	EXPECT_EQ(1, record->operands[0]);
	EXPECT_EQ(~0ULL, record->operands[1]);
	EXPECT_EQ(3, record->operands[2]);
	EXPECT_EQ(0, record->result);
	EXPECT_EQ((uint32_t)getpid(), record->process);
	EXPECT_EQ(getuid(), record->user);
	/* What is refused leaves no record. */
	EXPECT_EQ(0, ring[number + 2].sequence);
	ASSERT_LT(0, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_F(attest, rings_can_only_be_mapped_whole_and_for_reading)
{
	static const struct {
		unsigned int kind;
		size_t size;
	} rings[] = {
		{ MSHV_VTL_MMAP_LEAVES, 4096 * 64 },
		{ MSHV_VTL_MMAP_CONTROL_RING, 64 * 64 },
		{ MSHV_VTL_MMAP_CONTROL_LEAVES, 4096 * 64 },
	};
	size_t i;
	int fd;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	fd = self->guest.fd;
	for (i = 0; i < sizeof(rings) / sizeof(*rings); i++) {
		unsigned int kind = rings[i].kind;
		size_t size = rings[i].size;

		EXPECT_EQ(0, map_errno(fd, kind, 0, size, PROT_READ));
		EXPECT_EQ(EINVAL,
			  map_errno(fd, kind, 0, size, PROT_READ | PROT_WRITE));
		EXPECT_EQ(EINVAL,
			  map_errno(fd, kind, 0, size + 4096, PROT_READ));
		EXPECT_EQ(EINVAL, map_errno(fd, kind, 0xffff, size, PROT_READ));
	}
}

TEST_F(attest, wrong_requests_change_nothing)
{
	struct mshv_vtl_audit_checkpoint request = {
		.head.size = sizeof(request),
	};
	uint8_t event[ATTESTED_EVENT_BYTES];
	int fd;

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	fd = self->guest.fd;
	EXPECT_EQ(-EINVAL, attested_checkpoint(fd, NULL, 2));
	request.reserved = 1;
	EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_AUDIT_CHECKPOINT, &request));
	EXPECT_EQ(EINVAL, errno);
	request.reserved = 0;
	request.head.selector = 1;
	EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_AUDIT_CHECKPOINT, &request));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-ENXIO, attested_read(fd, 1, event, sizeof(event)));
	EXPECT_EQ(-ENXIO, attested_read(fd, UINT64_MAX, event, sizeof(event)));
	EXPECT_EQ(-EINVAL, attested_read(fd, 0, event, 255));
	EXPECT_EQ(-EFAULT, attested_read(fd, 0, NULL, sizeof(event)));
	ASSERT_EQ(0, attested_state(fd, &self->log.state));
	EXPECT_EQ(1, self->log.state.next);
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_F(attest, old_events_make_room)
{
	struct mshv_vtl_audit_event state;
	uint8_t event[ATTESTED_EVENT_BYTES];
	uint64_t kept;
	int fd;

	RELOAD(SMALL);
	fd = vtl_create();
	ASSERT_LE(0, fd);
	do {
		ASSERT_LE(0, attested_checkpoint(fd, NULL, 0));
		ASSERT_EQ(0, attested_state(fd, &state));
	} while (!state.first);
	kept = state.next - state.first;
	EXPECT_LE(16, kept);
	EXPECT_GE(4096, kept);
	EXPECT_EQ(1, state.first);
	EXPECT_EQ(-ENXIO, attested_read(fd, 0, event, sizeof(event)));
	EXPECT_LT(0, attested_read(fd, 1, event, sizeof(event)));
	EXPECT_LT(0, attested_read(fd, state.next - 1, event, sizeof(event)));
	close(fd);
}

TEST_F(attest, time_alone_makes_a_checkpoint)
{
	int patience;

	RELOAD("attest=try attest_interval=1");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_EQ(0, vtl_run(&self->guest));
	for (patience = 0; patience < 600 && self->log.state.next < 3;
	     patience++) {
		usleep(100 * 1000);
		ASSERT_EQ(0, attested_state(self->guest.fd, &self->log.state));
	}
	EXPECT_LE(3, self->log.state.next);
}

TEST_F(attest, another_register_is_nobodys_business)
{
	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(0, attested_extend(2));
	EXPECT_EQ(1, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
	attested_stop(&self->log, &self->guest);
	/* And the other way round. */
	RELOAD(SMALL " attest_rtmr=2");
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	EXPECT_EQ(2, self->log.state.rtmr);
	EXPECT_EQ(0, attested_extend(3));
	EXPECT_EQ(1, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
}

/* Begin of the first event. */
static int read_first(int fd, struct attested_event *first)
{
	static uint8_t event[ATTESTED_EVENT_BYTES];
	int size = attested_read(fd, 0, event, sizeof(event));

	memcpy(first, event, sizeof(*first));
	return size;
}

TEST_F(attest, a_second_load_is_another_session_on_a_used_register)
{
	struct attested_event first, second;
	uint8_t closed[SHA384_BYTES];

	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(1, attested_checkpoint(self->guest.fd, NULL, 0));
	EXPECT_STREQ("", attested_verdict(&self->log));
	memcpy(closed, self->log.replayed, sizeof(closed));
	ASSERT_LT(0, read_first(self->guest.fd, &first));
	attested_stop(&self->log, &self->guest);
	RELOAD(SMALL);
	ASSERT_EQ(0, attested_start(&self->log, &self->guest));
	ASSERT_LT(0, read_first(self->guest.fd, &second));
	EXPECT_NE(0,
		  memcmp(first.session, second.session, sizeof(first.session)));
	/* The unload has made an event of its own. */
	EXPECT_NE(0, memcmp(closed, second.seen, sizeof(closed)));
	EXPECT_STREQ("", attested_verdict(&self->log));
}

TEST_HARNESS_MAIN
