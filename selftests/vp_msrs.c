// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs that have no field in the run page: each side always has its own value,
 * whether the TDX module switches them (S_CET, INT_SSP_TABLE) or lets both
 * sides share them. QEMU's processor has none of them, so this needs an
 * emulator with emu.extra_msrs=1, which has the MSRs of CET without CET.
 *
 * vp_msrs leave: writes values that no kernel would, for a module to find;
 * vp_msrs clear: zeros in their place.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define ROUNDS_SHORT 3
#define ROUNDS_LONG 8000

/* What the guest works on: see vtl_guest_msrs. */
struct msr_row {
	uint32_t index, reserved;
	uint64_t found, own;
};

/*
 * Instead of a value for VTL2: what was there when the module's first VP ran,
 * which must not change.
 */
#define KERNELS ~0ULL

/*
 * An MSR, two values for the guest, one for VTL2, and one that is left in it
 * before the module is loaded (by vp_msrs_found.sh; 0 for none).
 */
static const struct {
	char name[16];
	uint32_t index;
	uint64_t lower[2], host, left;
} msrs[] = {
	{ "SPEC_CTRL", 0x48, { 1, 4 }, KERNELS, 0 },
	{ "UMWAIT_CONTROL", 0xe1, { 0x1000, 0x54321000 }, 0x20000, 0 },
	{ "TSX_CTRL", 0x122, { 2, 1 }, KERNELS, 3 },
	/* It has zero in these. */
	{ "XFD", 0x1c4, { 1 << 18, 1 << 18 }, 0, 0 },
	{ "XFD_ERR", 0x1c5, { 1 << 18, 1 << 18 }, 0, 0 },
	/* It uses no CET, and keeps what somebody before it has left. */
	{ "U_CET", 0x6a0, { 0x3, 0x7000123400000c01 }, KERNELS, 0x1 },
	{ "S_CET", 0x6a2, { 0x4, 0x10 }, 0x20, 0 },
	{ "PL0_SSP",
	  0x6a4,
	  { 0xffff800000001000, 0xffff900000002008 },
	  KERNELS,
	  0xffffa00000003010 },
	{ "PL1_SSP",
	  0x6a5,
	  { 0x1111111111110, 0x2222222222220 },
	  KERNELS,
	  0x5555555555550 },
	{ "PL2_SSP",
	  0x6a6,
	  { 0x3333333333330, 0x4444444444440 },
	  KERNELS,
	  0x6666666666660 },
	{ "PL3_SSP",
	  0x6a7,
	  { 0x7fff00001000, 0x7ffe00002008 },
	  KERNELS,
	  0x7ffd00003010 },
	{ "INT_SSP_TABLE", 0x6a8, { 0x5550000, 0x6660000 }, 0x7770000, 0 },
};

#define NUM_MSRS ARRAY_SIZE(msrs)
#define MSR_XSS 0xda0
#define XSS_CET (3ULL << 11)

FIXTURE(msrs)
{
	struct vtl_guest guest;
	volatile struct msr_row *rows;
	int fd;
	uint64_t before[NUM_MSRS];
};

/* Lets the guest read and write them without an exit, or not. */
static int let_through(struct vtl_guest *guest, bool is_free)
{
	unsigned int i, is_write;

	for (i = 0; i < 2 * NUM_MSRS; i++) {
		is_write = i % 2;
		if (vtl_guest_write_field(guest,
					  FIELD_MSR_BITMAP(MSR_BITMAP_WORD(
						  msrs[i / 2].index, is_write)),
					  is_free ? 0 : ~0ULL,
					  1ULL << msrs[i / 2].index % 64))
			return -1;
	}
	return 0;
}

/* What VTL2 has. */
static uint64_t own[NUM_MSRS];

/* Returns true if VTL2 has its own values. */
static bool host_has_its_own(int fd)
{
	uint64_t value;
	size_t i;

	for (i = 0; i < NUM_MSRS; i++)
		if (pread(fd, &value, sizeof(value), msrs[i].index) !=
			    sizeof(value) ||
		    value != own[i])
			return false;
	return true;
}

/* Makes the guest load values @which, none for 2, and read them. */
static bool run_to_halt(struct vtl_guest *guest, volatile struct msr_row *rows,
			int which, unsigned int rounds)
{
	volatile struct mshv_vtl_run *run = guest->run;
	uint64_t gpa = guest->base + (1 + guest->cpu) * VTL_PAGE_SIZE;
	size_t i;

	if (vtl_guest_load(guest, vtl_guest_msrs, vtl_guest_msrs_end))
		return false;
	for (i = 0; i < NUM_MSRS; i++) {
		rows[i].index = msrs[i].index;
		rows[i].own = which == 2 ? 0 : msrs[i].lower[which];
	}
	run->tdx.l2_enter_guest_state.gpr[RBX] = gpa;
	run->tdx.l2_enter_guest_state.gpr[RBP] = gpa + NUM_MSRS * sizeof(*rows);
	run->tdx.l2_enter_guest_state.gpr[RSI] = rounds;
	return !vtl_run(guest) && vtl_exit_reason(guest) == EXIT_HLT &&
	       run->tdx.l2_enter_guest_state.gpr[RAX] == 0;
}

FIXTURE_SETUP(msrs)
{
	uint64_t base, size, value;
	size_t i;

	if (!vtl_memory(&base, &size))
		SKIP(return, "no vtl0_mem= on the kernel command line");
	ASSERT_EQ(0, vtl_pin(0));
	self->fd = vtl_open_msrs(0);
	if (self->fd < 0)
		SKIP(return,
			   "no MSR driver: neither /dev/cpu/0/msr nor /lib/msr.ko");
	for (i = 0; i < NUM_MSRS; i++) {
		if (pread(self->fd, &self->before[i], sizeof(value),
			  msrs[i].index) != sizeof(value))
			SKIP(return, "this processor has no %s", msrs[i].name);
		value = msrs[i].host == KERNELS ? self->before[i] :
						  msrs[i].host;
		own[i] = value;
		ASSERT_EQ(sizeof(value), pwrite(self->fd, &value, sizeof(value),
						msrs[i].index));
	}
	if (!host_has_its_own(self->fd))
		SKIP(return, "not all of the MSRs hold a value here");
	ASSERT_EQ(0, vtl_guest_open(&self->guest, 0))
	{
		TH_LOG("%s", self->guest.why);
	}
	self->rows = vtl_map_low(base + VTL_PAGE_SIZE, VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->rows);
	ASSERT_EQ(0, let_through(&self->guest, true));
}

/* As before: VP and processor outlive the test. */
FIXTURE_TEARDOWN(msrs)
{
	size_t i;

	EXPECT_TRUE(run_to_halt(&self->guest, self->rows, 2, 1));
	EXPECT_EQ(0, let_through(&self->guest, false));
	for (i = 0; i < NUM_MSRS; i++)
		EXPECT_EQ(sizeof(self->before[i]),
			  pwrite(self->fd, &self->before[i],
				 sizeof(self->before[i]), msrs[i].index));
	vtl_guest_close(&self->guest);
	close(self->fd);
}

/*
 * Returns true if the guest read what it left before, or else the zeros of a
 * reset.
 */
static bool has_found(volatile struct msr_row *rows, bool is_zero)
{
	bool is_good = true;
	size_t i;

	for (i = 0; i < NUM_MSRS; i++) {
		if (rows[i].found == (is_zero ? 0 : msrs[i].lower[0]))
			continue;
		printf("# %s: the guest found %" PRIx64 "\n", msrs[i].name,
		       rows[i].found);
		is_good = false;
	}
	return is_good;
}

TEST_F(msrs, each_side_has_its_own)
{
	ASSERT_TRUE(run_to_halt(&self->guest, self->rows, 0, ROUNDS_SHORT));
	EXPECT_TRUE(has_found(self->rows, true));
	EXPECT_TRUE(host_has_its_own(self->fd));

	ASSERT_TRUE(run_to_halt(&self->guest, self->rows, 1, ROUNDS_SHORT));
	EXPECT_TRUE(has_found(self->rows, false));
	EXPECT_TRUE(host_has_its_own(self->fd));
}

/* What is not read back, because its writes exit, is still there on both sides. */
TEST_F(msrs, what_was_loaded_stays_while_writes_exit)
{
	ASSERT_TRUE(run_to_halt(&self->guest, self->rows, 0, 1));
	ASSERT_EQ(0, let_through(&self->guest, false));
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	EXPECT_TRUE(host_has_its_own(self->fd));
	ASSERT_EQ(0, let_through(&self->guest, true));
	ASSERT_TRUE(run_to_halt(&self->guest, self->rows, 1, 1));
	EXPECT_TRUE(has_found(self->rows, false));
	EXPECT_TRUE(host_has_its_own(self->fd));
}

/* VTL0 must not disable what VTL1 relies on. */
TEST_F(msrs, each_vm_has_its_own)
{
	struct vtl_guest other = self->guest;

	ASSERT_EQ(0, vtl_guest_use_vm(&other, 2));
	ASSERT_EQ(0, vtl_guest_give_apic_page(&other));
	ASSERT_EQ(0, let_through(&other, true));

	EXPECT_TRUE(run_to_halt(&self->guest, self->rows, 0, ROUNDS_SHORT));
	EXPECT_TRUE(run_to_halt(&other, self->rows, 1, ROUNDS_SHORT));
	EXPECT_TRUE(has_found(self->rows, true));
	EXPECT_TRUE(run_to_halt(&self->guest, self->rows, 0, ROUNDS_SHORT));
	EXPECT_TRUE(has_found(self->rows, false));
	EXPECT_TRUE(host_has_its_own(self->fd));

	EXPECT_TRUE(run_to_halt(&other, self->rows, 2, 1));
	EXPECT_EQ(0, let_through(&other, false));
}

/* IA32_XSS is in the run page. Only what is switched can be enabled there. */
TEST_F(msrs, xss_takes_cet_and_nothing_else)
{
	volatile struct mshv_vtl_run *run = self->guest.run;
	uint64_t before = 0, value;
	int bit;

	ASSERT_EQ(sizeof(before),
		  pread(self->fd, &before, sizeof(before), MSR_XSS));
	ASSERT_EQ(0, vtl_guest_load(&self->guest, vtl_guest_registers,
				    vtl_guest_registers_end));
	for (bit = 0; bit < 64; bit++) {
		if (XSS_CET & 1ULL << bit)
			continue;
		run->tdx.vp_state.msr_xss = XSS_CET | 1ULL << bit;
		EXPECT_EQ(-EINVAL, vtl_enter(&self->guest));
	}
	run->tdx.vp_state.msr_xss = XSS_CET;
	ASSERT_EQ(0, vtl_run(&self->guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->guest));
	EXPECT_EQ(XSS_CET, run->tdx.vp_state.msr_xss);
	ASSERT_EQ(sizeof(value),
		  pread(self->fd, &value, sizeof(value), MSR_XSS));
	EXPECT_EQ(before, value);
}

static volatile int is_over;

/* Occupies the same CPU all the time, and checks its MSRs. */
static void *busy_sibling(void *argument)
{
	int fd = *(int *)argument;
	unsigned long rounds = 0;

	vtl_pin(0);
	while (!is_over) {
		if (!host_has_its_own(fd))
			return (void *)0;
		rounds++;
		sched_yield();
	}
	return (void *)rounds;
}

TEST_F(msrs, a_preempted_thread_keeps_both_sides)
{
	pthread_t sibling;
	void *rounds;
	bool is_good;

	is_over = 0;
	ASSERT_EQ(0, pthread_create(&sibling, NULL, busy_sibling, &self->fd));
	is_good = run_to_halt(&self->guest, self->rows, 0, ROUNDS_LONG);
	is_over = 1;
	pthread_join(sibling, &rounds);
	EXPECT_TRUE(is_good);
	EXPECT_LT(20, (unsigned long)rounds);
}

/* Writes what is to be found by a module that is loaded afterwards. */
static int leave(bool is_zero)
{
	int status = 0, fd = vtl_open_msrs(0);
	uint64_t value;
	size_t i;

	if (fd < 0 || vtl_pin(0))
		return 1;
	for (i = 0; i < NUM_MSRS; i++) {
		value = is_zero ? 0 : msrs[i].left;
		if (msrs[i].left && pwrite(fd, &value, sizeof(value),
					   msrs[i].index) != sizeof(value))
			status = 1;
	}
	close(fd);
	return status;
}

int main(int argc, char **argv)
{
	if (argc == 2 &&
	    (!strcmp(argv[1], "leave") || !strcmp(argv[1], "clear")))
		return leave(argv[1][0] == 'c');
	return test_harness_run(argc, argv);
}
