// SPDX-License-Identifier: GPL-2.0
/* A guest at VTL0: each exit arrives, and each answer reaches the guest. */
#include <asm/prctl.h>
#include <sys/syscall.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(vp)
{
	struct vtl_guest guest;
};

FIXTURE_SETUP(vp)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
}

FIXTURE_TEARDOWN(vp)
{
	vtl_guest_close(&self->guest);
}

#define LOAD(name)                                                            \
	do {                                                                  \
		const char *_why = self->guest.why;                           \
		int _result = vtl_guest_load(&self->guest, name, name##_end); \
		ASSERT_EQ(0, _result)                                         \
		{                                                             \
			TH_LOG("%s", _why);                                   \
		}                                                             \
	} while (0)

#define GPR(n) self->guest.run->tdx.l2_enter_guest_state.gpr[n]
#define INFO self->guest.run->tdx.exit_info

#define ASSERT_EXIT(expected)                                           \
	do {                                                            \
		ASSERT_EQ(0, vtl_run(&self->guest));                    \
		ASSERT_EQ(expected, vtl_exit_reason(&self->guest))      \
		{                                                       \
			TH_LOG("qualification %llx, rip %llx",          \
			       (unsigned long long)INFO.rcx,            \
			       (unsigned long long)self->guest.run->tdx \
				       .l2_enter_guest_state.rip);      \
		}                                                       \
	} while (0)

static unsigned int instruction_length(const struct vtl_guest *guest)
{
	return guest->run->tdx.exit_info.r11 >> 32;
}

TEST_F(vp, exits_come_in_order_and_answers_arrive)
{
	LOAD(vtl_guest_exits);

	ASSERT_EXIT(EXIT_CPUID);
	EXPECT_EQ(0x40000000, GPR(RAX));
	EXPECT_EQ(5, GPR(RCX));
	EXPECT_EQ(2, instruction_length(&self->guest));
	GPR(RBX) = 0xfeedf00d;
	vtl_step_over(&self->guest);

	ASSERT_EXIT(EXIT_IO);
	/* 4 bytes, out, port 0xe9. */
	EXPECT_EQ(0xe9, INFO.rcx >> 16 & 0xffff);
	EXPECT_EQ(3, INFO.rcx & 0x3f);
	EXPECT_EQ(0xfeedf00d, GPR(RAX));
	vtl_step_over(&self->guest);

	ASSERT_EXIT(EXIT_IO);
	/* 1 byte, in, port 0x60. */
	EXPECT_EQ(0x60, INFO.rcx >> 16 & 0xffff);
	EXPECT_EQ(8, INFO.rcx & 0x3f);
	GPR(RAX) = 0x5a;
	vtl_step_over(&self->guest);

	ASSERT_EXIT(EXIT_RDMSR);
	EXPECT_EQ(0xc0000080, GPR(RCX));
	EXPECT_EQ(0x5a, GPR(RSI));
	GPR(RAX) = 0x87654321;
	GPR(RDX) = 0;
	vtl_step_over(&self->guest);

	ASSERT_EXIT(EXIT_WRMSR);
	EXPECT_EQ(0x174, GPR(RCX));
	EXPECT_EQ(0x11112222, GPR(RAX));
	EXPECT_EQ(0x33334444, GPR(RDX));
	EXPECT_EQ(0x87654321, GPR(RDI));
	vtl_step_over(&self->guest);

	ASSERT_EXIT(EXIT_VMCALL);
	EXPECT_EQ(0x77, GPR(RAX));
	EXPECT_EQ(3, instruction_length(&self->guest));
	vtl_step_over(&self->guest);

	ASSERT_EXIT(EXIT_HLT);
	EXPECT_EQ(1, instruction_length(&self->guest));
	EXPECT_EQ(0, INFO.r12 & 3);
}

TEST_F(vp, an_unanswered_exit_repeats)
{
	uint64_t rip;

	LOAD(vtl_guest_exits);
	ASSERT_EXIT(EXIT_CPUID);
	rip = self->guest.run->tdx.l2_enter_guest_state.rip;
	ASSERT_EXIT(EXIT_CPUID);
	EXPECT_EQ(rip, self->guest.run->tdx.l2_enter_guest_state.rip);
}

TEST_F(vp, registers_of_the_guest_are_seen)
{
	LOAD(vtl_guest_registers);
	ASSERT_EXIT(EXIT_HLT);
	EXPECT_EQ(0x10, GPR(RAX));
	EXPECT_EQ(0x11, GPR(RCX));
	EXPECT_EQ(0x12, GPR(RDX));
	EXPECT_EQ(0x13, GPR(RBX));
	EXPECT_EQ(0x14, GPR(RSP));
	EXPECT_EQ(0x15, GPR(RBP));
	EXPECT_EQ(0x16, GPR(RSI));
	EXPECT_EQ(0x17, GPR(RDI));
	/* CF and the bit that is always one. */
	EXPECT_EQ(3, self->guest.run->tdx.l2_enter_guest_state.rflags & 3);
}

TEST_F(vp, sse_state_travels_both_ways)
{
	volatile uint32_t *xmm0 =
		(volatile uint32_t *)&self->guest.run->tdx.fx_state[160];
	volatile uint32_t *xmm1 = xmm0 + 4;

	LOAD(vtl_guest_fpu);
	xmm0[0] = 0xc0ffee;
	ASSERT_EXIT(EXIT_HLT);
	EXPECT_EQ(0xc0ffee, GPR(RAX));
	EXPECT_EQ(0xffffffff, xmm1[0]);
	EXPECT_EQ(0xffffffff, xmm1[3]);
	EXPECT_EQ(0xc0ffee, xmm0[0]);
}

/* A pattern in every SSE register of this thread; the reverse reads it back. */
static void run_with_pattern(struct vtl_guest *guest, uint64_t pattern,
			     uint64_t after[2])
{
	register uint64_t number asm("rax") = SYS_ioctl;
	register uint64_t fd asm("rdi") = guest->fd;
	register uint64_t command asm("rsi") = MSHV_RETURN_TO_LOWER_VTL;
	register uint64_t argument asm("rdx") = 0;

	asm volatile("movq %[pattern], %%xmm0\n\t"
		     "movq %[pattern], %%xmm1\n\t"
		     "movq %[pattern], %%xmm15\n\t"
		     "syscall\n\t"
		     "movq %%xmm1, (%[after])\n\t"
		     "movq %%xmm15, 8(%[after])"
		     : "+r"(number)
		     : [pattern] "r"(pattern), [after] "r"(after), "r"(fd),
		       "r"(command), "r"(argument)
		     : "rcx", "r11", "xmm0", "xmm1", "xmm15", "memory");
}

TEST_F(vp, sse_state_of_this_level_stays_here)
{
	const uint64_t pattern = 0x5ec2e75ec2e7ULL;
	volatile uint64_t *image =
		(volatile uint64_t *)self->guest.run->tdx.fx_state;
	uint64_t after[2] = { 0, 0 };
	size_t i;

	LOAD(vtl_guest_fpu);
	do {
		run_with_pattern(&self->guest, pattern, after);
		EXPECT_EQ(pattern, after[0]);
		EXPECT_EQ(pattern, after[1]);
	} while (INFO.rax >> 32);
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	/* The guest found zeros, and left nothing but what it made. */
	EXPECT_EQ(0, GPR(RAX));
	for (i = 0; i < 512 / sizeof(*image); i++)
		EXPECT_NE(pattern, image[i]);
}

TEST_F(vp, gs_bases_of_both_levels_are_kept_apart)
{
	const unsigned long own = 0x7f0012345000UL, guests = 0x123450000UL;
	unsigned long found = 0;

	LOAD(vtl_guest_registers);
	self->guest.run->tdx.vp_state.msr_kernel_gs_base = guests;
	ASSERT_EQ(0, syscall(SYS_arch_prctl, ARCH_SET_GS, own));
	ASSERT_EXIT(EXIT_HLT);
	ASSERT_EQ(0, syscall(SYS_arch_prctl, ARCH_GET_GS, &found));
	EXPECT_EQ(own, found);
	EXPECT_EQ(guests, self->guest.run->tdx.vp_state.msr_kernel_gs_base);
}

TEST_F(vp, a_triple_fault_is_reported)
{
	LOAD(vtl_guest_undefined);
	ASSERT_EXIT(EXIT_TRIPLE_FAULT);
}

TEST_F(vp, a_store_without_the_right_is_reported)
{
	uint64_t gpa = self->guest.base + VTL_LARGE_SIZE;

	ASSERT_EQ(0, vtl_accept(self->guest.fd, gpa, VTL_LARGE_SIZE));
	ASSERT_EQ(0, vtl_set_rights(self->guest.fd, gpa, VTL_LARGE_SIZE,
				    RIGHT_READ));
	LOAD(vtl_guest_store);
	GPR(RBX) = gpa + 0x123;
	ASSERT_EXIT(EXIT_EPT_VIOLATION);
	EXPECT_EQ(gpa + 0x123, INFO.r8);
	/* A write; readable, not writable. */
	EXPECT_EQ(2, INFO.rcx & 7);
	EXPECT_EQ(1, INFO.rcx >> 3 & 3);

	/* With the right, the same instruction succeeds. */
	ASSERT_EQ(0, vtl_set_rights(self->guest.fd, gpa, VTL_LARGE_SIZE,
				    RIGHTS_ALL));
	self->guest.run->tdx.entry_rcx |= 1;
	ASSERT_EXIT(EXIT_HLT);
}

TEST_F(vp, the_flush_request_is_used_up_by_one_entry)
{
	LOAD(vtl_guest_registers);
	EXPECT_EQ(1, self->guest.run->tdx.entry_rcx & MSHV_TDX_ENTRY_INVD_MASK);
	ASSERT_EXIT(EXIT_HLT);
	EXPECT_EQ(0, self->guest.run->tdx.entry_rcx & MSHV_TDX_ENTRY_INVD_MASK);
	EXPECT_EQ(1, self->guest.run->tdx.entry_rcx >> MSHV_TDX_ENTRY_VM_SHIFT);
}

#define EXPECT_NOT_ENTERED(error)                                              \
	do {                                                                   \
		uint64_t _rip = self->guest.run->tdx.l2_enter_guest_state.rip; \
		EXPECT_EQ(-(error), vtl_enter(&self->guest));                  \
		EXPECT_EQ(_rip,                                                \
			  self->guest.run->tdx.l2_enter_guest_state.rip);      \
	} while (0)

TEST_F(vp, reserved_bits_of_entry_rcx_are_refused)
{
	static const unsigned int bits[] = { 2, 11, 31, 32, 51, 54, 62, 63 };
	uint64_t good;
	size_t i;

	LOAD(vtl_guest_registers);
	good = self->guest.run->tdx.entry_rcx;
	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		self->guest.run->tdx.entry_rcx = good | 1ULL << bits[i];
		EXPECT_NOT_ENTERED(EINVAL);
	}
	self->guest.run->tdx.entry_rcx = good;
	ASSERT_EXIT(EXIT_HLT);
}

TEST_F(vp, vms_that_do_not_exist_are_refused)
{
	uint64_t vm, count = 0;

	LOAD(vtl_guest_registers);
	ASSERT_EQ(0, vtl_read_field(self->guest.fd, TDG_VM_RD, FIELD_NUM_L2_VMS,
				    &count));
	self->guest.run->tdx.entry_rcx = 0;
	EXPECT_NOT_ENTERED(EINVAL);
	for (vm = count + 1; vm <= 3; vm++) {
		self->guest.run->tdx.entry_rcx = vm << MSHV_TDX_ENTRY_VM_SHIFT;
		EXPECT_NOT_ENTERED(EINVAL);
	}
}

TEST_F(vp, reserved_bits_of_mxcsr_are_refused)
{
	volatile uint32_t *mxcsr =
		(volatile uint32_t *)&self->guest.run->tdx.fx_state[24];

	LOAD(vtl_guest_registers);
	*mxcsr = 0x1f80 | 1U << 16;
	EXPECT_NOT_ENTERED(EINVAL);
	*mxcsr = 0xffffffff;
	EXPECT_NOT_ENTERED(EINVAL);
	*mxcsr = 0x1f80;
	ASSERT_EXIT(EXIT_HLT);
}

TEST_F(vp, msr_values_that_would_fault_are_refused)
{
	const uint64_t not_canonical = 1ULL << 63;

	LOAD(vtl_guest_registers);
	self->guest.run->tdx.vp_state.msr_lstar = not_canonical;
	EXPECT_NOT_ENTERED(EINVAL);
	self->guest.run->tdx.vp_state.msr_lstar = 0;
	self->guest.run->tdx.vp_state.msr_kernel_gs_base = not_canonical;
	EXPECT_NOT_ENTERED(EINVAL);
	self->guest.run->tdx.vp_state.msr_kernel_gs_base = 0;
	self->guest.run->tdx.vp_state.msr_sfmask = 1ULL << 32;
	EXPECT_NOT_ENTERED(EINVAL);
	self->guest.run->tdx.vp_state.msr_sfmask = 0;
	self->guest.run->tdx.vp_state.msr_tsc_aux = 1ULL << 32;
	EXPECT_NOT_ENTERED(EINVAL);
	self->guest.run->tdx.vp_state.msr_tsc_aux = 0;
	self->guest.run->tdx.vp_state.msr_xss = 1ULL << 62;
	EXPECT_NOT_ENTERED(EINVAL);
	self->guest.run->tdx.vp_state.msr_xss = 0;
	ASSERT_EXIT(EXIT_HLT);
}

TEST_HARNESS_MAIN
