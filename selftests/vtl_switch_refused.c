// SPDX-License-Identifier: GPL-2.0
/*
 * VTL calls and returns that the kernel does not carry out: each is an ordinary exit
 * without any change. Also the errors of MSHV_VTL_SWITCH_SETUP and of a run.
 */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pair_fixture.h"

/* OPERAND_INVALID: the virtual-APIC address. */
#define NO_APIC_PAGE 0xc0000100000000aaULL

/* One VMCALL that is left to userspace, with @reason. */
static bool is_left(struct vtl_pair *pair, unsigned int vm, uint32_t reason)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;
	struct mshv_vtl_parked parked[2], now[2];
	const uint64_t rip = state->rip, rax = state->gpr[RAX],
		       rcx = state->gpr[RCX], rsp = state->gpr[RSP];

	memcpy(parked, (void *)pair->page->parked, sizeof(parked));
	*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON) = 0;
	if (vtl_run(&pair->guest) ||
	    vtl_exit_reason(&pair->guest) != EXIT_VMCALL)
		return false;
	memcpy(now, (void *)pair->page->parked, sizeof(now));
	return pair_vm(pair) == vm && pair->page->left == reason &&
	       state->rip == rip && state->gpr[RAX] == rax &&
	       state->gpr[RCX] == rcx && state->gpr[RSP] == rsp &&
	       !memcmp(parked, now, sizeof(now)) &&
	       !*(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON);
}

TEST_F(pair, operands_that_are_none_change_nothing)
{
	static const struct {
		unsigned int vm;
		uint64_t rcx, rax;
		uint32_t left;
	} cases[] = {
		{ 1, CODE_CALL, 1, MSHV_VTL_LEFT_OPERANDS },
		{ 1, CODE_CALL, 1ULL << 63, MSHV_VTL_LEFT_OPERANDS },
		{ 1, CODE_CALL | 1 << 16, 0, MSHV_VTL_LEFT_OPERANDS },
		{ 1, CODE_CALL | 1ULL << 63, 0, MSHV_VTL_LEFT_OPERANDS },
		{ 1, CODE_RETURN, 0, MSHV_VTL_LEFT_OPERANDS },
		{ 1, CODE_RETURN, 1, MSHV_VTL_LEFT_OPERANDS },
		{ 2, CODE_CALL, 0, MSHV_VTL_LEFT_OPERANDS },
		{ 2, CODE_RETURN, 2, MSHV_VTL_LEFT_OPERANDS },
		{ 2, CODE_RETURN, 3, MSHV_VTL_LEFT_OPERANDS },
		{ 2, CODE_RETURN, ~0ULL, MSHV_VTL_LEFT_OPERANDS },
		{ 2, CODE_RETURN | 1 << 16, 1, MSHV_VTL_LEFT_OPERANDS },
		/* Other hypercalls. */
		{ 1, 0x10, 0, 0 },
		{ 1, 0x5d, 0, 0 },
		{ 2, 0x13, 1, 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		START(pair_vmcall, pair_vmcall);
		if (cases[i].vm == 2)
			pair_exchange(&self->pair);
		self->state->gpr[RAX] = cases[i].rax;
		self->state->gpr[RCX] = cases[i].rcx;
		EXPECT_TRUE(is_left(&self->pair, cases[i].vm, cases[i].left))
		{
			TH_LOG("case %zu: left %u", i, self->pair.page->left);
		}
		/* An invalid return, then a valid one. */
		self->state->gpr[RAX] = 0;
		self->state->gpr[RCX] = CODE_CALL + cases[i].vm - 1;
		ASSERT_EQ(0, vtl_enter(&self->pair.guest));
		EXPECT_EQ(3 - cases[i].vm, pair_vm(&self->pair));
	}
}

TEST_F(pair, a_mode_in_which_userspace_has_to_look_changes_nothing)
{
	/* Single step. */
	START(pair_vmcall, pair_halt);
	self->state->gpr[RCX] = CODE_CALL;
	self->state->rflags = 0x102;
	EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_MODE));
	/* 32-bit code: RCX may have any value. */
	START(pair_vmcall, pair_halt);
	ASSERT_EQ(0, pair_write_field(&self->pair, 1, VMCS32(0x4816), 0xc09b,
				      0xffffffff));
	self->state->gpr[RCX] = CODE_CALL;
	EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_MODE));
}

TEST_F(pair, user_mode_can_not_call)
{
	START(pair_vmcall, pair_halt);
	/* CPL 3, by the DPL of SS, with pages for user mode. */
	ASSERT_EQ(0, pair_write_field(&self->pair, 1, VMCS16(0x0802), 0xb,
				      0xffff));
	ASSERT_EQ(0, pair_write_field(&self->pair, 1, VMCS32(0x4816), 0xa0fb,
				      0xffffffff));
	ASSERT_EQ(0, pair_write_field(&self->pair, 1, VMCS16(0x0804), 0x13,
				      0xffff));
	ASSERT_EQ(0, pair_write_field(&self->pair, 1, VMCS32(0x4818), 0xc0f3,
				      0xffffffff));
	pair_let_users(&self->pair);
	self->state->gpr[RCX] = CODE_CALL;
	EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_MODE))
	{
		TH_LOG("exit %u, left %u", vtl_exit_reason(&self->pair.guest),
		       self->pair.page->left);
	}
}

TEST_F(pair, what_is_not_enabled_is_left)
{
	START(pair_vmcall, pair_vmcall);
	self->state->gpr[RCX] = CODE_CALL;
	self->pair.page->enable = MSHV_VTL_SWITCH_RETURN;
	EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_DISABLED));
	pair_exchange(&self->pair);
	self->state->gpr[RCX] = CODE_RETURN;
	self->pair.page->enable = MSHV_VTL_SWITCH_CALL;
	EXPECT_TRUE(is_left(&self->pair, 2, MSHV_VTL_LEFT_DISABLED));
	self->pair.page->enable = 0;
	EXPECT_TRUE(is_left(&self->pair, 2, MSHV_VTL_LEFT_DISABLED));
}

TEST_F(pair, a_target_that_waits_for_userspace_is_not_entered)
{
	START(pair_vmcall, pair_vmcall);
	pair_exchange(&self->pair);
	self->pair.page->parked[0].halt = MSHV_VTL_HALT_OTHER;
	self->state->gpr[RCX] = CODE_RETURN;
	EXPECT_TRUE(is_left(&self->pair, 2, MSHV_VTL_LEFT_HALTED));
}

TEST_F(pair, a_target_that_can_not_be_entered_is_not)
{
	START(pair_vmcall, pair_halt);
	self->state->gpr[RCX] = CODE_CALL;
	/* An error code without protected mode: the entry fails. */
	ASSERT_EQ(0, pair_write_field(&self->pair, 2, VMCS64(0x6800), 0x30,
				      ~0ULL));
	ASSERT_EQ(0, pair_write_field(&self->pair, 2, VMCS32(0x4018), 0,
				      0xffffffff));
	ASSERT_EQ(0, pair_write_field(&self->pair, 2, VMCS32(0x4016),
				      0x80000b0d, 0xffffffff));
	EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_NOT_ENTERABLE));
	ASSERT_EQ(0, pair_write_field(&self->pair, 2, VMCS32(0x4016), 0,
				      0xffffffff));
	ASSERT_EQ(0, pair_write_field(&self->pair, 2, VMCS64(0x6800),
				      0x80000031, ~0ULL));
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
}

static uint64_t physical(const void *address)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (pread(fd, &entry, 8, (uintptr_t)address / VTL_PAGE_SIZE * 8) != 8)
		entry = 0;
	close(fd);
	/* Present; the page frame. */
	return entry >> 63 ? (entry & ((1ULL << 55) - 1)) * VTL_PAGE_SIZE : 0;
}

/*
 * The file that has set VM 2's page, of this process, is closed after VM 2 was
 * entered.
 */
TEST_F(pair, a_target_whose_apic_page_was_released_is_not_entered)
{
	const uint64_t gpa =
		pair_gpa(&self->pair, self->pair.part + PAIR_APIC_VM2);
	struct vtl_guest other = self->pair.guest;
	unsigned char *page;

	page = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	ASSERT_NE(MAP_FAILED, page);
	*page = 0;
	other.fd = vtl_create();
	other.vm = 2;
	ASSERT_LE(0, other.fd);
	START(pair_vmcall, pair_return_fast);
	ASSERT_EQ(0, vtl_guest_write_field(&other, VMCS_VIRTUAL_APIC_PAGE,
					   physical(page), ~0ULL));
	self->state->gpr[RCX] = CODE_CALL;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	ASSERT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	ASSERT_EQ(1, pair_vm(&self->pair));
	close(other.fd);
	/* Nor by userspace, whose attempt does not count as a check for others. */
	pair_exchange(&self->pair);
	EXPECT_EQ(-EIO, vtl_enter(&self->pair.guest));
	EXPECT_EQ(NO_APIC_PAGE, self->run->tdx.exit_info.rax);
	pair_exchange(&self->pair);
	self->state->rip = pair_address(&self->pair, pair_vmcall);
	self->state->gpr[RAX] = 0;
	self->state->gpr[RCX] = CODE_CALL;
	EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_NOT_ENTERABLE));
	ASSERT_EQ(0, pair_write_field(&self->pair, 2, VMCS_VIRTUAL_APIC_PAGE,
				      gpa, ~0ULL));
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	munmap(page, VTL_PAGE_SIZE);
}

/* Not mapped, not accessible, not writable, not faulted in. */
TEST_F(pair, an_assist_page_that_can_not_be_accessed_leaves_it_to_userspace)
{
	static const int rights[] = { PROT_READ | PROT_WRITE, PROT_READ,
				      PROT_NONE };
	unsigned char *page;
	int i;

	page = mmap(NULL, VTL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, page);
	for (i = 0; i < 4; i++) {
		START(pair_vmcall, pair_halt);
		self->state->gpr[RCX] = CODE_CALL;
		ASSERT_EQ(0, pair_set_up(&self->pair, page));
		if (i == 1)
			*page = 1;
		ASSERT_EQ(0, i == 3 ? munmap(page, VTL_PAGE_SIZE) :
				      mprotect(page, VTL_PAGE_SIZE, rights[i]));
		EXPECT_TRUE(is_left(&self->pair, 1, MSHV_VTL_LEFT_ASSIST))
		{
			TH_LOG("case %d", i);
		}
	}
	/* The same call, with a mapped page. */
	ASSERT_EQ(0, pair_set_up(&self->pair, self->pair.assist));
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
}

/* A normal return reads the page, a fast one does not. */
TEST_F(pair, a_return_without_the_assist_page_is_left)
{
	START(pair_halt, pair_vmcall);
	ASSERT_EQ(0, pair_set_up(&self->pair, (void *)0x10000));
	pair_exchange(&self->pair);
	self->state->gpr[RAX] = 0;
	self->state->gpr[RCX] = CODE_RETURN;
	EXPECT_TRUE(is_left(&self->pair, 2, MSHV_VTL_LEFT_ASSIST));
	self->state->gpr[RAX] = 1;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
}

/*
 * Without MSHV_VTL_SWITCH_SETUP, or after its end: exits, and the page is not used.
 */
TEST_F(pair, without_a_set_up_nothing_is_switched)
{
	struct mshv_vtl_switch_page before;
	int i;

	for (i = 0; i < 2; i++) {
		if (i) {
			ASSERT_EQ(0, pair_set_up(&self->pair, NULL));
		} else {
			pair_close(&self->pair);
			ASSERT_EQ(0, pair_open(&self->pair, 0));
			self->run = self->pair.guest.run;
			self->state = &self->run->tdx.l2_enter_guest_state;
		}
		START(pair_vmcall, pair_halt);
		self->state->gpr[RCX] = CODE_CALL;
		/* The page is ignored. */
		self->pair.page->enable = ~0U;
		self->pair.page->parked[1].msr_lstar = 1ULL << 63;
		memcpy(&before, (void *)self->pair.page, sizeof(before));
		ASSERT_EQ(0, vtl_run(&self->pair.guest));
		EXPECT_EQ(EXIT_VMCALL, vtl_exit_reason(&self->pair.guest));
		EXPECT_EQ(1, pair_vm(&self->pair));
		EXPECT_EQ(0, memcmp(&before, (void *)self->pair.page,
				    sizeof(before)));
		ASSERT_EQ(0, pair_set_up(&self->pair, self->pair.assist));
	}
}

TEST_F(pair, a_wrong_switch_page_is_einval_and_changes_nothing)
{
	volatile struct mshv_vtl_parked *vtl1 = &self->pair.page->parked[1];
	uint64_t rip;
	int bit;

	START(pair_vmcall, pair_halt);
	self->state->gpr[RCX] = CODE_CALL;
	rip = self->state->rip;
#define REFUSED(field, value)                                    \
	do {                                                     \
		const __typeof__(field) _before = field;         \
		field = value;                                   \
		EXPECT_EQ(-EINVAL, vtl_enter(&self->pair.guest)) \
		{                                                \
			TH_LOG(#field);                          \
		}                                                \
		EXPECT_EQ(rip, self->state->rip);                \
		EXPECT_EQ(1, pair_vm(&self->pair));              \
		field = _before;                                 \
	} while (0)
	for (bit = 5; bit < 32; bit++)
		REFUSED(self->pair.page->enable, 1U << bit);
	REFUSED(vtl1->msr_kernel_gs_base, 1ULL << 62);
	REFUSED(vtl1->msr_lstar, 1ULL << 62);
	REFUSED(vtl1->msr_sfmask, 1ULL << 32);
	REFUSED(vtl1->msr_xss, 1);
	REFUSED(vtl1->msr_tsc_aux, 1ULL << 32);
	REFUSED(vtl1->halt, 1);
	REFUSED(vtl1->reserved1[0], 1);
	REFUSED(vtl1->reserved1[4], 1);
	REFUSED(vtl1->reserved2[0], 1);
	REFUSED(vtl1->reserved2[4], 1ULL << 63);
	/* VM 1's own slot is ignored while VM 1 is in the run page. */
	self->pair.page->parked[0].msr_lstar = 1ULL << 62;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
}

/* VM 3 is not a VTL. */
TEST_F(pair, another_vm_is_run_as_ever)
{
	START(pair_vmcall, pair_halt);
	self->pair.page->parked[1].msr_lstar = 1ULL << 62;
	self->run->tdx.entry_rcx = 3ULL << MSHV_TDX_ENTRY_VM_SHIFT;
	/* This TD has no VM 3: the error is that of the run page alone. */
	EXPECT_EQ(-EINVAL, vtl_enter(&self->pair.guest));
}

static int set_up(int fd, uint32_t size, uint32_t cpu, uint64_t assist,
		  uint64_t flags)
{
	struct {
		struct mshv_vtl_switch setup;
		uint64_t more;
	} request = { { { size, cpu }, assist, flags }, 0 };

	return ioctl(fd, MSHV_VTL_SWITCH_SETUP, &request) ? -errno : 0;
}

TEST_F(pair, set_ups_that_are_not_as_described)
{
	const uint64_t good = (uintptr_t)self->pair.assist;
	const int fd = self->pair.guest.fd;
	struct {
		struct mshv_vtl_switch setup;
		uint64_t more;
	} longer = { { { sizeof(longer), 0 }, good, 0 }, 1 };

	EXPECT_EQ(0, set_up(fd, 24, 0, good, 0));
	EXPECT_EQ(0, set_up(fd, 32, 0, good, 0));
	EXPECT_EQ(0, set_up(fd, 24, 0, 0, 0));
	EXPECT_EQ(-EINVAL, set_up(fd, 0, 0, good, 0));
	EXPECT_EQ(-EINVAL, set_up(fd, 23, 0, good, 0));
	EXPECT_EQ(-EINVAL, set_up(fd, 24, 0, good, 1));
	EXPECT_EQ(-EINVAL, set_up(fd, 24, 0, good, 1ULL << 63));
	EXPECT_EQ(-EINVAL, set_up(fd, 24, 0, good + 8, 0));
	EXPECT_EQ(-EINVAL, set_up(fd, 24, 0, 1ULL << 63, 0));
	EXPECT_EQ(-EINVAL, set_up(fd, 24, 0, -4096ULL, 0));
	EXPECT_EQ(-ENXIO, set_up(fd, 24, 0xffff, good, 0));
	EXPECT_EQ(-E2BIG, set_up(fd, 4097, 0, good, 0));
	EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_SWITCH_SETUP, &longer));
	EXPECT_EQ(E2BIG, errno);
	EXPECT_EQ(-1, ioctl(fd, MSHV_VTL_SWITCH_SETUP, NULL));
	EXPECT_EQ(EFAULT, errno);
	/* A refused run has changed nothing: the kernel does not switch. */
	START(pair_vmcall, pair_halt);
	self->state->gpr[RCX] = CODE_CALL;
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(1, pair_vm(&self->pair));
}

struct setter {
	pthread_barrier_t *barrier;
	volatile int *fd;
	unsigned int refused;
};

#define ROUNDS 1000

static void *set_up_first(void *argument)
{
	struct setter *setter = argument;
	unsigned int round;

	for (round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(setter->barrier);
		setter->refused += set_up(*setter->fd, 24, 0, 0x10000, 0) != 0;
		pthread_barrier_wait(setter->barrier);
	}
	return NULL;
}

/* The threads of a paravisor begin at the same time, each for its own VP. */
TEST_F(pair, threads_of_one_process_may_all_be_the_first_to_set_up)
{
	pthread_barrier_t barrier;
	struct setter setters[3];
	pthread_t threads[3];
	volatile int fd = -1;
	unsigned int i;

	ASSERT_EQ(0, pthread_barrier_init(&barrier, NULL, 4));
	for (i = 0; i < 3; i++) {
		setters[i] = (struct setter){ &barrier, &fd, 0 };
		ASSERT_EQ(0, vtl_thread_anywhere(&threads[i], set_up_first,
						 &setters[i]));
	}
	for (i = 0; i < ROUNDS; i++) {
		fd = vtl_create();
		ASSERT_LE(0, fd);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		close(fd);
	}
	for (i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, setters[i].refused);
	}
	pthread_barrier_destroy(&barrier);
}

/* Removing what was never set does not decide whose the file is. */
TEST_F(pair, a_set_up_of_nothing_leaves_the_file_to_another_process)
{
	int fd = vtl_create(), status;
	pid_t child;

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, set_up(fd, 24, 0, 0, 0));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(set_up(fd, 24, 0, 0x10000, 0) != 0);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	/* Now it is the child's. */
	EXPECT_EQ(-EBUSY, set_up(fd, 24, 0, 0x10000, 0));
	EXPECT_EQ(-EBUSY, set_up(fd, 24, 0, 0, 0));
	close(fd);
}

/* The addresses belong to one process. */
TEST_F(pair, a_child_can_neither_set_up_nor_use_what_was)
{
	int status;
	pid_t child;

	START(pair_vmcall, pair_halt);
	self->state->gpr[RCX] = CODE_CALL;
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct vtl_guest guest = self->pair.guest;
		volatile struct mshv_vtl_run *run;

		if (pair_set_up(&self->pair, NULL) != -EBUSY)
			_exit(1);
		/* Mappings are not inherited. */
		run = vtl_map_page(guest.fd, MSHV_VTL_MMAP_RUN_PAGE, 0);
		if (run == MAP_FAILED)
			_exit(2);
		guest.run = run;
		if (vtl_run(&guest) || vtl_exit_reason(&guest) != EXIT_VMCALL)
			_exit(3);
		_exit(run->tdx.entry_rcx >> MSHV_TDX_ENTRY_VM_SHIFT == 1 ? 0 :
									   4);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	/* The parent is not affected. */
	ASSERT_EQ(0, vtl_run(&self->pair.guest));
	EXPECT_EQ(2, pair_vm(&self->pair));
}

TEST_HARNESS_MAIN
