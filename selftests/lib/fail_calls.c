// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of fail_nth.c: each can be repeated, whatever happened to the
 * previous one.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fail_calls.h"
#include "hvcall.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int answer(int result)
{
	return result < 0 ? -errno : 0;
}

static int open_nodes(struct world *world)
{
	static const char *const nodes[] = { DEV_MSHV, DEV_MSHV_VTL,
					     DEV_MSHV_VTL_LOW };
	size_t i;

	(void)world;
	for (i = 0; i < COUNT(nodes); i++) {
		int fd = open(nodes[i], O_RDWR);

		if (fd < 0)
			return -errno;
		close(fd);
	}
	return 0;
}

static int check_extension(struct world *world)
{
	uint32_t number = MSHV_CAP_INFO;

	return answer(ioctl(world->mshv, MSHV_CHECK_EXTENSION, &number));
}

static int create(struct world *world)
{
	int fd = ioctl(world->mshv, MSHV_CREATE_VTL, NULL);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int info(struct world *world)
{
	struct mshv_vtl_info head = { .head.size = sizeof(head) };

	return answer(ioctl(world->mshv, MSHV_VTL_INFO, &head));
}

static int policy(struct world *world)
{
	struct mshv_vtl_policy line = { .head.size = sizeof(line) };

	return answer(ioctl(world->mshv, MSHV_VTL_POLICY, &line));
}

static int stats(struct world *world)
{
	struct mshv_vtl_stats all = { .head.size = sizeof(all) };

	return answer(ioctl(world->guest.fd, MSHV_VTL_STATS, &all));
}

static int run(struct world *world)
{
	world->guest.run->tdx.l2_enter_guest_state.rip = world->base;
	return vtl_run(&world->guest);
}

static int run_and_flush(struct world *world)
{
	world->guest.run->tdx.vp_state.flags = MSHV_TDX_VP_WBINVD;
	return run(world);
}

static int registers(struct world *world)
{
	struct mshv_register list[2] = { { .name = MSHV_REGISTER_DR0 },
					 { .name = MSHV_REGISTER_DR1 } };
	struct mshv_vp_registers head = { .count = 2,
					  .registers = (uintptr_t)list };

	if (ioctl(world->guest.fd, MSHV_GET_VP_REGISTERS, &head))
		return -errno;
	return answer(ioctl(world->guest.fd, MSHV_SET_VP_REGISTERS, &head));
}

static int xsave(struct world *world, unsigned long command)
{
	struct mshv_vtl_xsave ask = { 0 };

	if (ioctl(world->guest.fd, MSHV_VTL_XSAVE_GET, &ask))
		return -errno;
	ask.image = (uintptr_t)world->image;
	if (ask.size > world->image_size)
		return -E2BIG;
	if (command == MSHV_VTL_XSAVE_GET)
		ask.xfeatures = 0;
	return answer(ioctl(world->guest.fd, command, &ask));
}

static int get_xsave(struct world *world)
{
	return xsave(world, MSHV_VTL_XSAVE_GET);
}

static int set_xsave(struct world *world)
{
	return xsave(world, MSHV_VTL_XSAVE_SET);
}

/* Sets one, and removes it. */
static int poll_file(struct world *world)
{
	struct mshv_set_poll_file call = { .cpu = 0, .fd = world->event };
	int result;

	result = answer(ioctl(world->guest.fd, MSHV_SET_POLL_FILE, &call));
	call.fd = -1;
	return answer(ioctl(world->guest.fd, MSHV_SET_POLL_FILE, &call)) ?:
									   result;
}

/* Sets a VP assist page, which no run uses, and removes it. */
static int switch_setup(struct world *world)
{
	struct mshv_vtl_switch call = { .head = { sizeof(call), 0 },
					.assist = (uintptr_t)world->image };
	int result =
		answer(ioctl(world->guest.fd, MSHV_VTL_SWITCH_SETUP, &call));

	call.assist = 0;
	return answer(ioctl(world->guest.fd, MSHV_VTL_SWITCH_SETUP, &call)) ?:
		       result;
}

static int kick(struct world *world)
{
	uint64_t mask = 1;
	struct mshv_kick_cpus call = { .len_bits = 1,
				       .cpu_mask = (uintptr_t)&mask,
				       .flags = MSHV_KICK_WAIT };

	return answer(ioctl(world->guest.fd, MSHV_KICK_CPUS, &call));
}

static int tdcall(struct world *world, struct mshv_tdcall call)
{
	int result = ioctl(world->guest.fd, MSHV_TDCALL, &call);

	if (result)
		return -errno;
	return vtl_status(&call) == TDX_SUCCESS ? 0 : -ENOMEM;
}

static int read_field(struct world *world)
{
	return tdcall(world, (struct mshv_tdcall){ .rax = TDG_VP_RD,
						   .rdx = VMCS_GUEST_CR3 });
}

static int write_field(struct world *world)
{
	return tdcall(world, (struct mshv_tdcall){ .rax = TDG_VP_WR,
						   .rdx = VMCS32(0x4002),
						   .r8 = 0xb5226dfa,
						   .r9 = 4 });
}

/* An APIC page of VM 2, which the kernel keeps a list of. */
static int write_apic_page(struct world *world)
{
	struct mshv_tdcall call = {
		.rax = TDG_VP_WR,
		.rdx = VMCS_VIRTUAL_APIC_PAGE + (8ULL << 56),
		.r8 = world->base + 3 * VTL_PAGE_SIZE,
		.r9 = ~0ULL,
	};

	return tdcall(world, call);
}

static int refused_tdcall(struct world *world)
{
	struct mshv_tdcall call = { .rax = 25 };

	return answer(ioctl(world->guest.fd, MSHV_TDCALL, &call));
}

static int add_memory(struct world *world)
{
	struct mshv_vtl_ram_disposition range = {
		.start_pfn = (world->base + VTL_LARGE_SIZE) / VTL_PAGE_SIZE,
		.last_pfn = (world->base + 2 * VTL_LARGE_SIZE) / VTL_PAGE_SIZE,
	};

	return answer(ioctl(world->guest.fd, MSHV_ADD_VTL0_MEMORY, &range));
}

static int cr4_fixed1(struct world *world)
{
	uint64_t value;

	return answer(ioctl(world->guest.fd, MSHV_READ_VMX_CR4_FIXED1, &value));
}

static int redirect(struct world *world)
{
	struct mshv_map_device_intr map = { .vector = 0x41,
					    .create_mapping = 1 };
	int fd = vtl_create(), result;

	(void)world;
	if (fd < 0)
		return -errno;
	result = answer(ioctl(fd, MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, &map));
	/* It ends with its file. */
	close(fd);
	return result;
}

static int map_page(int fd, uint64_t offset, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			(off_t)offset);

	if (at == MAP_FAILED)
		return -errno;
	munmap(at, size);
	return 0;
}

static int map_run_page(struct world *world)
{
	uint64_t page = MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_RUN_PAGE, 0);

	return map_page(world->guest.fd, page * VTL_PAGE_SIZE, VTL_PAGE_SIZE);
}

static int map_memory(struct world *world)
{
	return map_page(world->low, world->base, VTL_LARGE_SIZE);
}

static int map_apic_page(struct world *world)
{
	uint64_t page = MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_VAPIC_PAGE, 0);

	return map_page(world->guest.fd, page * VTL_PAGE_SIZE, VTL_PAGE_SIZE);
}

static int map_audit_ring(struct world *world)
{
	uint64_t page = MSHV_VTL_MMAP_PGOFF(MSHV_VTL_MMAP_AUDIT_RING, 0);
	struct mshv_vtl_info info = { .head.size = sizeof(info) };
	int fd = world->guest.fd, mshv = open(DEV_MSHV, O_RDWR), result;
	size_t size;
	void *at;

	if (mshv < 0)
		return -errno;
	result = answer(ioctl(mshv, MSHV_VTL_INFO, &info));
	close(mshv);
	if (result)
		return result;
	size = info.audit_records * sizeof(struct mshv_vtl_audit_record);
	at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, page * VTL_PAGE_SIZE);
	if (at == MAP_FAILED)
		return -errno;
	munmap(at, size);
	return 0;
}

/* A fault that runs out of memory is tried again. */
static int fault_in(struct world *world, uint64_t gpa)
{
	size_t size = 4 * VTL_PAGE_SIZE, offset;
	unsigned char *at =
		mmap(NULL, size, PROT_READ, MAP_SHARED, world->low, (off_t)gpa);

	if (at == MAP_FAILED)
		return -errno;
	for (offset = 0; offset < size; offset += VTL_PAGE_SIZE)
		(void)*(volatile unsigned char *)(at + offset);
	munmap(at, size);
	return 0;
}

static int fault_of_frames(struct world *world)
{
	return fault_in(world, world->base);
}

/* What add_memory() has registered. */
static int fault_of_pages(struct world *world)
{
	uint64_t gpa = world->base + VTL_LARGE_SIZE;

	return vtl_accept(world->guest.fd, gpa, VTL_LARGE_SIZE) ?
		       -ENOMEM :
		       fault_in(world, gpa);
}

/* Of pages that nothing else here uses. */
static int accept(struct world *world, uint64_t gpa)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_ACCEPT, .rcx = gpa };

	if (ioctl(world->guest.fd, MSHV_TDCALL, &call))
		return -errno;
	return vtl_status(&call) == TDX_SUCCESS ||
			       vtl_status(&call) == TDX_PAGE_ALREADY_ACCEPTED ?
		       0 :
		       -ENOMEM;
}

static int release_page(struct world *world, uint64_t gpa_and_level)
{
	struct mshv_tdcall call = { .rax = TDG_MEM_PAGE_RELEASE,
				    .rcx = gpa_and_level };

	return accept(world, gpa_and_level) ?:
		       tdcall(world, call)  ?:
					      accept(world, gpa_and_level);
}

/* Earlier programs may have accepted it as a part of a large page. */
static int release(struct world *world)
{
	uint64_t gpa = world->base + 2 * VTL_LARGE_SIZE;
	int result = release_page(world, gpa);

	return result == -ENOMEM ? release_page(world, gpa | 1) : result;
}

/* Shares a page, accesses it, and makes it private again. */
static int visibility(struct world *world)
{
	uint64_t gpa = world->base + 3 * VTL_LARGE_SIZE;
	int fd = open(DEV_MSHV_HVCALL, O_RDWR), result;

	if (fd < 0)
		return -errno;
	result = answer(hvcall_allow(fd, 64))			    ?:
			 hvcall_show_host(fd, gpa, FOR_HOST)	    ?:
			 fault_in(world, MSHV_VTL_LOW_SHARED | gpa) ?:
			 hvcall_show_host(fd, gpa, 0)		    ?:
			 answer(vtl_accept(world->guest.fd, gpa,
					   4 * VTL_PAGE_SIZE));
	close(fd);
	return result;
}

static int note(struct world *world)
{
	struct mshv_vtl_audit_note request = { .head.size = sizeof(request) };

	return answer(ioctl(world->guest.fd, MSHV_VTL_AUDIT_NOTE, &request));
}

static int reset(struct world *world)
{
	struct mshv_vtl_head head = { .size = sizeof(head) };

	return answer(ioctl(world->guest.fd, MSHV_VTL_RESET, &head));
}

static int hypercall(struct world *world)
{
	unsigned char list[12] = { [0x5d / 8] = 1 << 0x5d % 8 };
	struct mshv_vtl_hvcall_setup setup = {
		.bitmap_array_size = sizeof(list),
		.allow_bitmap_ptr = (uintptr_t)list,
	};
	struct {
		uint32_t connection;
		uint16_t flag, zero;
	} event = { 4, 0, 0 };
	struct mshv_vtl_hvcall call = { .control = 0x5d,
					.input_size = sizeof(event),
					.input_ptr = (uintptr_t)&event };
	int fd = open(DEV_MSHV_HVCALL, O_RDWR), result;

	(void)world;
	if (fd < 0)
		return -errno;
	result = ioctl(fd, MSHV_HVCALL_SETUP, &setup) ||
				 ioctl(fd, MSHV_HVCALL, &call) ?
			 -errno :
			 0;
	close(fd);
	return result;
}

static int signal_event(struct world *world)
{
	struct mshv_vtl_signal_event call = { .connection_id = 4 };

	return answer(ioctl(world->sint, MSHV_SINT_SIGNAL_EVENT, &call));
}

static int post_message(struct world *world)
{
	struct mshv_vtl_sint_post_msg call = { .message_type = 1,
					       .connection_id = 4,
					       .payload_size = 8,
					       .payload_ptr =
						       (uintptr_t)&call };

	return answer(ioctl(world->sint, MSHV_SINT_POST_MESSAGE, &call));
}

static int set_eventfd(struct world *world)
{
	struct mshv_vtl_set_eventfd call = { .fd = world->event, .flag = 9 };

	return answer(ioctl(world->sint, MSHV_SINT_SET_EVENTFD, &call));
}

static int pause_stream(struct world *world)
{
	struct mshv_sint_mask call = { .mask = 1 };

	return answer(
		ioctl(world->sint, MSHV_SINT_PAUSE_MESSAGE_STREAM, &call));
}

#define ANY false
#define HYPERV true

const struct fail_call fail_calls[] = {
	{ "open", open_nodes, ANY },
	{ "CHECK_EXTENSION", check_extension, ANY },
	{ "CREATE_VTL", create, ANY },
	{ "VTL_INFO", info, ANY },
	{ "VTL_POLICY", policy, ANY },
	{ "VTL_STATS", stats, ANY },
	{ "RETURN_TO_LOWER_VTL", run, ANY },
	{ "RETURN_TO_LOWER_VTL with a flush", run_and_flush, ANY },
	{ "GET_VP_REGISTERS, SET_VP_REGISTERS", registers, ANY },
	{ "VTL_XSAVE_GET", get_xsave, ANY },
	{ "VTL_XSAVE_SET", set_xsave, ANY },
	{ "SET_POLL_FILE", poll_file, ANY },
	{ "VTL_SWITCH_SETUP", switch_setup, ANY },
	{ "KICK_CPUS", kick, ANY },
	{ "TDCALL VP.RD", read_field, ANY },
	{ "TDCALL VP.WR", write_field, ANY },
	{ "TDCALL VP.WR of an APIC page", write_apic_page, ANY },
	{ "TDCALL, refused", refused_tdcall, ANY },
	{ "ADD_VTL0_MEMORY", add_memory, ANY },
	{ "READ_VMX_CR4_FIXED1", cr4_fixed1, ANY },
	{ "MAP_REDIRECTED_DEVICE_INTERRUPT", redirect, ANY },
	{ "mmap of a run page", map_run_page, ANY },
	{ "mmap of memory", map_memory, ANY },
	{ "mmap of an APIC page", map_apic_page, ANY },
	{ "mmap of an audit ring", map_audit_ring, ANY },
	{ "VTL_AUDIT_NOTE", note, ANY },
	{ "fault of frames", fault_of_frames, ANY },
	{ "fault of pages", fault_of_pages, ANY },
	{ "TDCALL MEM.PAGE.RELEASE", release, ANY },
	{ "HVCALL", hypercall, HYPERV },
	{ "SINT_SIGNAL_EVENT", signal_event, HYPERV },
	{ "SINT_POST_MESSAGE", post_message, HYPERV },
	{ "SINT_SET_EVENTFD", set_eventfd, HYPERV },
	{ "SINT_PAUSE_MESSAGE_STREAM", pause_stream, HYPERV },
	{ "HVCALL ModifyHostVisibility", visibility, HYPERV },
	/* Last: no guest runs after it. */
	{ "VTL_RESET", reset, ANY },
};

const size_t fail_call_count = COUNT(fail_calls);
