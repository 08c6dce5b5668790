// SPDX-License-Identifier: GPL-2.0
/*
 * State that the guest can't change without an exit is not read back after a
 * run. So: what hardware changes by itself is seen even while everything is
 * intercepted, and what is passed through counts from the next run on.
 * vp_patterns has a guest for which nothing is intercepted, vp_msrs the MSRs
 * without a field in the run page.
 */
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_TSC_AUX 0xc0000103
#define PRIMARY_CONTROLS VMCS32(0x4002)
#define MOV_DR_EXITING (1ULL << 23)
#define GUEST_DR7 VMCS64(0x681a)
#define GUEST_GS_BASE VMCS64(0x6810)
#define DR6_START 0xffff0ff0ULL
#define DR6_BS (1ULL << 14)
#define DR6_B0 1ULL

FIXTURE(steady)
{
	struct vtl_guest guest;
	/* Three pages of VTL0's memory after the code. */
	volatile uint64_t *tables;
	uint64_t tables_gpa;
};

static int set(struct vtl_guest *guest, uint32_t name, uint64_t value)
{
	struct mshv_register one = { .name = name, .value = { value } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(guest->fd, MSHV_SET_VP_REGISTERS, &request);
}

static uint64_t get(struct vtl_guest *guest, uint32_t name)
{
	struct mshv_register one = { .name = name };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(guest->fd, MSHV_GET_VP_REGISTERS, &request) ? ~0ULL :
								   one.value[0];
}

static int set_all(struct vtl_guest *guest, const uint64_t *addresses)
{
	int number, result = set(guest, MSHV_REGISTER_DR6, DR6_START);

	for (number = 0; number < 4; number++)
		result |= set(guest, MSHV_REGISTER_DR0 + number,
			      addresses ? addresses[number] : 0);
	return result;
}

static int let_mov_dr_exit(struct vtl_guest *guest, bool does)
{
	return vtl_guest_write_field(guest, PRIMARY_CONTROLS,
				     does ? MOV_DR_EXITING : 0, MOV_DR_EXITING);
}

/* Writes of these MSRs alone: vtl_guest_write_field() leaves the others. */
static int let_through(struct vtl_guest *guest, bool is_free)
{
	const unsigned int msrs[] = { MSR_STAR, MSR_LSTAR, MSR_TSC_AUX };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (vtl_guest_write_field(
			    guest,
			    FIELD_MSR_BITMAP(MSR_BITMAP_WORD(msrs[i], 1)),
			    is_free ? 0 : ~0ULL, 1ULL << msrs[i] % 64) ||
		    vtl_guest_write_field(
			    guest,
			    FIELD_MSR_BITMAP(MSR_BITMAP_WORD(msrs[i], 0)),
			    is_free ? 0 : ~0ULL, 1ULL << msrs[i] % 64))
			return -1;
	return 0;
}

FIXTURE_SETUP(steady)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->tables_gpa = base + VTL_PAGE_SIZE;
	self->tables = vtl_map_low(self->tables_gpa, 3 * VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->tables);
	ASSERT_EQ(0, set_all(&self->guest, NULL));
}

FIXTURE_TEARDOWN(steady)
{
	EXPECT_EQ(0, let_mov_dr_exit(&self->guest, false));
	EXPECT_EQ(0, let_through(&self->guest, false));
	EXPECT_EQ(0,
		  vtl_guest_write_field(&self->guest, GUEST_DR7, 0x400, ~0ULL));
	EXPECT_EQ(0, set_all(&self->guest, NULL));
	munmap((void *)self->tables, 3 * VTL_PAGE_SIZE);
	vtl_guest_close(&self->guest);
}

static int run_to_halt(struct vtl_guest *guest)
{
	return vtl_run(guest) || vtl_exit_reason(guest) != EXIT_HLT;
}

/* Sets @guest to run vtl_guest_step, with a GDT, and an IDT for #DB. */
static int load_step(struct vtl_guest *guest, volatile uint64_t *tables,
		     uint64_t tables_gpa)
{
	uint64_t trap = guest->base + (vtl_guest_step_trap - vtl_guest_step);

	tables[1] = 0x00cf9b000000ffffULL; /* CS */
	tables[2] = 0x00cf93000000ffffULL;
	/* Vector 1 of an IDT in the second page: an interrupt gate. */
	tables[512 + 1] = (trap & 0xffff) | 8ULL << 16 | 0x8e00ULL << 32 |
			  (trap & 0xffff0000) << 32;
	return vtl_guest_load(guest, vtl_guest_step, vtl_guest_step_end) ||
	       vtl_guest_write_field(guest, VMCS64(0x6816), tables_gpa,
				     ~0ULL) ||
	       vtl_guest_write_field(guest, VMCS32(0x4810), 0x17, ~0ULL) ||
	       vtl_guest_write_field(guest, VMCS64(0x6818),
				     tables_gpa + VTL_PAGE_SIZE, ~0ULL) ||
	       vtl_guest_write_field(guest, VMCS32(0x4812), 0xf, 0xffffffff);
}

/* Long mode: page tables for the guest's 2 MiB, and 64-bit code. */
static int enter_long_mode(struct vtl_guest *guest, volatile uint64_t *tables,
			   uint64_t tables_gpa)
{
	const uint64_t base = guest->base;
	size_t i;

	for (i = 0; i < 3 * 512; i++)
		tables[i] = 0;
	tables[base >> 39 & 511] = (tables_gpa + VTL_PAGE_SIZE) | 3;
	tables[512 + (base >> 30 & 511)] = (tables_gpa + 2 * VTL_PAGE_SIZE) | 3;
	tables[1024 + (base >> 21 & 511)] = (base & ~(VTL_LARGE_SIZE - 1)) |
					    0x83;
	return vtl_guest_write_field(guest, VMCS_GUEST_CR3, tables_gpa,
				     ~0ULL) ||
	       vtl_guest_write_field(guest, VMCS64(0x6804), 0x20, 0x20) ||
	       vtl_guest_write_field(guest, VMCS64(0x2806), 0x500, 0x500) ||
	       vtl_guest_write_field(guest, VMCS32(0x4012), 0x200, 0x200) ||
	       vtl_guest_write_field(guest, VMCS64(0x6800), 0x80000000,
				     0x80000000) ||
	       vtl_guest_write_field(guest, VMCS32(0x4816), 0xa09b, 0xffffffff);
}

TEST_F(steady, swapgs_is_seen_while_every_write_exits)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	struct mshv_tdcall call = { .rax = TDG_VP_RD };
	int round;

	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_swapgs,
					    vtl_guest_swapgs_end));
		ASSERT_EQ(0, enter_long_mode(&self->guest, self->tables,
					     self->tables_gpa));
		ASSERT_EQ(0, vtl_guest_write_field(&self->guest, GUEST_GS_BASE,
						   0x1111000 + round, ~0ULL));
		run->tdx.vp_state.msr_kernel_gs_base = 0x2222000 + round;
		ASSERT_EQ(0, run_to_halt(&self->guest))
		{
			TH_LOG("exit %u", vtl_exit_reason(&self->guest));
		}
		EXPECT_EQ(0x1111000 + round,
			  run->tdx.vp_state.msr_kernel_gs_base);
		call.rax = TDG_VP_RD;
		call.rdx = vtl_guest_field(&self->guest, GUEST_GS_BASE);
		ASSERT_EQ(0, vtl_tdcall(self->guest.fd, &call));
		EXPECT_EQ(0x2222000 + round, call.r8);
	}
}

struct msr_row {
	uint32_t index, reserved;
	uint64_t found, own;
};

/* Has the guest write @values to STAR, LSTAR and TSC_AUX. */
static int run_writes(struct vtl_guest *guest, volatile void *memory,
		      uint64_t gpa, const uint64_t *values)
{
	const unsigned int msrs[] = { MSR_STAR, MSR_LSTAR, MSR_TSC_AUX };
	volatile struct mshv_vtl_run *run = guest->run;
	volatile struct msr_row *rows = memory;
	size_t i;

	if (vtl_guest_load(guest, vtl_guest_msrs, vtl_guest_msrs_end))
		return -1;
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		rows[i].index = msrs[i];
		rows[i].own = values[i];
	}
	run->tdx.l2_enter_guest_state.gpr[RBX] = gpa;
	run->tdx.l2_enter_guest_state.gpr[RBP] = gpa + 3 * sizeof(*rows);
	run->tdx.l2_enter_guest_state.gpr[RSI] = 1;
	run->tdx.vp_state.msr_star = 0x123;
	run->tdx.vp_state.msr_lstar = 0x456;
	run->tdx.vp_state.msr_tsc_aux = 0x789;
	return vtl_run(guest);
}

/* Each time the latest setting counts, and no older one. */
TEST_F(steady, what_is_let_through_is_read_back_from_then_on)
{
	const uint64_t values[] = { 0x1111, 0x2222, 0x3333 };
	volatile struct mshv_vtl_run *run = self->guest.run;
	int round;

	for (round = 0; round < 4; round++) {
		bool is_free = round % 2;

		ASSERT_EQ(0, let_through(&self->guest, is_free));
		ASSERT_EQ(0, run_writes(&self->guest, self->tables,
					self->tables_gpa, values));
		EXPECT_EQ(is_free ? EXIT_HLT : EXIT_RDMSR,
			  vtl_exit_reason(&self->guest));
		EXPECT_EQ(is_free ? values[0] : 0x123,
			  run->tdx.vp_state.msr_star);
		EXPECT_EQ(is_free ? values[1] : 0x456,
			  run->tdx.vp_state.msr_lstar);
		EXPECT_EQ(is_free ? values[2] : 0x789,
			  run->tdx.vp_state.msr_tsc_aux);
	}
}

TEST_F(steady, a_single_step_is_seen_in_dr6_while_mov_dr_exits)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	int does_exit;

	for (does_exit = 0; does_exit < 2; does_exit++) {
		ASSERT_EQ(0, set_all(&self->guest, NULL));
		ASSERT_EQ(0, let_mov_dr_exit(&self->guest, does_exit));
		ASSERT_EQ(0, load_step(&self->guest, self->tables,
				       self->tables_gpa))
		{
			TH_LOG("%s", self->guest.why);
		}
		run->tdx.l2_enter_guest_state.gpr[RAX] = 1;
		ASSERT_EQ(0, run_to_halt(&self->guest))
		{
			TH_LOG("exit %u", vtl_exit_reason(&self->guest));
		}
		EXPECT_EQ(1, run->tdx.l2_enter_guest_state.gpr[RCX]);
		EXPECT_EQ(DR6_START | DR6_BS,
			  get(&self->guest, MSHV_REGISTER_DR6));
	}
}

static long poke_debugreg(pid_t child, int number, uint64_t value)
{
	return ptrace(PTRACE_POKEUSER, child,
		      offsetof(struct user, u_debugreg) + 8 * number, value);
}

/*
 * Leaves @address in DR0 of CPU 0: a child had a breakpoint there, which is gone.
 * The kernel does not clear the register then.
 */
static int leave_breakpoint(uint64_t address)
{
	pid_t child = fork();
	int status, result;

	if (!child) {
		vtl_pin(0);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		raise(SIGSTOP);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	result = !WIFSTOPPED(status) || poke_debugreg(child, 0, address) ||
		 poke_debugreg(child, 7, 1) ||
		 ptrace(PTRACE_CONT, child, NULL, NULL) ||
		 waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
		 poke_debugreg(child, 7, 0);
	kill(child, SIGKILL);
	return waitpid(child, &status, 0) == child ? -result : -1;
}

/* What VTL2 debugged is none of the guest's business: not even one bit for each address. */
TEST_F(steady, a_single_step_over_vtl2s_old_breakpoint_sets_no_b0)
{
	const uint64_t at =
		self->guest.base + (vtl_guest_step_at - vtl_guest_step);
	volatile struct mshv_vtl_run *run = self->guest.run;
	uint64_t before;

	for (before = 0; before < 4; before++) {
		ASSERT_EQ(0, set_all(&self->guest, NULL));
		ASSERT_EQ(0, set(&self->guest, MSHV_REGISTER_DR6,
				 DR6_START | before));
		ASSERT_EQ(0, let_mov_dr_exit(&self->guest, true));
		ASSERT_EQ(0, load_step(&self->guest, self->tables,
				       self->tables_gpa));
		run->tdx.l2_enter_guest_state.gpr[RAX] = 1;
		ASSERT_EQ(0, leave_breakpoint(at));
		ASSERT_EQ(0, run_to_halt(&self->guest));
		EXPECT_EQ(1, run->tdx.l2_enter_guest_state.gpr[RCX]);
		/* A processor may clear what was set before. */
		EXPECT_EQ(DR6_START | DR6_BS,
			  get(&self->guest, MSHV_REGISTER_DR6) & ~before);
	}
}

/* An enabled breakpoint needs its address, whether MOV DR exits or not. */
TEST_F(steady, a_breakpoint_of_the_guest_is_hit_while_mov_dr_exits)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	const uint64_t at =
		self->guest.base + (vtl_guest_step_at - vtl_guest_step);
	const uint64_t addresses[] = { at, 0xb1, 0xb2, 0xb3 };
	int does_exit, is_on;

	for (does_exit = 0; does_exit < 2; does_exit++) {
		for (is_on = 0; is_on < 2; is_on++) {
			ASSERT_EQ(0, set_all(&self->guest, addresses));
			ASSERT_EQ(0, let_mov_dr_exit(&self->guest, does_exit));
			ASSERT_EQ(0, load_step(&self->guest, self->tables,
					       self->tables_gpa));
			ASSERT_EQ(0, vtl_guest_write_field(
					     &self->guest, GUEST_DR7,
					     0x400 | 2 * is_on, ~0ULL));
			ASSERT_EQ(0, run_to_halt(&self->guest));
			EXPECT_EQ(is_on,
				  run->tdx.l2_enter_guest_state.gpr[RCX]);
			EXPECT_EQ(DR6_START | (is_on ? DR6_B0 : 0),
				  get(&self->guest, MSHV_REGISTER_DR6));
			EXPECT_EQ(at, get(&self->guest, MSHV_REGISTER_DR0));
			EXPECT_EQ(0xb3, get(&self->guest, MSHV_REGISTER_DR3));
		}
	}
}

TEST_F(steady, addresses_survive_runs_that_do_not_load_them)
{
	const uint64_t addresses[] = { 0xa0, 0xa1, 0xa2, 0xa3 };
	volatile struct mshv_vtl_run *run = self->guest.run;
	int round;

	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, set_all(&self->guest, addresses));
		ASSERT_EQ(0, let_mov_dr_exit(&self->guest, true));
		ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_debug,
					    vtl_guest_debug_end));
		ASSERT_EQ(0, vtl_run(&self->guest));
		EXPECT_EQ(EXIT_MOV_DR, vtl_exit_reason(&self->guest));
		EXPECT_EQ(0xa0, get(&self->guest, MSHV_REGISTER_DR0));
		EXPECT_EQ(0xa3, get(&self->guest, MSHV_REGISTER_DR3));
		ASSERT_EQ(0, let_mov_dr_exit(&self->guest, false));
		ASSERT_EQ(0, run_to_halt(&self->guest));
		EXPECT_EQ(0xa0, run->tdx.l2_enter_guest_state.gpr[RAX]);
		EXPECT_EQ(0xa3, run->tdx.l2_enter_guest_state.gpr[RSI]);
		EXPECT_EQ(0x1110, get(&self->guest, MSHV_REGISTER_DR0));
		EXPECT_EQ(0x4440, get(&self->guest, MSHV_REGISTER_DR3));
	}
}

TEST_HARNESS_MAIN
