// SPDX-License-Identifier: GPL-2.0
/*
 * All VMs, two or three, each with 2 MiB that are its own. Nobody reads, writes or executes
 * another's, whoever has used them last on that processor; pages of two are those
 * that both were given; and a right that is taken is gone on every processor, also
 * while the VM runs there.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtl_harness.h"
#include "vtl_util.h"

#define MOST_VMS 3
#define CPUS 2
/* In the first 2 MiB, which all VMs execute: one guest for each kind of access. */
#define AT_READ 0x0
#define AT_WRITE 0x100
#define AT_JUMP 0x200
#define AT_COUNT 0x300
#define AT_APIC(vm) (0x8000 + (vm) * VTL_PAGE_SIZE)
/* In the memory of each VM: code that halts, and words. */
#define AT_WORD 0x800
#define AT_COUNTER(cpu) (0x810 + 8 * (cpu))

enum access { READ, WRITE, EXECUTE, ACCESSES };

static const char *const access_names[] = { "read", "write", "execute" };

FIXTURE(isolation)
{
	struct vtl_guest guests[CPUS];
	int vms;
	volatile uint8_t *memory; /* that of all, then a piece of each */
};

#define SELF FIXTURE_DATA(isolation)

/* Returns the memory of @vm. */
static uint64_t own(const SELF *self, int vm)
{
	return self->guests[0].base + vm * VTL_LARGE_SIZE;
}

static volatile uint32_t *word(const SELF *self, int vm)
{
	return (void *)(self->memory + vm * VTL_LARGE_SIZE + AT_WORD);
}

static int set_rights(const SELF *self, int owner, int vm, unsigned int rights)
{
	return vtl_set_rights_of(self->guests[0].fd, vm, own(self, owner),
				 VTL_LARGE_SIZE, rights);
}

static void copy(volatile uint8_t *to, const unsigned char *code,
		 const unsigned char *end)
{
	while (code < end)
		*to++ = *code++;
}

/* Gives each VM rights to its own memory only. */
static int share_out(SELF *self)
{
	int owner, vm;

	for (owner = 1; owner <= self->vms; owner++) {
		if (vtl_accept(self->guests[0].fd, own(self, owner),
			       VTL_LARGE_SIZE))
			return -1;
		for (vm = 1; vm <= self->vms; vm++)
			if (set_rights(self, owner, vm,
				       owner == vm ? RIGHTS_ALL : 0))
				return -1;
		/* INC EAX; HLT */
		self->memory[owner * VTL_LARGE_SIZE] = 0x40;
		self->memory[owner * VTL_LARGE_SIZE + 1] = 0xf4;
		*word(self, owner) = 0x1000 * owner;
	}
	return 0;
}

static void put_code(SELF *self)
{
	copy(self->memory + AT_READ, vtl_guest_read, vtl_guest_read_end);
	copy(self->memory + AT_WRITE, vtl_guest_store, vtl_guest_store_end);
	copy(self->memory + AT_JUMP, vtl_guest_jump, vtl_guest_jump_end);
	copy(self->memory + AT_COUNT, vtl_guest_count, vtl_guest_count_end);
}

/* Sets all VMs of all processors to their first instruction. */
static int start_all(SELF *self)
{
	uint64_t vms;
	int cpu, vm;

	for (cpu = 0; cpu < CPUS; cpu++) {
		struct vtl_guest *guest = &self->guests[cpu];

		if (vtl_guest_open(guest, cpu) ||
		    vtl_read_field(guest->fd, TDG_VM_RD, FIELD_NUM_L2_VMS,
				   &vms))
			return -1;
		self->vms = vms;
		for (vm = self->vms; vm >= 1; vm--) {
			if (vtl_guest_use_vm(guest, vm) ||
			    vtl_guest_start(guest))
				return -1;
			if (vm > 1 &&
			    vtl_guest_write_field(guest, VMCS_VIRTUAL_APIC_PAGE,
						  guest->base + AT_APIC(vm) +
							  cpu * 0x4000,
						  ~0ULL))
				return -1;
		}
	}
	return 0;
}

FIXTURE_SETUP(isolation)
{
	uint64_t base, size;
	int cpu;

	if (!vtl_memory(&base, &size) || size < (1 + MOST_VMS) * VTL_LARGE_SIZE)
		SKIP(return,
			   "no vtl0_mem= of 8 MiB or more on the kernel command line");
	if (vtl_pin(1))
		SKIP(return, "no second CPU");
	ASSERT_EQ(0, start_all(self))
	{
		for (cpu = 0; cpu < CPUS; cpu++)
			TH_LOG("%s", self->guests[cpu].why);
	}
	if (self->vms < 2)
		SKIP(return, "the TD has not two L2 VMs");
	self->memory = vtl_map_low(base, (1 + self->vms) * VTL_LARGE_SIZE);
	ASSERT_NE(MAP_FAILED, (void *)self->memory);
	put_code(self);
	ASSERT_EQ(0, share_out(self));
}

FIXTURE_TEARDOWN(isolation)
{
	int owner, vm, cpu;

	for (owner = 1; owner <= self->vms; owner++)
		for (vm = 1; vm <= self->vms; vm++)
			set_rights(self, owner, vm, 0);
	for (cpu = 0; cpu < CPUS; cpu++)
		vtl_guest_close(&self->guests[cpu]);
	munmap((void *)self->memory, (1 + self->vms) * VTL_LARGE_SIZE);
}

static volatile __u64 *gpr(struct vtl_guest *guest, unsigned int which)
{
	return &guest->run->tdx.l2_enter_guest_state.gpr[which];
}

/* Makes @vm of a processor begin at @at next, with an address and a value. */
static void prepare(struct vtl_guest *guest, int vm, uint64_t at,
		    uint64_t address, uint32_t value, uint64_t invalidate)
{
	volatile struct mshv_vtl_run *run = guest->run;

	vtl_pin(guest->cpu);
	guest->vm = vm;
	run->tdx.l2_enter_guest_state.rip = guest->base + at;
	*gpr(guest, RAX) = value;
	*gpr(guest, RBX) = address;
	run->tdx.entry_rcx = (uint64_t)vm << MSHV_TDX_ENTRY_VM_SHIFT |
			     invalidate;
}

/* Makes one access. Returns the exit reason, or ~0U. */
static unsigned int access_once(struct vtl_guest *guest, int vm,
				enum access access, uint64_t address,
				uint32_t value)
{
	static const uint64_t at[] = { AT_READ, AT_WRITE, AT_JUMP };

	prepare(guest, vm, at[access], address, value, 0);
	return vtl_run(guest) ? ~0U : vtl_exit_reason(guest) & 0xffff;
}

/* Returns the access that was refused, according to the exit; ACCESSES if none. */
static enum access refused(struct vtl_guest *guest, uint64_t address)
{
	const uint64_t qualification = guest->run->tdx.exit_info.rcx;

	if ((vtl_exit_reason(guest) & 0xffff) != EXIT_EPT_VIOLATION ||
	    guest->run->tdx.exit_info.r8 != address)
		return ACCESSES;
	/* An instruction that reads and writes may set both bits. */
	if (qualification & 2)
		return WRITE;
	return qualification & 4 ? EXECUTE : READ;
}

/*
 * An access without the right is an EPT violation, and changes nothing on either
 * side.
 */
static void expect_refused(struct __test_metadata *_metadata, SELF *self,
			   struct vtl_guest *guest, int vm, int owner,
			   enum access access)
{
	const uint64_t address =
		own(self, owner) + (access == EXECUTE ? 0 : AT_WORD);
	const uint32_t before = *word(self, owner);

	EXPECT_EQ(EXIT_EPT_VIOLATION,
		  access_once(guest, vm, access, address, 0xbad));
	EXPECT_EQ(access, refused(guest, address))
	{
		TH_LOG("VM %d, %s of VM %d's on CPU %d", vm,
		       access_names[access], owner, guest->cpu);
	}
	EXPECT_EQ(before, *word(self, owner));
	EXPECT_EQ(0xbad, *gpr(guest, RAX));
}

static void expect_allowed(struct __test_metadata *_metadata, SELF *self,
			   struct vtl_guest *guest, int vm, int owner,
			   enum access access)
{
	const uint32_t before = *word(self, owner);
	const uint64_t address =
		own(self, owner) + (access == EXECUTE ? 0 : AT_WORD);

	EXPECT_EQ(EXIT_HLT, access_once(guest, vm, access, address, before + 1))
	{
		TH_LOG("VM %d, %s of VM %d's on CPU %d", vm,
		       access_names[access], owner, guest->cpu);
	}
	EXPECT_EQ(access == WRITE ? before + 1 : before, *word(self, owner));
	EXPECT_EQ(access == READ    ? before :
		  access == EXECUTE ? before + 2 :
				      before + 1,
		  *gpr(guest, RAX));
}

/* All pairs, in an order in which each owner has just used what the others try. */
TEST_F(isolation, no_vm_reaches_what_another_one_has)
{
	enum access access;
	int cpu, owner, vm;

	for (cpu = 0; cpu < CPUS; cpu++)
		for (owner = 1; owner <= self->vms; owner++)
			for (vm = 1; vm <= self->vms; vm++)
				for (access = 0; access < ACCESSES; access++) {
					struct vtl_guest *guest =
						&self->guests[cpu];

					expect_allowed(_metadata, self, guest,
						       owner, owner, access);
					if (vm != owner)
						expect_refused(_metadata, self,
							       guest, vm, owner,
							       access);
				}
}

/* One right each: an access without its right is refused, even with another right. */
TEST_F(isolation, a_vm_has_the_rights_it_was_given_and_no_other)
{
	static const unsigned int rights[] = { RIGHT_READ,
					       RIGHT_READ | RIGHT_WRITE,
					       RIGHT_READ | RIGHT_EXECUTE };
	struct vtl_guest *guest = &self->guests[0];
	enum access access;
	unsigned int i;
	int vm;

	for (vm = 1; vm <= self->vms; vm++)
		for (i = 0; i < ARRAY_SIZE(rights); i++)
			for (access = 0; access < ACCESSES; access++) {
				const unsigned int needed[] = { RIGHT_READ,
								RIGHT_WRITE,
								RIGHT_EXECUTE };

				ASSERT_EQ(0,
					  set_rights(self, vm, vm, rights[i]));
				/* No translation with more rights is used. */
				prepare(guest, vm, AT_READ, own(self, vm), 0,
					1);
				ASSERT_EQ(0, vtl_run(guest));
				if (rights[i] & needed[access])
					expect_allowed(_metadata, self, guest,
						       vm, vm, access);
				else
					expect_refused(_metadata, self, guest,
						       vm, vm, access);
			}
}

TEST_F(isolation, two_share_what_both_were_given_and_a_third_has_no_part)
{
	struct vtl_guest *guest = &self->guests[0];
	int owner, other, third;
	enum access access;

	for (owner = 1; owner <= self->vms; owner++) {
		other = owner % self->vms + 1;
		third = other % self->vms + 1;
		ASSERT_EQ(0, set_rights(self, owner, other,
					RIGHT_READ | RIGHT_WRITE));
		expect_allowed(_metadata, self, guest, owner, owner, WRITE);
		expect_allowed(_metadata, self, guest, other, owner, READ);
		expect_allowed(_metadata, self, guest, other, owner, WRITE);
		expect_allowed(_metadata, self, guest, owner, owner, READ);
		expect_refused(_metadata, self, guest, other, owner, EXECUTE);
		/* Of two VMs, none is the third. */
		for (access = 0; access < ACCESSES && self->vms > 2; access++)
			expect_refused(_metadata, self, guest, third, owner,
				       access);
		/* The other VM loses its right, the owner keeps it. */
		ASSERT_EQ(0, set_rights(self, owner, other, 0));
		prepare(guest, other, AT_READ, own(self, owner) + AT_WORD,
			0xbad, 1);
		ASSERT_EQ(0, vtl_run(guest));
		EXPECT_EQ(READ, refused(guest, own(self, owner) + AT_WORD));
		expect_allowed(_metadata, self, guest, owner, owner, WRITE);
	}
}

struct runner {
	SELF *self;
	pthread_t thread;
	int cpu, vm, result;
};

/* Counts in memory until the right is removed. */
static void *count(void *argument)
{
	struct runner *runner = argument;
	struct vtl_guest *guest = &runner->self->guests[runner->cpu];
	volatile bool is_over = false;

	while (!is_over) {
		runner->result = vtl_enter(guest);
		is_over = runner->result && runner->result != -EINTR;
		if (!runner->result &&
		    (vtl_exit_reason(guest) & 0xffff) == EXIT_EPT_VIOLATION)
			is_over = true;
	}
	return NULL;
}

static volatile uint32_t *counter(const SELF *self, int vm, int cpu)
{
	return (void *)(self->memory + vm * VTL_LARGE_SIZE + AT_COUNTER(cpu));
}

/* Removes a right, makes every processor invalidate, and waits until all have. */
static int take_right(SELF *self, int vm)
{
	uint64_t mask = (1 << CPUS) - 1;
	struct mshv_kick_cpus request = { .len_bits = 64,
					  .cpu_mask = (uintptr_t)&mask,
					  .flags = MSHV_KICK_WAIT };
	int cpu;

	if (set_rights(self, vm, vm, RIGHT_READ))
		return -1;
	for (cpu = 0; cpu < CPUS; cpu++)
		__atomic_fetch_or(&self->guests[cpu].run->tdx.entry_rcx, 1,
				  __ATOMIC_SEQ_CST);
	return ioctl(self->guests[0].fd, MSHV_KICK_CPUS, &request);
}

TEST_F(isolation, a_right_that_is_taken_is_gone_on_all_processors_at_once)
{
	struct runner runners[CPUS];
	uint32_t counts[CPUS];
	int cpu, vm;

	for (vm = 1; vm <= self->vms; vm++) {
		for (cpu = 0; cpu < CPUS; cpu++) {
			*counter(self, vm, cpu) = 0;
			prepare(&self->guests[cpu], vm, AT_COUNT,
				own(self, vm) + AT_COUNTER(cpu), 0, 1);
			runners[cpu] = (struct runner){ .self = self,
							.cpu = cpu,
							.vm = vm };
			ASSERT_EQ(0, vtl_thread_on(&runners[cpu].thread, cpu,
						   count, &runners[cpu]));
		}
		for (cpu = 0; cpu < CPUS; cpu++)
			while (!*counter(self, vm, cpu))
				usleep(1000);
		ASSERT_EQ(0, take_right(self, vm));
		for (cpu = 0; cpu < CPUS; cpu++)
			counts[cpu] = *counter(self, vm, cpu);
		for (cpu = 0; cpu < CPUS; cpu++) {
			struct vtl_guest *guest = &self->guests[cpu];

			pthread_join(runners[cpu].thread, NULL);
			EXPECT_EQ(0, runners[cpu].result);
			EXPECT_EQ(WRITE,
				  refused(guest,
					  own(self, vm) + AT_COUNTER(cpu)));
			/* No write after the kick had returned. */
			EXPECT_EQ(counts[cpu], *counter(self, vm, cpu));
		}
	}
}

TEST_HARNESS_MAIN
