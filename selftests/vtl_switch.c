// SPDX-License-Identifier: GPL-2.0
/*
 * VTL calls and returns that the kernel carries out: the private state of each VTL,
 * the shared state, and the contents of run page and switch page for a paravisor.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "pair_fixture.h"

/* Runs until an exit to userspace: exit reason @reason of VM @vm. */
#define EXPECT_EXIT(vm, reason)                                        \
	do {                                                           \
		ASSERT_EQ(0, vtl_run(&self->pair.guest));              \
		EXPECT_EQ(reason, vtl_exit_reason(&self->pair.guest)); \
		EXPECT_EQ(vm, pair_vm(&self->pair));                   \
		EXPECT_EQ(vm, self->pair.page->active_vm);             \
	} while (0)

static uint32_t entry_reason(const struct vtl_pair *pair)
{
	return *(volatile uint32_t *)(pair->assist + ASSIST_ENTRY_REASON);
}

/* A value for each general register except RSP, by its number. */
static uint64_t pattern(unsigned int number, uint64_t seed)
{
	return 0x0101010101010101ULL * number + seed;
}

TEST_F(pair, a_call_shares_general_registers_and_keeps_private_ones)
{
	volatile struct mshv_vtl_parked *vtl0 = &self->pair.page->parked[0];
	uint64_t rip, rsp;
	unsigned int i;

	START(pair_vmcall, pair_halt);
	for (i = 0; i < 16; i++)
		if (i != RSP)
			self->state->gpr[i] = pattern(i, 0xab00);
	self->state->gpr[RAX] = 0;
	self->state->gpr[RCX] = CODE_CALL;
	self->state->rflags = 0x8d7; /* status flags */
	self->pair.page->parked[1].rflags = 0x2;
	rip = self->state->rip;
	rsp = self->state->gpr[RSP];
	EXPECT_EXIT(2, EXIT_HLT);
	for (i = 0; i < 16; i++)
		if (i != RSP && i != RAX && i != RCX)
			EXPECT_EQ(pattern(i, 0xab00), self->state->gpr[i]);
	EXPECT_EQ(0, self->state->gpr[RAX]);
	EXPECT_EQ(CODE_CALL, self->state->gpr[RCX]);
	EXPECT_EQ(2, self->state->rflags);
	EXPECT_EQ(pair_address(&self->pair, pair_halt), self->state->rip);
	EXPECT_NE(rsp, self->state->gpr[RSP]);
	EXPECT_EQ(rip + 3, vtl0->rip);
	EXPECT_EQ(rsp, vtl0->rsp);
	EXPECT_EQ(0x8d7, vtl0->rflags & 0x8d7);
	EXPECT_EQ(0, vtl0->halt);
	EXPECT_EQ(1, entry_reason(&self->pair));
	EXPECT_EQ(0, self->pair.page->left);
}

TEST_F(pair, a_normal_return_takes_two_registers_from_the_assist_page)
{
	static const unsigned char *const returns[] = { pair_return_fast,
							pair_return };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		START(pair_call, returns[i]);
		self->state->gpr[RBX] = 1;
		self->state->gpr[R15] = 0x1234567812345678;
		*(volatile uint64_t *)(self->pair.assist + ASSIST_RAX) = 0xa1a2;
		*(volatile uint64_t *)(self->pair.assist + ASSIST_RCX) = 0xc1c2;
		EXPECT_EXIT(1, EXIT_HLT);
		EXPECT_EQ(i ? 0xa1a2 : 1, self->state->gpr[RAX]);
		EXPECT_EQ(i ? 0xc1c2 : CODE_RETURN, self->state->gpr[RCX]);
		EXPECT_EQ(0x1234567812345678, self->state->gpr[R15]);
		EXPECT_EQ(1, self->pair.data[0]->turns);
		/* VTL1 waits right after its VMCALL, and sees calls only. */
		EXPECT_EQ(pair_address(&self->pair, returns[i]) + (i ? 10 : 13),
			  self->pair.page->parked[1].rip);
		EXPECT_EQ(1, entry_reason(&self->pair));
	}
}

TEST_F(pair, many_calls_in_one_run_are_counted_and_recorded)
{
	struct mshv_vtl_stats before, after;
	const unsigned int turns = 5000;
	unsigned int runs = 0;
	int result;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = turns;
	before = pair_stats(&self->pair);
	do {
		result = vtl_enter(&self->pair.guest);
		runs++;
	} while (result == -EINTR);
	ASSERT_EQ(0, result);
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(turns, self->pair.data[0]->turns);
	EXPECT_GT(100, runs);
	after = pair_stats(&self->pair);
	EXPECT_EQ(turns, after.vtl_calls - before.vtl_calls);
	EXPECT_EQ(turns, after.vtl_fast_returns - before.vtl_fast_returns);
	EXPECT_EQ(before.vtl_returns, after.vtl_returns);
	EXPECT_EQ(before.vtl_left, after.vtl_left);
	EXPECT_EQ(2 * turns, after.exits[EXIT_VMCALL].count -
				     before.exits[EXIT_VMCALL].count);
	EXPECT_EQ(2 * turns, after.exits[EXIT_VMCALL].handled -
				     before.exits[EXIT_VMCALL].handled);
}

/* Every switch has a record: the VMs alternate, and the reason is VMCALL. */
TEST_F(pair, records_of_the_audit_ring_tell_each_switch)
{
	volatile struct mshv_vtl_audit_record *ring;
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	uint64_t last = 0, sequence, calls = 0;
	int mshv = vtl_open(DEV_MSHV);
	size_t size;
	uint32_t i;

	ASSERT_EQ(0, ioctl(mshv, MSHV_VTL_INFO, &info));
	close(mshv);
	size = info.audit_records * sizeof(*ring);
	ring = mmap(NULL, size, PROT_READ, MAP_SHARED, self->pair.guest.fd,
		    (off_t)MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_AUDIT_RING, 0) *
			    VTL_PAGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)ring);
	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 20;
	EXPECT_EXIT(1, EXIT_HLT);
	for (i = 0; i < info.audit_records; i++)
		if (ring[i].sequence > last)
			last = ring[i].sequence;
	/* Backwards from the HLT, while the kernel entered by itself. */
	for (sequence = last; calls < 40; sequence--) {
		const volatile struct mshv_vtl_audit_record *record =
			&ring[sequence % info.audit_records];
		ASSERT_EQ(sequence, record->sequence);
		if (record->entry_reason != EXIT_VMCALL + 1)
			continue;
		EXPECT_EQ(calls % 2 ? 2 : 1, record->vm);
		calls++;
	}
	munmap((void *)ring, size);
}

static void fill_list(volatile struct pair_data *data, uint64_t seed)
{
	data->to_load[0] = 0x1111222200000000ULL + seed;
	data->to_load[1] = 0xffffffff81000000ULL + seed;
	data->to_load[2] = 0x47700 + seed;
	data->to_load[3] = 0x00007abc00000000ULL + seed;
	data->to_load[4] = 0xa0000 + seed;
}

/* For VTL0, for VTL1, and for VTL2, which reads both and has its own. */
TEST_F(pair, each_vtl_has_msrs_of_its_own)
{
	volatile struct pair_data *vtl0 = self->pair.data[0];
	volatile struct pair_data *vtl1 = self->pair.data[1];
	volatile struct mshv_vtl_parked *parked = &self->pair.page->parked[1];
	unsigned int i;

	START(pair_live_vtl0, pair_live_vtl1);
	ASSERT_EQ(0, pair_let_live_msrs_through(&self->pair));
	fill_list(vtl0, 0x10);
	fill_list(vtl1, 0x20);
	self->state->gpr[RSI] = pair_gpa(&self->pair, vtl0);
	self->state->gpr[RDI] = pair_gpa(&self->pair, vtl1);
	parked->msr_star = 0x5555000000000000;
	parked->msr_lstar = 0xffffffff82222222;
	parked->msr_sfmask = 0x40000;
	parked->msr_kernel_gs_base = 0x7fffffff0000;
	parked->msr_tsc_aux = 0x77;
	EXPECT_EXIT(1, EXIT_HLT);
	/* VTL1 has read what was parked, and VTL0 then what it had loaded. */
	EXPECT_EQ(0x5555000000000000, vtl1->loaded[0]);
	EXPECT_EQ(0xffffffff82222222, vtl1->loaded[1]);
	EXPECT_EQ(0x40000, vtl1->loaded[2]);
	EXPECT_EQ(0x7fffffff0000, vtl1->loaded[3]);
	EXPECT_EQ(0x77, vtl1->loaded[4]);
	for (i = 0; i < 5; i++)
		EXPECT_EQ(vtl0->to_load[i], vtl0->loaded[i]);
	EXPECT_EQ(vtl1->to_load[0], parked->msr_star);
	EXPECT_EQ(vtl1->to_load[1], parked->msr_lstar);
	EXPECT_EQ(vtl1->to_load[2], parked->msr_sfmask);
	EXPECT_EQ(vtl1->to_load[3], parked->msr_kernel_gs_base);
	EXPECT_EQ(vtl1->to_load[4], parked->msr_tsc_aux);
	EXPECT_EQ(vtl0->to_load[0], self->run->tdx.vp_state.msr_star);
	EXPECT_EQ(vtl0->to_load[3], self->run->tdx.vp_state.msr_kernel_gs_base);
	/* Another call: VTL1 reads its own values again. */
	self->state->rip = pair_address(&self->pair, pair_live_vtl0);
	EXPECT_EXIT(1, EXIT_HLT);
	for (i = 0; i < 5; i++)
		EXPECT_EQ(vtl1->to_load[i], vtl1->loaded[i]);
}

TEST_F(pair, sse_registers_and_cr2_are_shared)
{
	START(pair_shared_vtl0, pair_shared_vtl1);
	self->pair.data[0]->to_load[0] = 0x1111111111111111;
	self->pair.data[0]->to_load[1] = 0x2222222222222222;
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(0x1111111111111111, self->pair.data[0]->loaded[2]);
	EXPECT_EQ(0x1111111111111111, self->pair.data[0]->loaded[3]);
	EXPECT_EQ(0x2222222222222222, self->pair.data[0]->loaded[0]);
	EXPECT_EQ(0x2222222222222222, self->pair.data[0]->loaded[1]);
	EXPECT_EQ(0, self->pair.data[1]->loaded[2]);
	/* The run page has the values that they left. */
	EXPECT_EQ(0x2222222222222222, self->run->tdx.vp_state.cr2);
}

/* A switch by the kernel and one by userspace have the same result. */
TEST_F(pair, userspace_goes_on_where_the_kernel_stopped)
{
	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 3;
	self->pair.page->enable = MSHV_VTL_SWITCH_CALL;
	EXPECT_EXIT(2, EXIT_VMCALL);
	EXPECT_EQ(MSHV_VTL_LEFT_DISABLED, self->pair.page->left);
	vtl_step_over(&self->pair.guest);
	pair_exchange(&self->pair);
	self->pair.page->enable = MSHV_VTL_SWITCH_RETURN;
	EXPECT_EXIT(1, EXIT_VMCALL);
	vtl_step_over(&self->pair.guest);
	pair_exchange(&self->pair);
	self->pair.page->enable = MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN;
	EXPECT_EXIT(1, EXIT_HLT);
	EXPECT_EQ(3, self->pair.data[0]->turns);
}

static volatile int alarms;

static void count_alarm(int signal)
{
	(void)signal;
	alarms++;
}

/* VTLs that call each other for ever do not block signals. */
TEST_F(pair, a_signal_ends_a_run_of_endless_calls_in_a_whole_state)
{
	struct itimerval timer = { .it_value.tv_usec = 30000,
				   .it_interval.tv_usec = 30000 };
	struct sigaction action = { .sa_handler = count_alarm };
	unsigned int ends = 0;
	uint64_t turns = 0;

	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = 0;
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	while (ends < 10) {
		const int result = vtl_enter(&self->pair.guest);
		const unsigned int vm = pair_vm(&self->pair);
		const uint64_t rip = self->state->rip;
		const unsigned char *code = vm == 1 ? pair_call :
						      pair_return_fast;

		ASSERT_EQ(-EINTR, result);
		ends++;
		EXPECT_LE(1, vm);
		EXPECT_GE(2, vm);
		EXPECT_LE(pair_address(&self->pair, code), rip);
		EXPECT_GE(pair_address(&self->pair, code) + 32, rip);
		EXPECT_EQ(vm, self->pair.page->active_vm);
	}
	timer = (struct itimerval){ 0 };
	setitimer(ITIMER_REAL, &timer, NULL);
	turns = self->pair.data[0]->turns;
	EXPECT_LT(0, turns);
	EXPECT_LT(0, alarms);
}

/* VTL1's page tables, interrupt table and segments stay in its VMCS. */
TEST_F(pair, each_vtl_keeps_the_state_in_its_vmcs)
{
	uint64_t cr3[2], again;
	int vm;

	START(pair_call, pair_return_fast);
	for (vm = 1; vm <= 2; vm++) {
		self->pair.guest.vm = vm;
		ASSERT_EQ(0, vtl_read_field(self->pair.guest.fd, TDG_VP_RD,
					    vtl_guest_field(&self->pair.guest,
							    VMCS_GUEST_CR3),
					    &cr3[vm - 1]));
	}
	EXPECT_NE(cr3[0], cr3[1]);
	self->state->gpr[RBX] = 50;
	EXPECT_EXIT(1, EXIT_HLT);
	for (vm = 1; vm <= 2; vm++) {
		self->pair.guest.vm = vm;
		ASSERT_EQ(0, vtl_read_field(self->pair.guest.fd, TDG_VP_RD,
					    vtl_guest_field(&self->pair.guest,
							    VMCS_GUEST_CR3),
					    &again));
		EXPECT_EQ(cr3[vm - 1], again);
	}
	self->pair.guest.vm = 1;
}

static volatile int stop_writing;

/* After the first return to VTL0. */
static void *write_over_parked_state(void *argument)
{
	struct vtl_pair *pair = argument;

	while (!pair->data[0]->turns && !stop_writing)
		;
	while (!stop_writing) {
		pair->page->parked[0].rip = 0xdead0000;
		pair->page->parked[0].msr_lstar = 1ULL << 63;
		pair->page->parked[1].rip = 0xdead0000;
		pair->page->parked[1].rsp = 1;
		pair->page->parked[1].reserved2[0] = 1;
	}
	return NULL;
}

/* The switch page is read when a run begins, and written when it ends. */
TEST_F(pair, what_is_written_to_the_page_in_mid_run_has_no_effect)
{
	const unsigned int turns = 5000;
	pthread_t writer;

	START(pair_call, pair_return_fast);
	self->state->gpr[RBX] = turns;
	stop_writing = 0;
	ASSERT_EQ(0, vtl_thread_anywhere(&writer, write_over_parked_state,
					 &self->pair));
	EXPECT_EQ(0, vtl_enter(&self->pair.guest));
	stop_writing = 1;
	pthread_join(writer, NULL);
	EXPECT_EQ(EXIT_HLT, vtl_exit_reason(&self->pair.guest));
	EXPECT_EQ(turns, self->pair.data[0]->turns);
}

TEST_HARNESS_MAIN
