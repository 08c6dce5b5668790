// SPDX-License-Identifier: GPL-2.0
/*
 * A virtual processor's thread whose affinity changes while it is in the
 * kernel: changing it never waits for the lower VTL, and the thread is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_util.h"

/* Much longer than a migration takes, but bounded. */
#define PATIENCE_SECONDS 30

#define CGROUPS "/tmp/cgroups"
#define CGROUP CGROUPS "/vp"

struct runner {
	struct vtl_guest *guest;
	pthread_t thread;
	volatile pid_t tid;
	int result;
};

struct mover {
	pthread_t thread;
	pid_t tid;
	int cpu;
	int (*move)(pid_t tid, int cpu);
	int result;
};

FIXTURE(affinity)
{
	struct vtl_guest guest;
	struct runner runner;
};

FIXTURE_SETUP(affinity)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->runner.guest = &self->guest;
	ASSERT_EQ(0, vtl_pin(1));
}

FIXTURE_TEARDOWN(affinity)
{
	if (self->guest.run) {
		self->guest.run->flags = 0;
		self->guest.run->cancel = 0;
	}
	vtl_guest_close(&self->guest);
}

static void *run(void *argument)
{
	struct runner *runner = argument;

	runner->tid = syscall(SYS_gettid);
	runner->result = vtl_enter(runner->guest);
	return NULL;
}

static int move_by_affinity(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? -errno : 0;
}

static int write_number(const char *path, int number)
{
	int file = open(path, O_WRONLY);
	int result = 0;

	if (file < 0)
		return -errno;
	if (dprintf(file, "%d", number) < 0)
		result = -errno;
	close(file);
	return result;
}

static int move_by_cpuset(pid_t tid, int cpu)
{
	int result = write_number(CGROUP "/cpuset.cpus", cpu);

	return result ? result : write_number(CGROUP "/cgroup.threads", tid);
}

static void *move(void *argument)
{
	struct mover *mover = argument;

	mover->result = mover->move(mover->tid, mover->cpu);
	return NULL;
}

/* Returns 0 when the thread has ended, within the patience of this file. */
static int join(pthread_t thread)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_SECONDS;
	return pthread_timedjoin_np(thread, NULL, &until);
}

static void start(struct __test_metadata *_metadata, struct runner *runner)
{
	ASSERT_EQ(0, vtl_thread_on(&runner->thread, 0, run, runner));
	/* Wherever it is by then, inside or on its way: all of it must work. */
	while (!runner->tid)
		usleep(1000);
	usleep(100 * 1000);
}

/* No exit, and whether the lower VTL has run; it may not have been entered. */
static void says_whether_it_ran(struct __test_metadata *_metadata,
				struct vtl_guest *guest)
{
	uint32_t status = guest->run->tdx.exit_info.rax >> 32;

	EXPECT_TRUE(status == TDX_PENDING_INTERRUPT ||
		    (status == TDX_L2_EXIT_PENDING_INTERRUPT &&
		     !(guest->run->flags & MSHV_VTL_RUN_HALTED)))
	{
		TH_LOG("status %#x", status);
	}
}

/* Migrates the thread during its call, which must return by itself. */
static void move_away(struct __test_metadata *_metadata, struct runner *runner,
		      int (*how)(pid_t tid, int cpu))
{
	struct mover mover = { .cpu = 1, .move = how };
	bool is_moved, has_returned;

	runner->guest->run->tdx.exit_info.rax = 0;
	start(_metadata, runner);
	mover.tid = runner->tid;
	ASSERT_EQ(0, vtl_thread_on(&mover.thread, 1, move, &mover));
	is_moved = !join(mover.thread);
	has_returned = is_moved && !join(runner->thread);
	if (!has_returned) {
		vtl_kick(runner->guest, MSHV_KICK_CANCEL);
		pthread_join(runner->thread, NULL);
	}
	if (!is_moved)
		pthread_join(mover.thread, NULL);
	EXPECT_TRUE(is_moved);
	EXPECT_TRUE(has_returned);
	EXPECT_EQ(0, mover.result);
	EXPECT_EQ(-ENXIO, runner->result);
	says_whether_it_ran(_metadata, runner->guest);
}

/* The processor is free, and works. */
static void is_free(struct __test_metadata *_metadata, struct vtl_guest *guest)
{
	guest->run->flags = 0;
	guest->run->cancel = 0;
	ASSERT_EQ(0, vtl_pin(0));
	ASSERT_EQ(0, vtl_guest_load(guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	ASSERT_EQ(0, vtl_run(guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(guest));
}

TEST_F(affinity, who_moves_the_thread_of_a_spinning_guest_does_not_wait)
{
	uint64_t before;

	move_away(_metadata, &self->runner, move_by_affinity);
	/* It has run, and where it was is known. */
	before = self->guest.run->tdx.l2_enter_guest_state.gpr[RAX];
	EXPECT_NE(0, before);
	EXPECT_EQ(0, self->guest.run->cancel);
	is_free(_metadata, &self->guest);
}

TEST_F(affinity, who_moves_the_thread_of_a_halted_guest_does_not_wait)
{
	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	move_away(_metadata, &self->runner, move_by_affinity);
	EXPECT_EQ(0, self->guest.run->tdx.l2_enter_guest_state.gpr[RAX]);
	is_free(_metadata, &self->guest);
}

TEST_F(affinity, who_moves_the_thread_of_a_guest_with_a_timer_does_not_wait)
{
	/* Far in the future. */
	self->guest.run->tdx.l2_tsc_deadline.deadline = 1ULL << 60;
	self->guest.run->tdx.l2_tsc_deadline.update = 1;
	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	move_away(_metadata, &self->runner, move_by_affinity);
	vtl_guest_write_field(&self->guest, FIELD_TSC_DEADLINE(1), ~0ULL,
			      ~0ULL);
	is_free(_metadata, &self->guest);
}

TEST_F(affinity, the_same_cpus_once_more_change_nothing)
{
	uint64_t before;

	start(_metadata, &self->runner);
	ASSERT_EQ(0, move_by_affinity(self->runner.tid, 0));
	usleep(100 * 1000);
	EXPECT_EQ(EBUSY, pthread_tryjoin_np(self->runner.thread, NULL));
	vtl_kick(&self->guest, MSHV_KICK_CANCEL);
	ASSERT_EQ(0, join(self->runner.thread));
	EXPECT_EQ(-EINTR, self->runner.result);
	before = self->guest.run->tdx.l2_enter_guest_state.gpr[RAX];
	EXPECT_NE(0, before);
}

TEST_F(affinity, moved_there_and_back_it_goes_on_or_says_so)
{
	int round, result;

	for (round = 0; round < 10; round++) {
		self->runner.tid = 0;
		self->guest.run->cancel = 0;
		self->guest.run->flags = round & 1 ? MSHV_VTL_RUN_HALTED : 0;
		start(_metadata, &self->runner);
		ASSERT_EQ(0, move_by_affinity(self->runner.tid, 1));
		/* It may have reported that, and exited. */
		result = move_by_affinity(self->runner.tid, 0);
		EXPECT_TRUE(!result || result == -ESRCH);
		vtl_kick(&self->guest, MSHV_KICK_CANCEL);
		ASSERT_EQ(0, join(self->runner.thread));
		EXPECT_TRUE(self->runner.result == -ENXIO ||
			    self->runner.result == -EINTR);
	}
	is_free(_metadata, &self->guest);
}

/* A cgroup with the cpuset controller, for threads. */
static bool make_cgroup(void)
{
	int file;
	bool is_made;

	mkdir(CGROUPS, 0755);
	if (mount("none", CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY)
		return false;
	file = open(CGROUPS "/cgroup.subtree_control", O_WRONLY);
	is_made = file >= 0 && write(file, "+cpuset", 7) == 7;
	close(file);
	if (!is_made || (mkdir(CGROUP, 0755) && errno != EEXIST))
		return false;
	file = open(CGROUP "/cgroup.type", O_WRONLY);
	is_made = file >= 0 && write(file, "threaded", 8) == 8;
	close(file);
	return is_made;
}

static void remove_cgroup(void)
{
	rmdir(CGROUP);
	umount(CGROUPS);
}

TEST_F(affinity, who_moves_the_thread_by_a_cpuset_does_not_wait)
{
	if (!make_cgroup()) {
		remove_cgroup();
		SKIP(return, "the kernel has no cpusets");
	}
	move_away(_metadata, &self->runner, move_by_cpuset);
	remove_cgroup();
	is_free(_metadata, &self->guest);
}

TEST_F(affinity, a_cpuset_moves_the_thread_of_a_halted_guest)
{
	if (!make_cgroup()) {
		remove_cgroup();
		SKIP(return, "the kernel has no cpusets");
	}
	self->guest.run->flags = MSHV_VTL_RUN_HALTED;
	move_away(_metadata, &self->runner, move_by_cpuset);
	remove_cgroup();
	is_free(_metadata, &self->guest);
}

TEST_HARNESS_MAIN
