// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to invalidate translations: the low bits of entry_rcx, set by other
 * threads while the guest runs. Each is carried out by an entry that begins
 * after it was made, and by only one. The audit ring shows which entries did.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define RING_OFFSET(cpu) \
	(MSHV_VTL_MMAP_PGOFF((off_t)MSHV_VTL_MMAP_AUDIT_RING, cpu) * 4096)

/* Flags in the record of an entry that carried out a request. */
#define DONE (MSHV_VTL_AUDIT_HAS_RUN | MSHV_VTL_AUDIT_INVALIDATED)

/* Far more than an entry takes. */
#define PATIENCE_SECONDS 20

FIXTURE(invalidate)
{
	struct vtl_guest guest;
	volatile struct mshv_vtl_audit_record *ring;
	size_t ring_bytes;
	uint32_t records;
	uint64_t followed; /* sequence number of the last record read */
	uint64_t done; /* entries since then that invalidated */
	uint64_t undone; /* those that were to, but did not come about */
	uint64_t done_tsc; /* when the last of them began */
	uint64_t made_tsc; /* a request was made then, or 0 */
	uint64_t waited_tsc; /* its kick had ended then */
	unsigned int stale; /* runs after that without having done it */
	pthread_t thread;
	volatile bool is_over;
	volatile int result;
};

#define SELF FIXTURE_DATA(invalidate)

FIXTURE_SETUP(invalidate)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	uint64_t base, size;
	int mshv;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	mshv = vtl_open(DEV_MSHV);
	ASSERT_EQ(0, ioctl(mshv, MSHV_VTL_INFO, &info));
	close(mshv);
	self->records = info.audit_records;
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->ring_bytes = self->records * sizeof(*self->ring);
	self->ring = mmap(NULL, self->ring_bytes, PROT_READ, MAP_SHARED,
			  self->guest.fd, RING_OFFSET(0));
	ASSERT_NE(MAP_FAILED, self->ring);
	/*
	 * Loading the guest has requested one, which its first entry carries
	 * out.
	 */
	self->guest.run->tdx.entry_rcx &= ~(uint64_t)MSHV_TDX_ENTRY_INVD_MASK;
	ASSERT_EQ(0, vtl_pin(1));
}

FIXTURE_TEARDOWN(invalidate)
{
	if (self->ring)
		munmap((void *)self->ring, self->ring_bytes);
	vtl_guest_close(&self->guest);
}

/* Runs the guest again and again, as a client does. */
static void *run(void *argument)
{
	SELF *self = argument;

	while (!self->is_over) {
		self->guest.run->cancel = 0;
		self->result = vtl_enter(&self->guest);
		if (self->result && self->result != -EINTR)
			break;
	}
	return NULL;
}

static _Atomic uint64_t *word(SELF *self)
{
	return (_Atomic uint64_t *)&self->guest.run->tdx.entry_rcx;
}

/* Returns true if no earlier request was waiting. */
static bool request(SELF *self, uint64_t kind)
{
	return !(atomic_fetch_or(word(self), kind) & MSHV_TDX_ENTRY_INVD_MASK);
}

static bool is_waiting(SELF *self)
{
	return atomic_load(word(self)) & MSHV_TDX_ENTRY_INVD_MASK;
}

/* One record, in their order. */
static void look_at(SELF *self, volatile struct mshv_vtl_audit_record *record)
{
	if ((record->flags & DONE) == DONE) {
		self->done++;
		self->done_tsc = record->entry_tsc;
		if (record->entry_tsc > self->made_tsc)
			self->made_tsc = 0;
	} else if (record->flags & MSHV_VTL_AUDIT_INVALIDATED) {
		self->undone++;
	}
	if (self->made_tsc && record->flags & MSHV_VTL_AUDIT_HAS_RUN &&
	    record->entry_tsc + record->cycles > self->waited_tsc)
		self->stale++;
}

/* Reads all records since the last call. */
static void follow(SELF *self)
{
	for (;;) {
		uint64_t next = self->followed + 1;
		volatile struct mshv_vtl_audit_record *slot =
			&self->ring[next % self->records];

		/* Overwritten, because it was not read in time. */
		if (slot->sequence < next)
			return;
		if (slot->sequence > next) {
			self->followed = slot->sequence - 1;
			continue;
		}
		look_at(self, slot);
		self->followed = next;
	}
}

static void skip_to_the_newest(SELF *self)
{
	uint32_t i;

	for (i = 0; i < self->records; i++)
		if (self->ring[i].sequence > self->followed)
			self->followed = self->ring[i].sequence;
	self->done = 0;
	self->undone = 0;
	self->done_tsc = 0;
}

/* Waits until an entry that began after `tsc` has invalidated. */
static bool is_done_after(SELF *self, uint64_t tsc)
{
	time_t until = time(NULL) + PATIENCE_SECONDS;

	while (time(NULL) < until) {
		follow(self);
		if (self->done_tsc > tsc)
			return true;
		usleep(1000);
	}
	return false;
}

static void begin(struct __test_metadata *_metadata, SELF *self)
{
	skip_to_the_newest(self);
	ASSERT_EQ(0, vtl_thread_on(&self->thread, 0, run, self));
	usleep(50 * 1000);
}

static void end(struct __test_metadata *_metadata, SELF *self)
{
	self->is_over = true;
	/* Inside, or just before: cancel is read last. */
	while (pthread_tryjoin_np(self->thread, NULL)) {
		vtl_kick(&self->guest, MSHV_KICK_CANCEL);
		usleep(1000);
	}
	EXPECT_TRUE(!self->result || self->result == -EINTR);
	follow(self);
}

/*
 * A thread that has changed a mapping and waited for a kick may reuse the
 * memory.
 */
TEST_F(invalidate, after_a_kick_without_cancel_the_guest_runs_only_with_it_done)
{
	uint64_t round, tsc;

	begin(_metadata, self);
	for (round = 0; round < 30; round++) {
		tsc = __rdtsc();
		EXPECT_TRUE(request(self, 1 + round % 3));
		EXPECT_EQ(0, vtl_kick(&self->guest, MSHV_KICK_WAIT));
		self->waited_tsc = __rdtsc();
		self->made_tsc = tsc;
		ASSERT_TRUE(is_done_after(self, tsc))
		{
			TH_LOG("round %llu", (unsigned long long)round);
			end(_metadata, self);
		}
		EXPECT_FALSE(is_waiting(self));
	}
	end(_metadata, self);
	EXPECT_EQ(round, self->done);
	EXPECT_EQ(0, self->stale);
}

TEST_F(invalidate, one_made_while_the_one_before_is_done_is_not_lost)
{
	uint64_t round, tsc;
	unsigned int lost = 0;

	begin(_metadata, self);
	for (round = 0; round < 20; round++) {
		request(self, 1);
		vtl_kick(&self->guest, MSHV_KICK_CANCEL | MSHV_KICK_WAIT);
		usleep(rand() % 2000);
		tsc = __rdtsc();
		request(self, 1);
		vtl_kick(&self->guest, MSHV_KICK_CANCEL);
		lost += !is_done_after(self, tsc);
		if (lost)
			break;
	}
	end(_metadata, self);
	EXPECT_EQ(0, lost)
	{
		TH_LOG("after %llu rounds", (unsigned long long)round);
	}
}

struct writer {
	SELF *self;
	pthread_t thread;
	uint64_t made; /* requests where none was waiting */
	unsigned int seed;
};

static void *write_requests(void *argument)
{
	struct writer *writer = argument;
	unsigned int round;

	for (round = 0; round < 200; round++) {
		writer->made += request(writer->self, 1);
		if (rand_r(&writer->seed) % 4 == 0)
			vtl_kick(&writer->self->guest,
				 rand_r(&writer->seed) % 4);
		if (rand_r(&writer->seed) % 2)
			usleep(rand_r(&writer->seed) % 1000);
	}
	return NULL;
}

TEST_F(invalidate, of_many_writers_each_request_is_done_once)
{
	struct writer writers[6] = { 0 };
	uint64_t made = 0;
	size_t i;

	begin(_metadata, self);
	for (i = 0; i < 6; i++) {
		writers[i] = (struct writer){ .self = self, .seed = i + 1 };
		ASSERT_EQ(0, vtl_thread_on(&writers[i].thread, 1,
					   write_requests, &writers[i]));
	}
	for (i = 0; i < 6; i++) {
		while (pthread_tryjoin_np(writers[i].thread, NULL)) {
			follow(self);
			usleep(1000);
		}
		made += writers[i].made;
	}
	end(_metadata, self);
	TH_LOG("%llu requests", (unsigned long long)made);
	/*
	 * The last one may still wait for the next entry, and one that was made while
	 * another was put back becomes one with it.
	 */
	EXPECT_GE(made, self->done + is_waiting(self));
	EXPECT_LE(made, self->done + is_waiting(self) + self->undone);
	EXPECT_LT(20, made);
}

TEST_F(invalidate, one_that_no_entry_did_waits_for_the_next)
{
	uint64_t rcx = self->guest.run->tdx.entry_rcx;

	skip_to_the_newest(self);
	ASSERT_EQ(0, vtl_pin(0));
	for (uint64_t kind = 1; kind < 4; kind++) {
		self->guest.run->tdx.entry_rcx = rcx | kind;
		self->guest.run->cancel = 1;
		EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
		self->guest.run->cancel = 0;
		self->guest.run->scan_proxy_irr = 1;
		EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
		self->guest.run->scan_proxy_irr = 0;
		EXPECT_EQ(rcx | kind, self->guest.run->tdx.entry_rcx);
	}
	follow(self);
	EXPECT_EQ(0, self->done);
}

TEST_HARNESS_MAIN
