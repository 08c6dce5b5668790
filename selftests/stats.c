// SPDX-License-Identifier: GPL-2.0
/* Counters of a VP: by kind of exit, by refusal, and the same in debugfs. */
#include <sys/ioctl.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define DEBUGFS_STATS "/sys/kernel/debug/mshv_vtl_tdx/stats"

FIXTURE(stats)
{
	struct vtl_guest guest;
	struct mshv_vtl_stats before, after;
};

FIXTURE_SETUP(stats)
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
}

FIXTURE_TEARDOWN(stats)
{
	vtl_guest_close(&self->guest);
}

static int read_stats(int fd, unsigned int cpu, struct mshv_vtl_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->head.size = sizeof(*stats);
	stats->head.selector = cpu;
	return ioctl(fd, MSHV_VTL_STATS, stats) ? -errno : 0;
}

#define READ(when) ASSERT_EQ(0, read_stats(self->guest.fd, 0, &self->when))

#define EXPECT_REFUSED_MORE(kind, more)                                   \
	EXPECT_EQ(self->before.refused[MSHV_VTL_REFUSED_##kind] + (more), \
		  self->after.refused[MSHV_VTL_REFUSED_##kind])

TEST_F(stats, an_exit_is_counted_once_with_its_time)
{
	int i;

	READ(before);
	EXPECT_EQ(sizeof(self->before), self->before.head.size);
	EXPECT_EQ(0, self->before.head.selector);
	EXPECT_EQ(MSHV_VTL_EXIT_KINDS, self->before.exit_kinds);
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, vtl_run(&self->guest));
	READ(after);
	EXPECT_EQ(self->before.exits[EXIT_CPUID].count + 10,
		  self->after.exits[EXIT_CPUID].count);
	EXPECT_LT(self->before.exits[EXIT_CPUID].cycles + 10,
		  self->after.exits[EXIT_CPUID].cycles);
	EXPECT_EQ(self->before.exits[EXIT_CPUID].handled,
		  self->after.exits[EXIT_CPUID].handled);
	EXPECT_EQ(self->before.exits[EXIT_HLT].count,
		  self->after.exits[EXIT_HLT].count);
}

TEST_F(stats, what_the_kernel_handles_is_never_more_than_there_was)
{
	size_t i;

	READ(after);
	for (i = 0; i < MSHV_VTL_EXIT_KINDS; i++) {
		EXPECT_LE(self->after.exits[i].handled,
			  self->after.exits[i].count)
		{
			TH_LOG("kind %zu", i);
		}
	}
}

TEST_F(stats, refused_entries_are_counted_by_their_errno)
{
	uint64_t good = self->guest.run->tdx.entry_rcx;

	READ(before);
	self->guest.run->tdx.entry_rcx = good | 1ULL << 63;
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	self->guest.run->tdx.entry_rcx = good;
	self->guest.run->cancel = 1;
	EXPECT_EQ(-EINTR, vtl_enter(&self->guest));
	self->guest.run->cancel = 0;
	READ(after);
	EXPECT_REFUSED_MORE(EINVAL, 2);
	EXPECT_REFUSED_MORE(EINTR, 1);
	EXPECT_REFUSED_MORE(EBUSY, 0);
	EXPECT_REFUSED_MORE(TDCALL, 0);
	EXPECT_EQ(self->before.exits[EXIT_CPUID].count,
		  self->after.exits[EXIT_CPUID].count);
}

TEST_F(stats, refused_tdcalls_are_counted)
{
	struct mshv_tdcall call = { .rax = TDG_VP_ENTER };

	READ(before);
	ASSERT_EQ(0, vtl_tdcall(self->guest.fd, &call));
	EXPECT_EQ(TDX_OPERAND_INVALID, vtl_status(&call));
	READ(after);
	EXPECT_REFUSED_MORE(TDCALL, 1);
}

TEST_F(stats, a_cpu_without_a_vp_is_enxio)
{
	static const unsigned int cpus[] = { 0xffff, 0x10000, 0xffffffff };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cpus); i++) {
		EXPECT_EQ(-ENXIO,
			  read_stats(self->guest.fd, cpus[i], &self->after));
	}
}

TEST_F(stats, debugfs_shows_the_same)
{
	char text[16384], line[256];
	size_t len;
	FILE *file;

	ASSERT_EQ(0, vtl_run(&self->guest));
	file = fopen(DEBUGFS_STATS, "r");
	if (!file)
		SKIP(return, "no debugfs on /sys/kernel/debug");
	READ(after);
	len = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[len] = 0;
	snprintf(line, sizeof(line),
		 "vp 0 exit %u count %llu handled %llu cycles %llu\n",
		 EXIT_CPUID, self->after.exits[EXIT_CPUID].count,
		 self->after.exits[EXIT_CPUID].handled,
		 self->after.exits[EXIT_CPUID].cycles);
	EXPECT_NE(NULL, strstr(text, line))
	{
		TH_LOG("expected %sfound %s", line, text);
	}
	snprintf(
		line, sizeof(line),
		"vp 0 vtl calls %llu returns %llu fast %llu left %llu flushes %llu proxied %llu\n",
		self->after.vtl_calls, self->after.vtl_returns,
		self->after.vtl_fast_returns, self->after.vtl_left,
		self->after.vtl_flushes, self->after.vtl_proxied);
	EXPECT_NE(NULL, strstr(text, line))
	{
		TH_LOG("expected %sfound %s", line, text);
	}
}

TEST_HARNESS_MAIN
