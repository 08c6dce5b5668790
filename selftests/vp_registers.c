// SPDX-License-Identifier: GPL-2.0
/*
 * Registers of the lower VTL outside the run page: they can be read and
 * written, the guest sees them, and VTL2 keeps its own.
 */
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vtl_harness.h"
#include "vtl_util.h"

FIXTURE(registers)
{
	struct vtl_guest guest;
};

/* What the kernel reported about the entry that it refused. */
static uint32_t failed;

static int command(int fd, unsigned long number, struct mshv_register *entries,
		   uint32_t count)
{
	struct mshv_vp_registers request = { .count = count,
					     .registers = (uintptr_t)entries };
	int result = ioctl(fd, number, &request) ? -errno : 0;

	failed = request.failed;
	return result;
}

static int set(struct vtl_guest *guest, uint32_t name, uint64_t value)
{
	struct mshv_register entry = { .name = name, .value = { value } };

	return command(guest->fd, MSHV_SET_VP_REGISTERS, &entry, 1);
}

static uint64_t get(struct vtl_guest *guest, uint32_t name)
{
	struct mshv_register entry = { .name = name, .value = { 7, 7 } };
	int result = command(guest->fd, MSHV_GET_VP_REGISTERS, &entry, 1);

	return result ? (uint64_t)result : entry.value[0] | entry.value[1];
}

/* The VP keeps its registers: each test begins with those of a reset. */
static int reset(struct vtl_guest *guest)
{
	int number, result = set(guest, MSHV_REGISTER_XFEM, 1);

	for (number = 0; number < 4; number++)
		result |= set(guest, MSHV_REGISTER_DR0 + number, 0);
	return result | set(guest, MSHV_REGISTER_DR6, 0xffff0ff0);
}

FIXTURE_SETUP(registers)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	ASSERT_EQ(0, reset(&self->guest));
}

FIXTURE_TEARDOWN(registers)
{
	reset(&self->guest);
	vtl_guest_close(&self->guest);
}

TEST_F(registers, what_is_set_can_be_read)
{
	int number;

	for (number = 0; number < 4; number++)
		EXPECT_EQ(0, set(&self->guest, MSHV_REGISTER_DR0 + number,
				 0x1234567800000000ULL + number));
	EXPECT_EQ(0, set(&self->guest, MSHV_REGISTER_DR6, 0xffff0ff1));
	EXPECT_EQ(0, set(&self->guest, MSHV_REGISTER_XFEM, 3));
	for (number = 0; number < 4; number++)
		EXPECT_EQ(0x1234567800000000ULL + number,
			  get(&self->guest, MSHV_REGISTER_DR0 + number));
	EXPECT_EQ(0xffff0ff1, get(&self->guest, MSHV_REGISTER_DR6));
	EXPECT_EQ(3, get(&self->guest, MSHV_REGISTER_XFEM));
}

TEST_F(registers, wrong_values_change_nothing)
{
	struct mshv_register two[2] = {
		{ .name = MSHV_REGISTER_DR0, .value = { 5 } },
		{ .name = MSHV_REGISTER_XFEM, .value = { 2 } },
	};

	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_XFEM, 0));
	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_XFEM, 5));
	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_XFEM, 1ULL << 63));
	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_DR6, 1ULL << 32));
	EXPECT_EQ(-EINVAL,
		  command(self->guest.fd, MSHV_SET_VP_REGISTERS, two, 2));
	EXPECT_EQ(0, get(&self->guest, MSHV_REGISTER_DR0));
	EXPECT_EQ(1, get(&self->guest, MSHV_REGISTER_XFEM));
}

TEST_F(registers, wrong_operands_are_refused)
{
	uint32_t others[] = { 0, 0x40004, 0x40006, 0x4ffff, 0x50005, ~0U };
	struct mshv_register many[MSHV_VP_MAX_REGISTERS + 1] = {
		{ .name = MSHV_REGISTER_DR0 }
	};
	struct mshv_vp_registers request = { .count = 1, .registers = 8 };
	int fd = self->guest.fd;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		EXPECT_EQ(-EINVAL, set(&self->guest, others[i], 1));
		EXPECT_EQ((uint64_t)-EINVAL, get(&self->guest, others[i]));
	}
	EXPECT_EQ(-EINVAL, command(fd, MSHV_GET_VP_REGISTERS, many, 0));
	EXPECT_EQ(-EINVAL, command(fd, MSHV_GET_VP_REGISTERS, many,
				   MSHV_VP_MAX_REGISTERS + 1));
	EXPECT_EQ(-EINVAL, command(fd, MSHV_SET_VP_REGISTERS, many, ~0U));
	EXPECT_EQ(-EFAULT, command(fd, MSHV_GET_VP_REGISTERS, NULL, 1));
	EXPECT_EQ(-EFAULT, command(fd, MSHV_SET_VP_REGISTERS, NULL, 1));
	EXPECT_EQ(-1, ioctl(fd, MSHV_GET_VP_REGISTERS, &request));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(registers, the_refused_one_of_several_is_named)
{
	struct mshv_register three[3] = {
		{ .name = MSHV_REGISTER_DR0, .value = { 5 } },
		{ .name = MSHV_REGISTER_DR1, .value = { 6 } },
		{ .name = 0x50005 },
	};
	int fd = self->guest.fd;

	EXPECT_EQ(-EINVAL, command(fd, MSHV_SET_VP_REGISTERS, three, 3));
	EXPECT_EQ(2, failed);
	EXPECT_EQ(-EINVAL, command(fd, MSHV_GET_VP_REGISTERS, three, 3));
	EXPECT_EQ(2, failed);
	three[1].name = 0x50006;
	EXPECT_EQ(-EINVAL, command(fd, MSHV_SET_VP_REGISTERS, three, 2));
	EXPECT_EQ(1, failed);
	/*
	 * Nothing was written, and a caller with one register knows which it
	 * is.
	 */
	EXPECT_EQ(0, get(&self->guest, MSHV_REGISTER_DR0));
	EXPECT_EQ(-EINVAL, command(fd, MSHV_SET_VP_REGISTERS, three + 2, 1));
	EXPECT_EQ(0, failed);
}

TEST_F(registers, many_go_in_one_call)
{
	struct mshv_register many[MSHV_VP_MAX_REGISTERS];
	int fd = self->guest.fd;
	uint32_t i;

	memset(many, 0, sizeof(many));
	for (i = 0; i < ARRAY_SIZE(many); i++) {
		many[i].name = MSHV_REGISTER_DR0 + i % 4;
		many[i].value[0] = 0x1000 + i;
	}
	ASSERT_EQ(0, command(fd, MSHV_SET_VP_REGISTERS, many, ARRAY_SIZE(many)))
	{
		TH_LOG("entry %u", failed);
	}
	memset(many, 0, sizeof(many));
	for (i = 0; i < ARRAY_SIZE(many); i++)
		many[i].name = MSHV_REGISTER_DR0 + i % 4;
	ASSERT_EQ(0,
		  command(fd, MSHV_GET_VP_REGISTERS, many, ARRAY_SIZE(many)));
	/* Later ones win. */
	for (i = 0; i < ARRAY_SIZE(many); i++)
		EXPECT_EQ(0x1000 + ARRAY_SIZE(many) - 4 + i % 4,
			  many[i].value[0]);
}

#define MTRR_BASE(n) (MSHV_REGISTER_MTRR_PHYS_BASE0 + (n))
#define MTRR_MASK(n) (MSHV_REGISTER_MTRR_PHYS_MASK0 + (n))

TEST_F(registers, mtrrs_take_what_a_processor_takes)
{
	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_MTRR_CAP, 0x508));
	EXPECT_EQ(-EINVAL,
		  set(&self->guest, MSHV_REGISTER_MTRR_DEF_TYPE, 0xc02));
	EXPECT_EQ(-EINVAL,
		  set(&self->guest, MSHV_REGISTER_MTRR_DEF_TYPE, 1 << 12));
	EXPECT_EQ(-EINVAL, set(&self->guest, MTRR_BASE(15), 0x100));
	EXPECT_EQ(-EINVAL, set(&self->guest, MTRR_MASK(15), 1ULL << 52));
	EXPECT_EQ(-EINVAL, set(&self->guest, MTRR_BASE(16), 6));
	EXPECT_EQ(-EINVAL, set(&self->guest, MTRR_MASK(16), 0x800));
	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_MTRR_FIX4K_C0000,
			       7ULL << 56));
	EXPECT_EQ(-EINVAL,
		  set(&self->guest, MSHV_REGISTER_MTRR_FIX4K_C0000 + 8, 6));
}

TEST_F(registers, mtrrs_are_kept)
{
	uint32_t first[] = { MTRR_BASE(0), MTRR_MASK(0),
			     MSHV_REGISTER_MTRR_FIX64K_00000 };
	uint32_t count[] = { 16, 16, 11 };
	uint64_t value[] = { 0x80000006, 0xf80000800, 0x0606060606060606 };
	uint32_t i, n;

	EXPECT_EQ(0x510, get(&self->guest, MSHV_REGISTER_MTRR_CAP));
	EXPECT_EQ(0, set(&self->guest, MSHV_REGISTER_MTRR_CAP, 0x510));
	EXPECT_EQ(0, set(&self->guest, MSHV_REGISTER_MTRR_DEF_TYPE, 0xc06));
	EXPECT_EQ(0xc06, get(&self->guest, MSHV_REGISTER_MTRR_DEF_TYPE));
	EXPECT_EQ(0, set(&self->guest, MSHV_REGISTER_MTRR_DEF_TYPE, 0));
	for (i = 0; i < ARRAY_SIZE(first); i++) {
		for (n = 0; n < count[i]; n++) {
			EXPECT_EQ(0, get(&self->guest, first[i] + n));
			EXPECT_EQ(0, set(&self->guest, first[i] + n, value[i]));
		}
		for (n = 0; n < count[i]; n++) {
			EXPECT_EQ(value[i], get(&self->guest, first[i] + n));
			EXPECT_EQ(0, set(&self->guest, first[i] + n, 0));
		}
	}
}

TEST_F(registers, the_guest_has_its_debug_registers)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	int number;

	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_debug,
				    vtl_guest_debug_end));
	for (number = 0; number < 4; number++)
		ASSERT_EQ(0, set(&self->guest, MSHV_REGISTER_DR0 + number,
				 0xa0 + number));
	ASSERT_EQ(0, set(&self->guest, MSHV_REGISTER_DR6, 0xffff0ff8));
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	EXPECT_EQ(0xa0, run->tdx.l2_enter_guest_state.gpr[RAX]);
	EXPECT_EQ(0xa1, run->tdx.l2_enter_guest_state.gpr[RCX]);
	EXPECT_EQ(0xa2, run->tdx.l2_enter_guest_state.gpr[RDX]);
	EXPECT_EQ(0xa3, run->tdx.l2_enter_guest_state.gpr[RSI]);
	EXPECT_EQ(0xffff0ff8, run->tdx.l2_enter_guest_state.gpr[RDI]);
	EXPECT_EQ(0x1110, get(&self->guest, MSHV_REGISTER_DR0));
	EXPECT_EQ(0x2220, get(&self->guest, MSHV_REGISTER_DR1));
	EXPECT_EQ(0x3330, get(&self->guest, MSHV_REGISTER_DR2));
	EXPECT_EQ(0x4440, get(&self->guest, MSHV_REGISTER_DR3));
	EXPECT_EQ(0xffff0ff3, get(&self->guest, MSHV_REGISTER_DR6));
}

static volatile uint64_t watched;

/*
 * VTL2's own breakpoint: the guest can neither see its address nor disable it.
 */
TEST_F(registers, a_breakpoint_of_vtl2_survives_and_stays_hidden)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attributes),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = (uintptr_t)&watched,
		.bp_len = HW_BREAKPOINT_LEN_8,
		.exclude_kernel = 1,
	};
	volatile struct mshv_vtl_run *run = self->guest.run;
	uint64_t count = 0;
	int event, round;

	event = syscall(__NR_perf_event_open, &attributes, 0, -1, -1, 0);
	if (event < 0)
		SKIP(return, "no breakpoints here: %s", strerror(errno));
	watched = 1;
	ASSERT_EQ(sizeof(count), read(event, &count, sizeof(count)));
	ASSERT_EQ(1, count);
	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, reset(&self->guest));
		ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_debug,
					    vtl_guest_debug_end));
		ASSERT_EQ(0, vtl_run(&self->guest));
		ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
		EXPECT_EQ(0, run->tdx.l2_enter_guest_state.gpr[RAX]);
		EXPECT_EQ(0, run->tdx.l2_enter_guest_state.gpr[RCX]);
		EXPECT_EQ(0xffff0ff0, run->tdx.l2_enter_guest_state.gpr[RDI]);
		watched = 2;
		ASSERT_EQ(sizeof(count), read(event, &count, sizeof(count)));
		EXPECT_EQ(round + 2, count);
	}
	close(event);
}

static uint64_t own_xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (uint64_t)high << 32;
}

/* CR4.OSFXSR and OSXSAVE of the guest. */
static int turn_xsave_on(struct vtl_guest *guest)
{
	struct mshv_tdcall call = { .rax = TDG_VP_WR,
				    .rdx = VMCS64(0x6804),
				    .r8 = 0x40200,
				    .r9 = 0x40200 };

	return vtl_tdcall(guest->fd, &call) || vtl_status(&call) != TDX_SUCCESS;
}

TEST_F(registers, the_guest_has_its_xcr0)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	uint64_t own = own_xcr0(), values[] = { 1, 3, own };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_xcr0,
					    vtl_guest_xcr0_end));
		ASSERT_EQ(0, turn_xsave_on(&self->guest));
		ASSERT_EQ(0, set(&self->guest, MSHV_REGISTER_XFEM, values[i]));
		ASSERT_EQ(0, vtl_run(&self->guest));
		ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest))
		{
			TH_LOG("exit %u", vtl_exit_reason(&self->guest));
		}
		EXPECT_EQ((uint32_t)values[i],
			  run->tdx.l2_enter_guest_state.gpr[RBX]);
		EXPECT_EQ(own, own_xcr0());
	}
	EXPECT_EQ(-EINVAL, set(&self->guest, MSHV_REGISTER_XFEM, ~own | 1));
}

TEST_HARNESS_MAIN
