// SPDX-License-Identifier: GPL-2.0
/*
 * Patterns on both sides: VTL2 and the guest, VM 1 or VM 2, fill AVX and x87
 * registers, PKRU, system call MSRs, debug registers and GS base, each as far as it
 * can, with something else, and look for it.
 */
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "debug_port.h"
#include "patterns.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define ROUNDS_SHORT 3
#define ROUNDS_LONG 300000
/* Not so many that userspace sees one. */
#define TAKEN 1000

FIXTURE(patterns)
{
	struct vtl_guest guest;
	volatile struct guest_patterns *data;
};

FIXTURE_VARIANT(patterns)
{
	int vm;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(patterns, vm1)
{
	.vm = 1,
};

FIXTURE_VARIANT_ADD(patterns, vm2)
{
	.vm = 2,
};
/* clang-format on */

static int set_register(struct vtl_guest *guest, uint32_t name, uint64_t value)
{
	struct mshv_register one = { .name = name, .value = { value } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(guest->fd, MSHV_SET_VP_REGISTERS, &request);
}

static uint64_t get_register(struct vtl_guest *guest, uint32_t name)
{
	struct mshv_register one = { .name = name };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(guest->fd, MSHV_GET_VP_REGISTERS, &request) ? ~0ULL :
								   one.value[0];
}

/* Lets the guest read and write the MSRs without an exit, or not. */
static int let_through(struct vtl_guest *guest, bool is_free)
{
	static const unsigned int words[] = { 130, 132, 386, 388 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (vtl_guest_write_field(guest, FIELD_MSR_BITMAP(words[i]),
					  is_free ? 0 : ~0ULL,
					  words[i] & 4 ? 0xc : 0x16))
			return -1;
	return 0;
}

/* With CR4.OSFXSR, OSXSAVE and PKE, and AVX. */
static int load(struct vtl_guest *guest)
{
	return vtl_guest_load(guest, vtl_guest_patterns,
			      vtl_guest_patterns_end) ||
	       vtl_guest_write_field(guest, VMCS64(0x6804), 0x440200,
				     0x440200) ||
	       let_through(guest, true) ||
	       set_register(guest, MSHV_REGISTER_XFEM, 7);
}

static int use_vm(struct vtl_guest *guest, int vm)
{
	if (vm == 1)
		return 0;
	return vtl_guest_use_vm(guest, vm) || vtl_guest_give_apic_page(guest);
}

static void operands(struct vtl_guest *guest, unsigned int rounds)
{
	volatile struct mshv_vtl_run *run = guest->run;

	run->tdx.l2_enter_guest_state.gpr[RBX] =
		guest->base + (1 + guest->cpu) * VTL_PAGE_SIZE;
	run->tdx.l2_enter_guest_state.gpr[RBP] = rounds;
}

static int start(struct vtl_guest *guest, volatile struct guest_patterns *data,
		 unsigned int seed, unsigned int rounds)
{
	struct guest_patterns fresh;

	if (load(guest))
		return -1;
	memset(&fresh, 0, sizeof(fresh));
	pattern_fill(fresh.own.ymm, sizeof(fresh.own.ymm), seed);
	pattern_fill(fresh.own.x87, sizeof(fresh.own.x87), seed + 3);
	pattern_fill(fresh.own.dr, sizeof(fresh.own.dr), seed + 5);
	fresh.own.pkru = 0x01020304 * (seed & 0xf);
	fresh.own.msrs[0] = 0x1111222200000000ULL + seed;
	fresh.own.msrs[1] = 0xffffffff81000000ULL + seed;
	fresh.own.msrs[2] = 0x47700 + (seed & 1);
	fresh.own.msrs[3] = 0x00007abc00000000ULL + seed;
	fresh.own.msrs[4] = 0xa0000 + seed;
	memcpy((void *)data, &fresh, sizeof(fresh));
	operands(guest, rounds);
	return 0;
}

/* Runs to the halt, with VTL2's patterns. False if one of them changed. */
static bool run_to_halt(struct vtl_guest *guest, unsigned int seed)
{
	long result;

	do {
		if (!pattern_is_kept(SYS_ioctl, guest->fd,
				     MSHV_RETURN_TO_LOWER_VTL, seed, &result))
			return false;
	} while (result == -EINTR || (!result && vtl_exit_reason(guest) == 1));
	return !result && vtl_exit_reason(guest) == EXIT_HLT &&
	       guest->run->tdx.l2_enter_guest_state.gpr[RAX] == 0;
}

FIXTURE_SETUP(patterns)
{
	uint64_t base, size;

	if (!__builtin_cpu_supports("avx") || !__builtin_cpu_supports("pku"))
		SKIP(return, "no AVX or no protection keys");
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, use_vm(&self->guest, variant->vm));
	self->data = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->data);
}

/* As before: the VP outlives the test. */
FIXTURE_TEARDOWN(patterns)
{
	struct guest_patterns zero = { 0 };

	EXPECT_EQ(0, load(&self->guest));
	memcpy((void *)self->data, &zero, sizeof(zero));
	operands(&self->guest, 1);
	EXPECT_TRUE(run_to_halt(&self->guest, 0));
	EXPECT_EQ(0, let_through(&self->guest, false));
	EXPECT_EQ(0, set_register(&self->guest, MSHV_REGISTER_XFEM, 1));
	vtl_guest_close(&self->guest);
}

TEST_F(patterns, each_side_has_its_own)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	volatile struct guest_patterns *data = self->data;
	int number, byte;

	ASSERT_EQ(0, start(&self->guest, data, 0x55, ROUNDS_SHORT));
	run->tdx.vp_state.msr_star = 0x3333;
	run->tdx.vp_state.msr_lstar = 0x4444;
	run->tdx.vp_state.msr_sfmask = 0x700;
	run->tdx.vp_state.msr_kernel_gs_base = 0x6666;
	run->tdx.vp_state.msr_tsc_aux = 0x7777;
	for (byte = 0; byte < 16 * 8; byte++)
		run->tdx.fx_state[160 + byte] = byte;
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 8; byte++)
			run->tdx.fx_state[32 + 16 * number + byte] =
				16 * number + 8 + byte;
	for (number = 0; number < 4; number++)
		ASSERT_EQ(0,
			  set_register(&self->guest, MSHV_REGISTER_DR0 + number,
				       0xa000 + number));
	ASSERT_TRUE(run_to_halt(&self->guest, 0x99));

	/* The guest read what the run page contained. */
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 16; byte++)
			EXPECT_EQ(16 * number + byte,
				  data->found.ymm[number][byte]);
	for (number = 0; number < 8; number++)
		EXPECT_EQ(0x0f0e0d0c0b0a0908 + number * 0x1010101010101010,
			  data->found.x87[number]);
	for (number = 0; number < 4; number++)
		EXPECT_EQ(0xa000 + number, data->found.dr[number]);
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
	for (number = 0; number < 8; number++)
		for (byte = 0; byte < 8; byte++)
			EXPECT_EQ((uint8_t)(data->own.x87[number] >> 8 * byte),
				  run->tdx.fx_state[32 + 16 * number + byte]);
	for (number = 0; number < 4; number++)
		EXPECT_EQ(data->own.dr[number],
			  get_register(&self->guest,
				       MSHV_REGISTER_DR0 + number));
	EXPECT_EQ(data->own.msrs[0], run->tdx.vp_state.msr_star);
	EXPECT_EQ(data->own.msrs[1], run->tdx.vp_state.msr_lstar);
	EXPECT_EQ(data->own.msrs[2], run->tdx.vp_state.msr_sfmask);
	EXPECT_EQ(data->own.msrs[3], run->tdx.vp_state.msr_kernel_gs_base);
	EXPECT_EQ(data->own.msrs[4], run->tdx.vp_state.msr_tsc_aux);
}

/* Upper halves and PKRU. */
TEST_F(patterns, what_has_no_place_in_the_run_page_stays_with_the_vp)
{
	volatile struct guest_patterns *data = self->data;
	uint32_t pkru;
	int number, byte;

	ASSERT_EQ(0, start(&self->guest, data, 0x21, ROUNDS_SHORT));
	ASSERT_TRUE(run_to_halt(&self->guest, 0x77));
	pkru = data->own.pkru;
	EXPECT_NE(0, pkru);
	ASSERT_EQ(0, start(&self->guest, data, 0x42, ROUNDS_SHORT));
	ASSERT_TRUE(run_to_halt(&self->guest, 0x78));
	for (number = 0; number < 8; number++)
		for (byte = 16; byte < 32; byte++)
			EXPECT_EQ((uint8_t)(0x21 + (32 * number + byte) * 7 +
					    number * 31),
				  data->found.ymm[number][byte]);
	EXPECT_EQ(pkru, data->found.pkru);
}

static volatile int is_over;
static volatile uint64_t watched;

/* A breakpoint of the calling thread on "watched". */
static int set_breakpoint(void)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attributes),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = (uintptr_t)&watched,
		.bp_len = HW_BREAKPOINT_LEN_8,
		.exclude_kernel = 1,
	};

	return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}

/*
 * Occupies the same CPU all the time, with registers and a breakpoint of its
 * own.
 */
static void *busy_sibling(void *argument)
{
	unsigned long rounds = 0;
	uint64_t hits = 0;
	int event = set_breakpoint();
	long result;

	(void)argument;
	vtl_pin(0);
	while (!is_over) {
		if (!pattern_is_kept(SYS_sched_yield, 0, 0, 0x13 + rounds % 100,
				     &result) ||
		    result)
			return (void *)0;
		rounds++;
		watched = rounds;
	}
	if (event < 0 || read(event, &hits, sizeof(hits)) != sizeof(hits) ||
	    hits != rounds)
		return (void *)0;
	close(event);
	return (void *)rounds;
}

TEST_F(patterns, a_preempted_thread_keeps_both_sides)
{
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
	EXPECT_LT(20, (unsigned long)rounds);
}

/* The thread that runs the VP has a breakpoint itself. */
TEST_F(patterns, a_thread_with_a_breakpoint_keeps_both_sides)
{
	int event = set_breakpoint(), round;
	uint64_t hits = 0;

	ASSERT_LE(0, event);
	for (round = 1; round <= 3; round++) {
		ASSERT_EQ(0, start(&self->guest, self->data, 0x40 + round,
				   ROUNDS_LONG / 10));
		EXPECT_TRUE(run_to_halt(&self->guest, 0xd0));
		watched = round;
		ASSERT_EQ(sizeof(hits), read(event, &hits, sizeof(hits)));
		EXPECT_EQ(round, hits);
	}
	close(event);
}

/* After an exit that the host took, the guest is entered again with interrupts off. */
TEST_F(patterns, what_the_host_takes_keeps_both_sides)
{
	int event = -1, round;

	ASSERT_EQ(0, vtl_load_helper("vtl_debug_port"));
	for (round = 0; round < 2; round++) {
		ASSERT_EQ(0, start(&self->guest, self->data, 0x48 + round,
				   ROUNDS_LONG / 100));
		ASSERT_EQ(0, debug_port(ACTION_TAKE, TAKEN));
		EXPECT_TRUE(run_to_halt(&self->guest, 0xd8));
		/* Once more, with a breakpoint of VTL2. */
		if (!round)
			event = set_breakpoint();
	}
	EXPECT_EQ(0, close(event));
}

/* Another VP, on the other CPU. */
static void *other_vp(void *argument)
{
	volatile struct guest_patterns *data;
	struct vtl_guest guest;
	bool is_good;

	if (vtl_guest_open(&guest, 1) || use_vm(&guest, *(int *)argument))
		return (void *)0;
	data = vtl_map_low(guest.base + 2 * VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	is_good = data != MAP_FAILED &&
		  !start(&guest, data, 0x34, ROUNDS_LONG) &&
		  run_to_halt(&guest, 0xb2);
	let_through(&guest, false);
	set_register(&guest, MSHV_REGISTER_XFEM, 1);
	vtl_guest_close(&guest);
	return (void *)is_good;
}

TEST_F(patterns, two_vps_at_once_keep_theirs)
{
	int vm = variant->vm;
	pthread_t thread;
	void *other_is_good;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	ASSERT_EQ(0, start(&self->guest, self->data, 0x33, ROUNDS_LONG));
	ASSERT_EQ(0, vtl_thread_on(&thread, 1, other_vp, &vm));
	EXPECT_TRUE(run_to_halt(&self->guest, 0xb1));
	pthread_join(thread, &other_is_good);
	EXPECT_TRUE(other_is_good);
}

static volatile unsigned int signals;

/* Leaves the registers full of something else. */
static void on_alarm(int number)
{
	long result;

	(void)number;
	signals++;
	pattern_is_kept(SYS_getpid, 0, 0, 0xe0 + signals % 16, &result);
}

TEST_F(patterns, a_signal_in_the_middle_changes_nothing)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval often = { .it_interval = { .tv_usec = 20000 },
				   .it_value = { .tv_usec = 20000 } };
	struct itimerval never = { .it_value = { 0 } };
	bool is_good;

	sigaction(SIGALRM, &action, NULL);
	signals = 0;
	ASSERT_EQ(0, start(&self->guest, self->data, 0x32, ROUNDS_LONG));
	setitimer(ITIMER_REAL, &often, NULL);
	is_good = run_to_halt(&self->guest, 0xc1);
	setitimer(ITIMER_REAL, &never, NULL);
	EXPECT_TRUE(is_good);
	EXPECT_LT(0, signals);
}

TEST_HARNESS_MAIN
