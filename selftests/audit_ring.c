// SPDX-License-Identifier: GPL-2.0
/*
 * The audit ring: each switch leaves a record, a reader never mistakes a torn
 * record for a complete one, and userspace can't change what was written.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define RING_OFFSET(cpu) \
	(MSHV_VTL_MMAP_PGOFF((off_t)MSHV_VTL_MMAP_AUDIT_RING, cpu) * 4096)

#define RING volatile struct mshv_vtl_audit_record

FIXTURE(ring)
{
	struct vtl_guest guest;
	RING *ring;
	size_t size;
	__u32 records;
};

static __u32 ring_records(void)
{
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	int fd = vtl_open(DEV_MSHV);

	if (fd < 0 || ioctl(fd, MSHV_VTL_INFO, &info))
		return 0;
	close(fd);
	return info.audit_records;
}

FIXTURE_SETUP(ring)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_exits,
				    vtl_guest_exits_end));
	self->records = ring_records();
	ASSERT_NE(0, self->records);
	self->size = self->records * sizeof(*self->ring);
	self->ring = mmap(NULL, self->size, PROT_READ, MAP_SHARED,
			  self->guest.fd, RING_OFFSET(0));
	ASSERT_NE(MAP_FAILED, self->ring);
}

FIXTURE_TEARDOWN(ring)
{
	munmap((void *)self->ring, self->size);
	vtl_guest_close(&self->guest);
}

/* Returns false if the record is being written, or there is none. */
static bool read_record(RING *slot, struct mshv_vtl_audit_record *record)
{
	__u64 sequence = slot->sequence;

	atomic_thread_fence(memory_order_acquire);
	memcpy(record, (const void *)slot, sizeof(*record));
	atomic_thread_fence(memory_order_acquire);
	return sequence && slot->sequence == sequence &&
	       record->sequence == sequence;
}

static __u64 newest(RING *ring, __u32 records)
{
	__u64 found = 0;
	__u32 i;

	for (i = 0; i < records; i++)
		if (ring[i].sequence > found)
			found = ring[i].sequence;
	return found;
}

#define NEWEST() newest(self->ring, self->records)

TEST_F(ring, a_switch_leaves_one_record)
{
	struct mshv_vtl_audit_record record;
	__u64 before = NEWEST(), sequence, after, tsc = 0;

	ASSERT_EQ(0, vtl_run(&self->guest));
	after = NEWEST();
	ASSERT_LT(before, after);
	for (sequence = before + 1; sequence <= after; sequence++) {
		ASSERT_TRUE(read_record(&self->ring[sequence % self->records],
					&record));
		EXPECT_EQ(sequence, record.sequence);
		EXPECT_EQ(syscall(SYS_gettid), record.thread);
		EXPECT_EQ(0, record.vp);
		EXPECT_EQ(1, record.vm);
		EXPECT_LT(tsc, record.entry_tsc);
		tsc = record.entry_tsc + record.cycles;
		/* All but the last one were for the kernel itself. */
		if (sequence != after)
			EXPECT_LE(MSHV_VTL_EXIT_HOST_ROUTED, record.exit_kind);
		if (sequence == before + 1)
			EXPECT_EQ(MSHV_VTL_AUDIT_INVALIDATED,
				  record.flags & MSHV_VTL_AUDIT_INVALIDATED);
	}
	/* The last one is the exit that this thread sees. */
	EXPECT_EQ(EXIT_CPUID, record.exit_kind);
	EXPECT_EQ(self->guest.run->tdx.exit_info.rax, record.status);
	EXPECT_EQ(self->guest.run->tdx.exit_info.rcx, record.qualification);
	EXPECT_EQ(self->guest.run->tdx.l2_enter_guest_state.rip, record.rip);
	EXPECT_EQ(MSHV_VTL_AUDIT_HAS_RUN,
		  record.flags & MSHV_VTL_AUDIT_HAS_RUN);
}

TEST_F(ring, the_first_entry_of_a_call_is_userspaces)
{
	struct mshv_vtl_audit_record record;
	__u64 before = NEWEST(), sequence, after;
	int i;

	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, vtl_run(&self->guest));
		after = NEWEST();
		sequence = before + 1;
		ASSERT_TRUE(read_record(&self->ring[sequence % self->records],
					&record));
		EXPECT_EQ(0, record.entry_reason);
		/* Each further one names the exit before. */
		for (; sequence < after; sequence++) {
			__u8 kind = record.exit_kind;

			ASSERT_TRUE(read_record(
				&self->ring[(sequence + 1) % self->records],
				&record));
			EXPECT_EQ(kind + 1, record.entry_reason);
		}
		before = after;
	}
}

TEST_F(ring, an_entry_that_was_refused_before_leaves_none)
{
	__u64 before = NEWEST();

	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	self->guest.run->cancel = 0;
	self->guest.run->tdx.entry_rcx |= 1ULL << 63;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	EXPECT_EQ(before, NEWEST());
}

TEST_F(ring, old_records_make_room_and_the_gap_is_seen)
{
	__u64 first = NEWEST() + 1, last;
	__u32 i;

	for (i = 0; i < self->records + 10; i++)
		ASSERT_EQ(0, vtl_run(&self->guest));
	last = NEWEST();
	EXPECT_LE(first + self->records, last);
	/* A later record has replaced the first one. */
	EXPECT_LT(first, self->ring[first % self->records].sequence);
	for (i = 0; i < self->records; i++) {
		__u64 sequence = self->ring[i].sequence;

		ASSERT_EQ(i, sequence % self->records);
		ASSERT_LT(last - self->records, sequence);
	}
}

TEST_F(ring, it_stays_when_the_descriptor_goes)
{
	__u64 before;

	ASSERT_EQ(0, vtl_run(&self->guest));
	before = NEWEST();
	close(self->guest.fd);
	EXPECT_EQ(before, NEWEST());
	self->guest.fd = vtl_create();
	ASSERT_LE(0, self->guest.fd);
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_LT(before, NEWEST());
}

struct watcher {
	RING *ring;
	__u32 records;
	atomic_bool stop;
	atomic_ulong whole;
	unsigned long wrong;
};

/* Reads as fast as it can; what is whole must agree with itself. */
static void *watch(void *argument)
{
	struct watcher *watcher = argument;
	struct mshv_vtl_audit_record record;
	__u32 i;

	while (!watcher->stop)
		for (i = 0; i < watcher->records; i++) {
			if (!read_record(&watcher->ring[i], &record))
				continue;
			watcher->whole++;
			if (record.sequence % watcher->records != i ||
			    record.vm != 1 || record.vp != 0 ||
			    (record.exit_kind < MSHV_VTL_EXIT_HOST_ROUTED &&
			     record.exit_kind != (record.status & 0xffff)))
				watcher->wrong++;
		}
	return NULL;
}

TEST_F(ring, no_torn_record_is_taken_for_whole)
{
	struct watcher watcher = { .ring = self->ring,
				   .records = self->records };
	pthread_t thread;
	bool has_run = true;
	int i;

	ASSERT_EQ(0, pthread_create(&thread, NULL, watch, &watcher));
	/* As long as it takes: the watcher's CPU may be a slow one. */
	for (i = 0; has_run && (i < 3000 || watcher.whole <= 1000); i++) {
		has_run = !vtl_run(&self->guest);
		if (vtl_exit_reason(&self->guest) != EXIT_HLT)
			vtl_step_over(&self->guest);
		else
			vtl_guest_start(&self->guest);
	}
	watcher.stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(has_run);
	EXPECT_LT(1000, watcher.whole);
	EXPECT_EQ(0, watcher.wrong);
}

static int refused(int fd, size_t size, int protection, int flags, off_t offset)
{
	void *at = mmap(NULL, size, protection, flags, fd, offset);

	if (at == MAP_FAILED)
		return errno;
	munmap(at, size);
	return 0;
}

TEST_F(ring, it_can_only_be_mapped_whole_shared_and_for_reading)
{
	int fd = self->guest.fd;
	size_t size = self->size;
	off_t ring = RING_OFFSET(0);

	EXPECT_EQ(0, refused(fd, size, PROT_READ, MAP_SHARED, ring));
	EXPECT_EQ(EINVAL,
		  refused(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring));
	EXPECT_EQ(EINVAL, refused(fd, size, PROT_WRITE, MAP_SHARED, ring));
	EXPECT_EQ(EINVAL, refused(fd, size, PROT_READ, MAP_PRIVATE, ring));
	EXPECT_EQ(EINVAL, refused(fd, 4096, PROT_READ, MAP_SHARED, ring));
	EXPECT_EQ(EINVAL,
		  refused(fd, size - 4096, PROT_READ, MAP_SHARED, ring));
	EXPECT_EQ(EINVAL,
		  refused(fd, size + 4096, PROT_READ, MAP_SHARED, ring));
	EXPECT_EQ(EINVAL, refused(fd, size, PROT_READ, MAP_SHARED,
				  RING_OFFSET(0xffff)));
}

TEST_F(ring, nothing_makes_it_writable)
{
	struct mshv_vtl_audit_record record, again;
	int mem;

	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_TRUE(
		read_record(&self->ring[NEWEST() % self->records], &record));
	EXPECT_EQ(-1, mprotect((void *)self->ring, self->size,
			       PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect((void *)self->ring, self->size,
			       PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	/* The way of debuggers, past the protection of the mapping. */
	mem = open("/proc/self/mem", O_RDWR);
	ASSERT_LE(0, mem);
	EXPECT_EQ(-1, pwrite(mem, "x", 1, (off_t)(uintptr_t)self->ring));
	close(mem);
	/* The way of the kernel, on behalf of a system call. */
	mem = open("/proc/self/cmdline", O_RDONLY);
	ASSERT_LE(0, mem);
	EXPECT_EQ(-1, read(mem, (void *)self->ring, 8));
	EXPECT_EQ(EFAULT, errno);
	close(mem);
	ASSERT_TRUE(read_record(&self->ring[NEWEST() % self->records], &again));
	EXPECT_EQ(0, memcmp(&record, &again, sizeof(record)));
}

TEST_HARNESS_MAIN
