// SPDX-License-Identifier: GPL-2.0
/*
 * IA32_XFD disables components for XSAVE and XRSTOR: what either side has
 * disabled is unchanged afterwards, and nothing leaks from one side to the
 * other. AVX is used in place of AMX, on an emulator with emu.extra_msrs=1.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "patterns.h"
#include "vtl_harness.h"
#include "vtl_util.h"

#define MSR_XFD 0x1c4
#define XFD_AVX (1ULL << 2)
#define NUM_YMM 8

/* What vtl_guest_hidden works on. */
struct hidden {
	uint8_t found[NUM_YMM][32], own[NUM_YMM][32], seen[NUM_YMM][32];
};

_Static_assert(offsetof(struct hidden, own) == 0x100, "as in guests.S");

FIXTURE(xfd)
{
	struct vtl_guest guest;
	volatile struct hidden *data;
	int msrs;
};

FIXTURE_VARIANT(xfd)
{
	int vm;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(xfd, vm1)
{
	.vm = 1,
};

FIXTURE_VARIANT_ADD(xfd, vm2)
{
	.vm = 2,
};
/* clang-format on */

static int set_xfem(struct vtl_guest *guest, uint64_t value)
{
	struct mshv_register one = { .name = MSHV_REGISTER_XFEM,
				     .value = { value } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(guest->fd, MSHV_SET_VP_REGISTERS, &request);
}

/* The guest writes XFD without an exit, or not. */
static int let_through(struct vtl_guest *guest, bool is_free)
{
	return vtl_guest_write_field(
		guest, FIELD_MSR_BITMAP(MSR_BITMAP_WORD(MSR_XFD, 1)),
		is_free ? 0 : ~0ULL, 1ULL << MSR_XFD % 64);
}

static bool write_xfd(int fd, uint64_t value)
{
	return pwrite(fd, &value, sizeof(value), MSR_XFD) == sizeof(value);
}

static uint64_t read_xfd(int fd)
{
	uint64_t value;

	return pread(fd, &value, sizeof(value), MSR_XFD) == sizeof(value) ?
		       value :
		       ~0ULL;
}

/* With CR4.OSFXSR and OSXSAVE, and AVX; @xfd is what the guest sets. */
static int start(struct vtl_guest *guest, volatile struct hidden *data,
		 unsigned int seed, uint64_t xfd)
{
	volatile struct mshv_vtl_run *run = guest->run;
	struct hidden fresh;

	if (vtl_guest_load(guest, vtl_guest_hidden, vtl_guest_hidden_end) ||
	    vtl_guest_write_field(guest, VMCS64(0x6804), 0x40200, 0x40200) ||
	    let_through(guest, true) || set_xfem(guest, 7))
		return -1;
	memset(&fresh, 0, sizeof(fresh));
	pattern_fill(fresh.own, sizeof(fresh.own), seed);
	memcpy((void *)data, &fresh, sizeof(fresh));
	run->tdx.l2_enter_guest_state.gpr[RBX] =
		guest->base + (1 + guest->cpu) * VTL_PAGE_SIZE;
	run->tdx.l2_enter_guest_state.gpr[RSI] = xfd;
	return 0;
}

static bool runs_to_halt(struct vtl_guest *guest)
{
	return !vtl_run(guest) && vtl_exit_reason(guest) == EXIT_HLT;
}

/* Of the upper halves: the lower ones are SSE, and in the run page. */
static bool is_same(volatile uint8_t (*one)[32], volatile uint8_t (*other)[32])
{
	int number;

	for (number = 0; number < NUM_YMM; number++)
		if (memcmp((void *)&one[number][16], (void *)&other[number][16],
			   16))
			return false;
	return true;
}

/* VTL2 has AVX in use. */
static void fill_own(void)
{
	__asm__ volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0\n\t"
			 "vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n\t"
			 ".irp n, 1, 2, 3, 4, 5, 6, 7\n\t"
			 "vmovaps %%ymm0, %%ymm\\n\n\t"
			 ".endr" ::
				 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
				   "xmm5", "xmm6", "xmm7");
}

FIXTURE_SETUP(xfd)
{
	struct sched_param first = { .sched_priority = 1 };
	uint64_t base, size;

	if (!__builtin_cpu_supports("avx"))
		SKIP(return, "no AVX");
	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_pin(0));
	/* While VTL2 hides AVX no other task may come and use it. */
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &first));
	self->msrs = vtl_open_msrs(0);
	if (self->msrs < 0)
		SKIP(return, "no MSR driver");
	if (!write_xfd(self->msrs, XFD_AVX) ||
	    read_xfd(self->msrs) != XFD_AVX || !write_xfd(self->msrs, 0))
		SKIP(return, "XFD of this processor can't hide AVX");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	if (variant->vm != 1) {
		ASSERT_EQ(0, vtl_guest_use_vm(&self->guest, variant->vm));
		ASSERT_EQ(0, vtl_guest_give_apic_page(&self->guest));
	}
	self->data = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->data);
}

/* As before: VP and processor outlive the test. */
FIXTURE_TEARDOWN(xfd)
{
	struct hidden zero = { 0 };

	EXPECT_TRUE(write_xfd(self->msrs, 0));
	EXPECT_EQ(0, start(&self->guest, self->data, 0, 0));
	memcpy((void *)self->data, &zero, sizeof(zero));
	EXPECT_TRUE(runs_to_halt(&self->guest));
	EXPECT_EQ(0, let_through(&self->guest, false));
	EXPECT_EQ(0, set_xfem(&self->guest, 1));
	vtl_guest_close(&self->guest);
	close(self->msrs);
}

TEST_F(xfd, what_the_guest_hides_is_kept)
{
	volatile struct hidden *data = self->data;
	long result;

	ASSERT_EQ(0, start(&self->guest, data, 0x51, XFD_AVX));
	ASSERT_TRUE(pattern_is_kept(SYS_ioctl, self->guest.fd,
				    MSHV_RETURN_TO_LOWER_VTL, 0x91, &result));
	ASSERT_EQ(0, result);
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	EXPECT_EQ(0, read_xfd(self->msrs));
	vtl_step_over(&self->guest);
	ASSERT_TRUE(runs_to_halt(&self->guest));
	EXPECT_TRUE(is_same(data->own, data->seen));
	EXPECT_EQ(0, read_xfd(self->msrs));
}

/* It uses AVX, none of which reaches the guest, nor the other way. */
TEST_F(xfd, what_vtl2_hides_does_not_reach_the_guest)
{
	volatile struct hidden *data = self->data;
	struct hidden first;

	ASSERT_EQ(0, start(&self->guest, data, 0x61, 0));
	ASSERT_TRUE(runs_to_halt(&self->guest));
	memcpy(&first, (void *)data, sizeof(first));

	ASSERT_EQ(0, start(&self->guest, data, 0x71, 0));
	fill_own();
	ASSERT_TRUE(write_xfd(self->msrs, XFD_AVX));
	EXPECT_TRUE(runs_to_halt(&self->guest));
	EXPECT_EQ(XFD_AVX, read_xfd(self->msrs));
	ASSERT_TRUE(write_xfd(self->msrs, 0));
	EXPECT_TRUE(is_same(first.own, data->found));
}

/* And both at once. */
TEST_F(xfd, each_side_hides_its_own)
{
	volatile struct hidden *data = self->data;

	ASSERT_EQ(0, start(&self->guest, data, 0x81, XFD_AVX));
	ASSERT_TRUE(write_xfd(self->msrs, XFD_AVX));
	EXPECT_TRUE(runs_to_halt(&self->guest));
	/* What is hidden now is VTL2's. */
	ASSERT_TRUE(write_xfd(self->msrs, 0));
	fill_own();
	ASSERT_TRUE(write_xfd(self->msrs, XFD_AVX));
	vtl_step_over(&self->guest);
	EXPECT_TRUE(runs_to_halt(&self->guest));
	EXPECT_EQ(XFD_AVX, read_xfd(self->msrs));
	ASSERT_TRUE(write_xfd(self->msrs, 0));
	EXPECT_TRUE(is_same(data->own, data->seen));
}

TEST_HARNESS_MAIN
