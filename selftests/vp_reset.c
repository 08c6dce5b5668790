// SPDX-License-Identifier: GPL-2.0
/*
 * MSHV_VTL_RESET: the next guest sees nothing of what an earlier one left with
 * the module; and a refused call changes nothing.
 */
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define MSR_SPEC_CTRL 0x48

/* What the guest works on: see vtl_guest_msrs. */
struct msr_row {
	uint32_t index, reserved;
	uint64_t found, own;
};

/* A register, a value that is not its first, and that. */
static const struct {
	uint32_t name;
	uint64_t value, first;
} registers[] = {
	{ MSHV_REGISTER_XFEM, 3, 1 },
	{ MSHV_REGISTER_DR0, 0x1111, 0 },
	{ MSHV_REGISTER_DR3, 0x4444, 0 },
	{ MSHV_REGISTER_DR6, 0xffff0ff1, 0xffff0ff0 },
	{ MSHV_REGISTER_MTRR_DEF_TYPE, 0xc06, 0 },
	{ MSHV_REGISTER_MTRR_PHYS_BASE0, 0x1000006, 0 },
	{ MSHV_REGISTER_MTRR_FIX64K_00000, 0x0606060606060606, 0 },
};

FIXTURE(reset)
{
	struct vtl_guest guest;
	volatile struct msr_row *row;
};

static int reset(int fd)
{
	struct mshv_vtl_head head = { .size = sizeof(head) };

	return ioctl(fd, MSHV_VTL_RESET, &head) ? -errno : 0;
}

static uint64_t get_register(int fd, uint32_t name)
{
	struct mshv_register one = { .name = name };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(fd, MSHV_GET_VP_REGISTERS, &request) ? ~0ULL :
							    one.value[0];
}

static int set_register(int fd, uint32_t name, uint64_t value)
{
	struct mshv_register one = { .name = name, .value = { value } };
	struct mshv_vp_registers request = { .count = 1,
					     .registers = (uintptr_t)&one };

	return ioctl(fd, MSHV_SET_VP_REGISTERS, &request);
}

static int let_through(struct vtl_guest *guest, bool is_free)
{
	int i;

	for (i = 0; i < 2; i++)
		if (vtl_guest_write_field(
			    guest,
			    FIELD_MSR_BITMAP(MSR_BITMAP_WORD(MSR_SPEC_CTRL, i)),
			    is_free ? 0 : ~0ULL, 1ULL << MSR_SPEC_CTRL % 64))
			return -1;
	return 0;
}

/* What the guest finds in IA32_SPEC_CTRL, before it writes @own. */
static uint64_t exchange_spec_ctrl(struct vtl_guest *guest,
				   volatile struct msr_row *row, uint64_t own)
{
	uint64_t gpa = guest->base + (1 + guest->cpu) * VTL_PAGE_SIZE;
	volatile struct mshv_vtl_run *run = guest->run;

	if (vtl_guest_load(guest, vtl_guest_msrs, vtl_guest_msrs_end))
		return ~0ULL;
	row->index = MSR_SPEC_CTRL;
	row->own = own;
	run->tdx.l2_enter_guest_state.gpr[RBX] = gpa;
	run->tdx.l2_enter_guest_state.gpr[RBP] = gpa + sizeof(*row);
	run->tdx.l2_enter_guest_state.gpr[RSI] = 1;
	if (vtl_run(guest) || vtl_exit_reason(guest) != EXIT_HLT)
		return ~0ULL;
	return row->found;
}

FIXTURE_SETUP(reset)
{
	uint64_t base, size;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->row = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->row);
	ASSERT_EQ(0, let_through(&self->guest, true));
}

FIXTURE_TEARDOWN(reset)
{
	EXPECT_EQ(0, reset(self->guest.fd));
	EXPECT_EQ(0, let_through(&self->guest, false));
	vtl_guest_close(&self->guest);
}

TEST_F(reset, registers_have_their_first_values)
{
	int fd = self->guest.fd;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(registers); i++) {
		ASSERT_EQ(0, set_register(fd, registers[i].name,
					  registers[i].value));
		ASSERT_EQ(registers[i].value,
			  get_register(fd, registers[i].name));
	}
	ASSERT_EQ(0, reset(fd));
	for (i = 0; i < ARRAY_SIZE(registers); i++)
		EXPECT_EQ(registers[i].first,
			  get_register(fd, registers[i].name));
}

TEST_F(reset, each_vm_has_its_first_msrs)
{
	struct vtl_guest other = self->guest;

	ASSERT_EQ(0, vtl_guest_use_vm(&other, 2));
	ASSERT_EQ(0, vtl_guest_give_apic_page(&other));
	ASSERT_EQ(0, let_through(&other, true));
	ASSERT_NE(~0ULL, exchange_spec_ctrl(&self->guest, self->row, 1));
	ASSERT_NE(~0ULL, exchange_spec_ctrl(&other, self->row, 4));
	ASSERT_EQ(1, exchange_spec_ctrl(&self->guest, self->row, 1));
	ASSERT_EQ(4, exchange_spec_ctrl(&other, self->row, 4));
	ASSERT_EQ(0, reset(self->guest.fd));
	EXPECT_EQ(0, exchange_spec_ctrl(&self->guest, self->row, 0));
	EXPECT_EQ(0, exchange_spec_ctrl(&other, self->row, 0));
	EXPECT_EQ(0, let_through(&other, false));
}

TEST_F(reset, extended_state_is_initial)
{
	struct mshv_vtl_xsave call = { 0 };
	uint64_t *image;

	ASSERT_EQ(0, ioctl(self->guest.fd, MSHV_VTL_XSAVE_GET, &call));
	image = aligned_alloc(64, (call.size + 63) / 64 * 64);
	ASSERT_NE(NULL, image);
	memset(image, 0, call.size);
	/* x87, SSE, AVX and PKRU, as far as the processor has them. */
	memset(image + 20, 0x5a, 256);
	memset(image + 72, 0x5a, call.size - 576);
	image[3] = 0x1f80;
	image[64] = call.xfeatures;
	call.image = (uintptr_t)image;
	ASSERT_EQ(0, ioctl(self->guest.fd, MSHV_VTL_XSAVE_SET, &call));
	ASSERT_EQ(0, reset(self->guest.fd));
	call.xfeatures = 0;
	memset(image, 0x77, call.size);
	ASSERT_EQ(0, ioctl(self->guest.fd, MSHV_VTL_XSAVE_GET, &call));
	EXPECT_EQ(3, image[64]);
	image[64] = 0;
	for (call.size /= 8; call.size--;)
		EXPECT_EQ(0, image[call.size]);
	free(image);
}

TEST_F(reset, the_run_page_is_as_at_first)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	volatile uint8_t *vapic =
		vtl_map_page(self->guest.fd, MSHV_VTL_MMAP_VAPIC_PAGE, 0);
	size_t i, blocked = offsetof(struct mshv_vtl_run, proxy_irr_blocked);

	ASSERT_NE(MAP_FAILED, (void *)vapic);
	memset((void *)run, 0xa5, VTL_PAGE_SIZE);
	run->cancel = 1;
	memset((void *)vapic, 0xa5, VTL_PAGE_SIZE);
	ASSERT_EQ(0, reset(self->guest.fd));
	/* A thread that has cancelled the run does not do so again. */
	EXPECT_EQ(1, run->cancel);
	run->cancel = 0;
	/* Nor does one that has asked for translations to be invalidated. */
	EXPECT_EQ(1, run->tdx.entry_rcx);
	run->tdx.entry_rcx = 0;
	for (i = 0; i < VTL_PAGE_SIZE; i++) {
		bool is_blocked = i >= blocked && i < blocked + 32;

		EXPECT_EQ(is_blocked ? 0xff : 0, ((volatile uint8_t *)run)[i]);
		EXPECT_EQ(0, vapic[i]);
	}
	munmap((void *)vapic, VTL_PAGE_SIZE);
}

TEST_F(reset, the_switch_page_keeps_what_was_requested_and_taken)
{
	const size_t first = offsetof(struct mshv_vtl_switch_page, flush);
	const size_t end = offsetof(struct mshv_vtl_switch_page, reserved2);
	volatile uint8_t *page =
		vtl_map_page(self->guest.fd, MSHV_VTL_MMAP_SWITCH_PAGE, 0);
	size_t i;

	ASSERT_NE(MAP_FAILED, (void *)page);
	memset((void *)page, 0xa5, VTL_PAGE_SIZE);
	ASSERT_EQ(0, reset(self->guest.fd));
	/* A thread that has requested an invalidation does not do so again. */
	for (i = 0; i < VTL_PAGE_SIZE; i++)
		EXPECT_EQ(i >= first && i < end ? 0xa5 : 0, page[i]);
	memset((void *)page, 0, VTL_PAGE_SIZE);
	munmap((void *)page, VTL_PAGE_SIZE);
}

TEST_F(reset, deadlines_never_come)
{
	uint64_t value = 0;
	int vm;

	for (vm = 1; vm <= 2; vm++)
		ASSERT_EQ(0, vtl_guest_write_field(&self->guest,
						   FIELD_TSC_DEADLINE(vm), 5,
						   ~0ULL));
	ASSERT_EQ(0, reset(self->guest.fd));
	for (vm = 1; vm <= 2; vm++) {
		EXPECT_EQ(0, vtl_read_field(self->guest.fd, TDG_VP_RD,
					    FIELD_TSC_DEADLINE(vm), &value));
		EXPECT_EQ(~0ULL, value);
	}
}

TEST_F(reset, a_guest_runs_afterwards)
{
	ASSERT_EQ(0, reset(self->guest.fd));
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_fpu,
				    vtl_guest_fpu_end));
	ASSERT_EQ(0, vtl_run(&self->guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
}

TEST_F(reset, what_is_refused_changes_nothing)
{
	struct {
		struct mshv_vtl_head head;
		uint64_t tail[2];
	} longer = { .head.size = sizeof(longer) };
	struct mshv_vtl_head head = { .size = sizeof(head) - 1 };
	int fd = self->guest.fd;

	ASSERT_EQ(0, set_register(fd, MSHV_REGISTER_DR0, 0x5a5a));
	self->guest.run->tdx.vp_state.cr2 = 0x5a5a;
#define EXPECT_REFUSED(error, operand)                             \
	do {                                                       \
		EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_RESET, operand)); \
		EXPECT_EQ(error, errno);                           \
	} while (0)
	EXPECT_REFUSED(EINVAL, &head);
	head.size = 0;
	EXPECT_REFUSED(EINVAL, &head);
	head.size = sizeof(head);
	head.selector = 1;
	EXPECT_REFUSED(EINVAL, &head);
	head.selector = 0;
	head.size = ~0U;
	EXPECT_REFUSED(E2BIG, &head);
	EXPECT_REFUSED(EFAULT, NULL);
	longer.tail[1] = 1ULL << 63;
	EXPECT_REFUSED(E2BIG, &longer);
	EXPECT_EQ(0x5a5a, get_register(fd, MSHV_REGISTER_DR0));
	EXPECT_EQ(0x5a5a, self->guest.run->tdx.vp_state.cr2);
	/* From a caller with a newer structure that uses nothing new. */
	longer.tail[1] = 0;
	EXPECT_EQ(0, ioctl(fd, MSHV_VTL_RESET, &longer));
	EXPECT_EQ(0, get_register(fd, MSHV_REGISTER_DR0));
}

static volatile int has_begun;

static void *spin(void *argument)
{
	/* The creator's affinity is inherited: the same CPU. */
	has_begun = 1;
	return (void *)(long)vtl_enter(argument);
}

TEST_F(reset, a_vp_that_runs_is_not_touched)
{
	pthread_t thread;
	void *result;
	int tries;

	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_spin,
				    vtl_guest_spin_end));
	ASSERT_EQ(0, pthread_create(&thread, NULL, spin, &self->guest));
	/* It is inside as soon as an ioctl for registers reports that. */
	for (tries = 0; tries < 10000; tries++) {
		if (get_register(self->guest.fd, MSHV_REGISTER_DR0) == ~0ULL)
			break;
		usleep(1000);
	}
	EXPECT_EQ(1, has_begun);
	EXPECT_EQ(-EBUSY, reset(self->guest.fd));
	self->guest.run->cancel = 1;
	pthread_join(thread, &result);
	EXPECT_EQ(-EINTR, (long)result);
}

TEST_HARNESS_MAIN
