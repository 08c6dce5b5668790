// SPDX-License-Identifier: GPL-2.0
/*
 * The helpers in C (include/mshv_vtl.h) as a paravisor uses them, without anything
 * else of these tests.
 */
#include <mshv_vtl.h>
#include <signal.h>
#include <sys/time.h>

#include "kselftest_harness.h"

static struct vtl_vp *running;
static volatile sig_atomic_t signals, cancel_at;

static void on_signal(int number)
{
	(void)number;
	if (++signals == cancel_at)
		running->run->cancel = 1;
}

FIXTURE(helpers)
{
	struct vtl_vp vp;
	__u64 gpa, size;
	__u8 *memory;
};

FIXTURE_SETUP(helpers)
{
	ASSERT_EQ(0, vtl_open(&self->vp, 0));
	if (vtl_first_range(&self->gpa, &self->size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	self->memory = vtl_give(&self->vp, self->gpa, VTL_PAGE);
	ASSERT_NE(MAP_FAILED, self->memory)
	{
		TH_LOG("errno %d, status %#llx", errno, self->vp.status);
	}
	running = &self->vp;
}

FIXTURE_TEARDOWN(helpers)
{
	if (self->memory)
		munmap(self->memory, VTL_PAGE);
	vtl_close(&self->vp);
}

/* Runs a guest of @size bytes from its start. */
static int run_code(struct vtl_vp *vp, __u8 *memory, __u64 gpa,
		    const char *code, size_t size)
{
	memcpy(memory, code, size);
	if (vtl_start_prot32(vp, gpa))
		return -1;
	return vtl_run(vp);
}

#define RUN(code) \
	run_code(&self->vp, self->memory, self->gpa, code, sizeof(code) - 1)

TEST_F(helpers, a_cpu_that_there_is_not_is_refused_and_leaves_nothing_open)
{
	int before = dup(self->vp.fd), after;
	struct vtl_vp other;

	close(before);
	EXPECT_EQ(-1, vtl_open(&other, 100000));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, vtl_open(&other, 8191));
	EXPECT_EQ(EINVAL, errno);
	after = dup(self->vp.fd);
	EXPECT_EQ(before, after);
	close(after);
}

TEST_F(helpers, memory_that_is_given_again_is_zero)
{
	__u8 *again;
	int i, others = 0;

	memset(self->memory, 0x5a, VTL_PAGE);
	again = vtl_give(&self->vp, self->gpa, VTL_PAGE);
	ASSERT_NE(MAP_FAILED, again);
	for (i = 0; i < (int)VTL_PAGE; i++)
		others += again[i] != 0;
	EXPECT_EQ(0, others);
	munmap(again, VTL_PAGE);
}

TEST_F(helpers, memory_of_this_kernel_is_refused)
{
	EXPECT_EQ(MAP_FAILED, vtl_give(&self->vp, 1ULL << 44, VTL_PAGE));
	EXPECT_NE(0, errno);
}

TEST_F(helpers, a_refused_field_has_its_status)
{
	/* The address of a bitmap of ports: no paravisor needs it. */
	EXPECT_EQ(-1, vtl_write_vmcs(&self->vp, 0x2000, 0, VTL_ALL_BITS));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(0xc0000100, self->vp.status >> 32);
}

TEST_F(helpers, a_guest_starts_with_registers_of_zero_and_steps_over_its_exits)
{
	/* cpuid; hlt */
	ASSERT_EQ(VTL_EXIT_CPUID, RUN("\x0f\xa2\xf4"));
	EXPECT_EQ(0, self->vp.run->tdx.l2_enter_guest_state.gpr[VTL_RSI]);
	EXPECT_EQ(self->gpa, self->vp.run->tdx.l2_enter_guest_state.rip);
	vtl_skip(&self->vp);
	EXPECT_EQ(self->gpa + 2, self->vp.run->tdx.l2_enter_guest_state.rip);
	EXPECT_EQ(VTL_EXIT_HLT, vtl_run(&self->vp));
}

/* With paging left on, and a code segment that is none. */
TEST_F(helpers, a_guest_starts_after_one_that_was_lost)
{
	/* ud2 */
	ASSERT_EQ(VTL_EXIT_TRIPLE_FAULT, RUN("\x0f\x0b"));
	ASSERT_EQ(0, vtl_write_vmcs(&self->vp, 0x6802, 0x1000, VTL_ALL_BITS));
	ASSERT_EQ(0,
		  vtl_write_vmcs(&self->vp, 0x6800, 0x80000031, VTL_ALL_BITS));
	ASSERT_EQ(0, vtl_write_vmcs(&self->vp, 0x0802, 0, VTL_ALL_BITS));
	/* mov %ds, %eax; hlt */
	ASSERT_EQ(VTL_EXIT_HLT, RUN("\x8c\xd8\xf4"));
	EXPECT_EQ(0x10, self->vp.run->tdx.l2_enter_guest_state.gpr[VTL_RAX]);
}

TEST_F(helpers, a_signal_ends_a_run_only_if_its_handler_cancels_it)
{
	const struct sigaction action = { .sa_handler = on_signal };
	const struct itimerval never = { 0 }, often = {
		.it_value.tv_usec = 20 * 1000,
		.it_interval.tv_usec = 20 * 1000,
	};

	signals = 0;
	cancel_at = 3;
	sigaction(SIGALRM, &action, NULL);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	/* jmp . */
	EXPECT_EQ(-1, RUN("\xeb\xfe"));
	EXPECT_EQ(EINTR, errno);
	setitimer(ITIMER_REAL, &never, NULL);
	EXPECT_LE(3, signals);
	EXPECT_EQ(VTL_EXIT_HLT, RUN("\xf4"));
}

TEST_HARNESS_MAIN
