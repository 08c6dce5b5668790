// SPDX-License-Identifier: GPL-2.0
/*
 * Patterns on both sides: VTL2 and the guest fill AVX registers and system call
 * MSRs, VTL2 its own GS base, each with something else, and look for it.
 */
#include <asm/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define NUM_MSRS 5
#define ROUNDS_SHORT 3
#define ROUNDS_LONG 1000000

/* What the guest works on: see vtl_guest_patterns. */
struct patterns {
	struct {
		uint8_t ymm[8][32];
		uint64_t msrs[NUM_MSRS];
		uint8_t reserved[0x100 - 8 * NUM_MSRS];
	} found, own, seen;
};

_Static_assert(offsetof(struct patterns, own) == 0x200, "as in guests.S");
_Static_assert(offsetof(struct patterns, seen.msrs) == 0x500, "as in guests.S");

/* VTL2's own registers. */
struct vector {
	uint8_t ymm[16][32];
};

FIXTURE(patterns)
{
	struct vtl_guest guest;
	volatile struct patterns *data;
};

static void fill(void *start, size_t size, unsigned int seed)
{
	uint8_t *at = start;
	size_t i;

	for (i = 0; i < size; i++)
		at[i] = seed + i * 7 + (i >> 5) * 31;
}

/* System call @number with AVX registers from @before; what it leaves in them. */
static long call_with(long number, long first, long second,
		      const struct vector *before, struct vector *after)
{
	register const struct vector *from __asm__("r12") = before;
	register struct vector *to __asm__("r13") = after;
	long result = number;

	__asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
			 "vmovups 32*\\n(%%r12), %%ymm\\n\n\t"
			 ".endr\n\t"
			 "syscall\n\t"
			 ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
			 "vmovups %%ymm\\n, 32*\\n(%%r13)\n\t"
			 ".endr\n\t"
			 "vzeroupper"
			 : "+a"(result)
			 : "D"(first), "S"(second), "r"(from), "r"(to)
			 : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2",
			   "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
			   "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			   "xmm15");
	return result;
}

/* A system call between whose both sides VTL2's registers must not change. */
static bool is_kept(long number, long first, long second, unsigned int seed,
		    long *result)
{
	struct vector before, after;
	unsigned long gs = 0, own_gs = 0x10000000UL + seed;
	unsigned int aux, cpu = sched_getcpu();

	fill(&before, sizeof(before), seed);
	memset(&after, 0, sizeof(after));
	syscall(SYS_arch_prctl, ARCH_SET_GS, own_gs);
	*result = call_with(number, first, second, &before, &after);
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
	__builtin_ia32_rdtscp(&aux);
	return !memcmp(&before, &after, sizeof(before)) && gs == own_gs &&
	       (aux & 0xfff) == cpu;
}

/* Lets the guest read and write the MSRs without an exit; CR4.OSXSAVE; XCR0. */
static int prepare(struct vtl_guest *guest)
{
	static const unsigned int words[] = { 130, 132, 386, 388 };
	struct mshv_register xfem = { .name = MSHV_REGISTER_XFEM,
				      .value = { 7 } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&xfem };
	struct mshv_tdcall call = { .rax = TDG_VP_WR,
				    .rdx = VMCS64(0x6804),
				    .r8 = 0x40200,
				    .r9 = 0x40200 };
	size_t i;

	if (vtl_tdcall(guest->fd, &call) || vtl_status(&call))
		return -1;
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		call = (struct mshv_tdcall){ .rax = TDG_VP_WR,
					     .rdx = FIELD_MSR_BITMAP(words[i]),
					     .r9 = words[i] & 4 ? 0xc : 0x16 };
		if (vtl_tdcall(guest->fd, &call) || vtl_status(&call))
			return -1;
	}
	return ioctl(guest->fd, MSHV_SET_VP_REGISTERS, &request);
}

/* As before: the VP outlives the test. */
static void restore(struct vtl_guest *guest)
{
	static const unsigned int words[] = { 130, 132, 386, 388 };
	struct mshv_register xfem = { .name = MSHV_REGISTER_XFEM,
				      .value = { 1 } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&xfem };
	struct mshv_tdcall call;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		call = (struct mshv_tdcall){ .rax = TDG_VP_WR,
					     .rdx = FIELD_MSR_BITMAP(words[i]),
					     .r8 = ~0ULL,
					     .r9 = words[i] & 4 ? 0xc : 0x16 };
		vtl_tdcall(guest->fd, &call);
	}
	ioctl(guest->fd, MSHV_SET_VP_REGISTERS, &request);
}

static int start(struct vtl_guest *guest, volatile struct patterns *data,
		 unsigned int seed, unsigned int rounds)
{
	volatile struct mshv_vtl_run *run = guest->run;
	struct patterns fresh;

	if (vtl_guest_load(guest, vtl_guest_patterns, vtl_guest_patterns_end) ||
	    prepare(guest))
		return -1;
	memset(&fresh, 0, sizeof(fresh));
	fill(fresh.own.ymm, sizeof(fresh.own.ymm), seed);
	fresh.own.msrs[0] = 0x1111222200000000ULL + seed;
	fresh.own.msrs[1] = 0xffffffff81000000ULL + seed;
	fresh.own.msrs[2] = 0x47700 + (seed & 1);
	fresh.own.msrs[3] = 0x00007abc00000000ULL + seed;
	fresh.own.msrs[4] = 0xa0000 + seed;
	memcpy((void *)data, &fresh, sizeof(fresh));
	run->tdx.l2_enter_guest_state.gpr[RBX] =
		guest->base + (1 + guest->cpu) * VTL_PAGE_SIZE;
	run->tdx.l2_enter_guest_state.gpr[RBP] = rounds;
	return 0;
}

/* Runs to the halt, with VTL2's patterns. False if one of them changed. */
static bool run_to_halt(struct vtl_guest *guest, unsigned int seed)
{
	long result;

	do {
		if (!is_kept(SYS_ioctl, guest->fd, MSHV_RETURN_TO_LOWER_VTL,
			     seed, &result))
			return false;
	} while (result == -EINTR || (!result && vtl_exit_reason(guest) == 1));
	return !result && vtl_exit_reason(guest) == EXIT_HLT;
}

FIXTURE_SETUP(patterns)
{
	uint64_t base, size;

	if (!__builtin_cpu_supports("avx"))
		SKIP(return, "no AVX");
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->data = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->data);
}

FIXTURE_TEARDOWN(patterns)
{
	restore(&self->guest);
	vtl_guest_close(&self->guest);
}

TEST_F(patterns, each_side_has_its_own)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	volatile struct patterns *data = self->data;
	int number, byte;

	ASSERT_EQ(0, start(&self->guest, data, 0x55, ROUNDS_SHORT));
	run->tdx.vp_state.msr_star = 0x3333;
	run->tdx.vp_state.msr_lstar = 0x4444;
	run->tdx.vp_state.msr_sfmask = 0x700;
	run->tdx.vp_state.msr_kernel_gs_base = 0x6666;
	run->tdx.vp_state.msr_tsc_aux = 0x7777;
	for (byte = 0; byte < 16 * 8; byte++)
		run->tdx.fx_state[160 + byte] = byte;
	ASSERT_TRUE(run_to_halt(&self->guest, 0x99));
	ASSERT_EQ(0, run->tdx.l2_enter_guest_state.gpr[RAX]);

	/* What the guest found is what the run page said. */
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 16; byte++)
			EXPECT_EQ(16 * number + byte,
				  data->found.ymm[number][byte]);
	EXPECT_EQ(0x3333, data->found.msrs[0]);
	EXPECT_EQ(0x4444, data->found.msrs[1]);
	EXPECT_EQ(0x700, data->found.msrs[2]);
	EXPECT_EQ(0x6666, data->found.msrs[3]);
	EXPECT_EQ(0x7777, data->found.msrs[4]);

	/* What it left is what the run page says now. */
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 16; byte++)
			EXPECT_EQ(data->own.ymm[number][byte],
				  run->tdx.fx_state[160 + 16 * number + byte]);
	EXPECT_EQ(data->own.msrs[0], run->tdx.vp_state.msr_star);
	EXPECT_EQ(data->own.msrs[1], run->tdx.vp_state.msr_lstar);
	EXPECT_EQ(data->own.msrs[2], run->tdx.vp_state.msr_sfmask);
	EXPECT_EQ(data->own.msrs[3], run->tdx.vp_state.msr_kernel_gs_base);
	EXPECT_EQ(data->own.msrs[4], run->tdx.vp_state.msr_tsc_aux);
}

/* Upper halves have no place in the run page: the VP keeps them. */
TEST_F(patterns, upper_halves_stay_with_the_vp)
{
	volatile struct patterns *data = self->data;
	int number, byte;

	ASSERT_EQ(0, start(&self->guest, data, 0x21, ROUNDS_SHORT));
	ASSERT_TRUE(run_to_halt(&self->guest, 0x77));
	ASSERT_EQ(0, start(&self->guest, data, 0x42, ROUNDS_SHORT));
	ASSERT_TRUE(run_to_halt(&self->guest, 0x78));
	for (number = 0; number < 8; number++)
		for (byte = 16; byte < 32; byte++)
			EXPECT_EQ((uint8_t)(0x21 + (32 * number + byte) * 7 +
					    number * 31),
				  data->found.ymm[number][byte]);
}

static volatile int is_over;

/* Wants the same CPU all the time, with registers of its own. */
static void *busy_sibling(void *argument)
{
	unsigned long rounds = 0;
	long result;

	(void)argument;
	vtl_pin(0);
	while (!is_over) {
		if (!is_kept(SYS_sched_yield, 0, 0, 0x13 + rounds % 100,
			     &result) ||
		    result)
			return (void *)0;
		rounds++;
	}
	return (void *)rounds;
}

TEST_F(patterns, a_preempted_thread_keeps_both_sides)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	pthread_t sibling;
	void *rounds;
	bool is_good;

	ASSERT_EQ(0, start(&self->guest, self->data, 0x31, ROUNDS_LONG));
	is_over = 0;
	ASSERT_EQ(0, pthread_create(&sibling, NULL, busy_sibling, NULL));
	is_good = run_to_halt(&self->guest, 0xc0);
	is_over = 1;
	pthread_join(sibling, &rounds);
	EXPECT_TRUE(is_good);
	EXPECT_EQ(0, run->tdx.l2_enter_guest_state.gpr[RAX]);
	EXPECT_LT(20, (unsigned long)rounds);
}

static volatile unsigned int signals;

/* Leaves the registers full of something else. */
static void on_alarm(int number)
{
	struct vector mine, after;

	(void)number;
	signals++;
	fill(&mine, sizeof(mine), 0xe0 + signals % 16);
	call_with(SYS_getpid, 0, 0, &mine, &after);
}

TEST_F(patterns, a_signal_in_the_middle_changes_nothing)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval often = { .it_interval = { .tv_usec = 20000 },
				   .it_value = { .tv_usec = 20000 } };
	struct itimerval never = { .it_value = { 0 } };
	volatile struct mshv_vtl_run *run = self->guest.run;
	bool is_good;

	sigaction(SIGALRM, &action, NULL);
	signals = 0;
	ASSERT_EQ(0, start(&self->guest, self->data, 0x32, ROUNDS_LONG));
	setitimer(ITIMER_REAL, &often, NULL);
	is_good = run_to_halt(&self->guest, 0xc1);
	setitimer(ITIMER_REAL, &never, NULL);
	EXPECT_TRUE(is_good);
	EXPECT_EQ(0, run->tdx.l2_enter_guest_state.gpr[RAX]);
	EXPECT_LT(0, signals);
}

TEST_HARNESS_MAIN
