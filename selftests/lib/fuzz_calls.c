// SPDX-License-Identifier: GPL-2.0
/*
 * Calls of the fuzzer: operands that are nearly right, for every command.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fuzz.h"
#include "hvcall.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* xorshift64* */
uint64_t fuzz_random(struct fuzz_thread *thread)
{
	thread->random ^= thread->random >> 12;
	thread->random ^= thread->random << 25;
	thread->random ^= thread->random >> 27;
	return thread->random * 0x2545f4914f6cdd1dULL;
}

uint64_t fuzz_below(struct fuzz_thread *thread, uint64_t limit)
{
	return (fuzz_random(thread) >> 16) % limit;
}

bool fuzz_once_in(struct fuzz_thread *thread, uint64_t times)
{
	return !fuzz_below(thread, times);
}

/* Small, around a power of two, negative, or anything. */
uint64_t fuzz_value(struct fuzz_thread *thread)
{
	uint64_t power = 1ULL << fuzz_below(thread, 64);

	switch (fuzz_below(thread, 6)) {
	case 0:
		return fuzz_below(thread, 20);
	case 1:
		return power - 1;
	case 2:
		return power;
	case 3:
		return power | 1ULL << fuzz_below(thread, 64);
	case 4:
		return -fuzz_below(thread, 20);
	default:
		return fuzz_random(thread);
	}
}

/* Mostly of VTL0's memory; of this kernel's; at an edge; anywhere. */
uint64_t fuzz_gpa(struct fuzz_thread *thread)
{
	const struct fuzz_shared *shared = thread->shared;
	uint64_t page = fuzz_below(thread, shared->size / VTL_PAGE_SIZE);

	switch (fuzz_below(thread, 9)) {
	case 0:
		return shared->system_ram;
	case 1:
		return shared->base + shared->size -
		       VTL_PAGE_SIZE * fuzz_below(thread, 2);
	case 2:
		return fuzz_value(thread);
	case 3:
		return shared->base + VTL_LARGE_SIZE * (page / (VTL_LARGE_SIZE /
								VTL_PAGE_SIZE));
	case 4:
		return fuzz_shown(thread);
	default:
		return shared->base + page * VTL_PAGE_SIZE;
	}
}

uint64_t fuzz_shown(struct fuzz_thread *thread)
{
	return thread->shared->base + FUZZ_SHOWN_OFFSET +
	       VTL_PAGE_SIZE * fuzz_below(thread, FUZZ_SHOWN_PAGES);
}

int fuzz_file(struct fuzz_thread *thread)
{
	return thread->shared->files[fuzz_below(thread, FUZZ_FILES)];
}

/* Replaces a file that others may be using. */
void fuzz_put_file(struct fuzz_thread *thread, int file)
{
	_Atomic int *slot =
		&thread->shared->files[fuzz_below(thread, FUZZ_FILES)];
	int old = atomic_exchange(slot, file);

	if (old >= 0)
		close(old);
}

static void make_head(struct fuzz_thread *thread, void *operand)
{
	static const uint32_t sizes[] = {
		0,
		7,
		8,
		sizeof(struct mshv_vtl_info),
		sizeof(struct mshv_vtl_stats),
		sizeof(struct mshv_vtl_audit_checkpoint),
		FUZZ_OPERAND
	};
	struct mshv_vtl_head *head = operand;

	memset(operand, 0, FUZZ_OPERAND);
	head->size = sizes[fuzz_below(thread, COUNT(sizes))] +
		     fuzz_below(thread, 3) - 1;
	head->selector = fuzz_once_in(thread, 4) ? fuzz_value(thread) :
						   fuzz_below(thread, 3);
}

static void make_registers(struct fuzz_thread *thread, void *operand)
{
	static const uint32_t names[] = {
		MSHV_REGISTER_XFEM, MSHV_REGISTER_DR0, MSHV_REGISTER_DR1,
		MSHV_REGISTER_DR2,  MSHV_REGISTER_DR3, MSHV_REGISTER_DR6
	};
	struct mshv_vp_registers *call = operand;
	struct mshv_register *registers = (void *)(call + 1);
	unsigned int i;

	memset(operand, 0, FUZZ_OPERAND);
	call->count = fuzz_once_in(thread, 6) ? fuzz_value(thread) :
						1 + fuzz_below(thread, 16);
	call->registers = fuzz_once_in(thread, 8) ? fuzz_value(thread) :
						    (uintptr_t)registers;
	for (i = 0; i < 17; i++) {
		registers[i].name = names[fuzz_below(thread, COUNT(names))];
		registers[i].value[0] = fuzz_value(thread);
		if (fuzz_once_in(thread, 20))
			registers[i].name = fuzz_value(thread);
		if (fuzz_once_in(thread, 20))
			registers[i].reserved[fuzz_below(thread, 3)] = 1;
		if (fuzz_once_in(thread, 20))
			registers[i].value[1] = fuzz_value(thread);
	}
}

/* An image that may be good but for a few words, after the operand. */
static void make_xsave(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_xsave *call = operand;
	uint64_t *image = (void *)((uint8_t *)operand + 64);
	unsigned int i;

	memset(operand, 0, FUZZ_OPERAND);
	/* Queries size and components, if this file can. */
	ioctl(fuzz_file(thread), MSHV_VTL_XSAVE_GET, call);
	if (call->size > FUZZ_OPERAND - 64)
		call->size = 0;
	for (i = 0; i < 52; i++)
		image[i] = fuzz_value(thread);
	image[3] = fuzz_once_in(thread, 4) ? fuzz_value(thread) : 0x1f80;
	image[64] = fuzz_once_in(thread, 4) ? fuzz_value(thread) :
					      call->xfeatures;
	if (fuzz_once_in(thread, 8))
		image[65 + fuzz_below(thread, 7)] = fuzz_value(thread);
	for (i = 72; i < call->size / 8; i++)
		image[i] = fuzz_value(thread);
	call->image = fuzz_once_in(thread, 8) ? fuzz_value(thread) :
						(uintptr_t)image;
	if (fuzz_once_in(thread, 3))
		call->xfeatures = 0;
	if (fuzz_once_in(thread, 8))
		call->size = fuzz_value(thread);
	if (fuzz_once_in(thread, 8))
		call->flags = fuzz_value(thread);
}

static void make_poll_file(struct fuzz_thread *thread, void *operand)
{
	struct mshv_set_poll_file *call = operand;
	int files[] = { thread->shared->event, fuzz_file(thread), -1,
			(int)fuzz_value(thread) };

	call->cpu = fuzz_once_in(thread, 6) ?
			    fuzz_value(thread) :
			    fuzz_below(thread, thread->shared->cpus);
	call->fd = files[fuzz_below(thread, COUNT(files))];
}

static void make_kick(struct fuzz_thread *thread, void *operand)
{
	struct mshv_kick_cpus *call = operand;
	uint64_t *mask = (void *)(call + 1);

	*mask = fuzz_once_in(thread, 4) ? fuzz_value(thread) :
					  fuzz_below(thread, 4);
	mask[1] = 0;
	call->len_bits = fuzz_once_in(thread, 4) ? fuzz_value(thread) : 64;
	call->cpu_mask = fuzz_once_in(thread, 8) ? fuzz_value(thread) :
						   (uintptr_t)mask;
	call->flags = fuzz_once_in(thread, 8) ? fuzz_value(thread) :
						fuzz_below(thread, 4);
}

static void make_memory(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_ram_disposition *call = operand;

	call->start_pfn = fuzz_gpa(thread) / VTL_PAGE_SIZE & ~511ULL;
	call->last_pfn = call->start_pfn + 512 * fuzz_below(thread, 5);
	if (fuzz_once_in(thread, 4))
		call->start_pfn |= fuzz_value(thread);
	if (fuzz_once_in(thread, 4))
		call->last_pfn = fuzz_value(thread);
}

static void make_tdcall(struct fuzz_thread *thread, void *operand)
{
	static const uint64_t fields[] = {
		FIELD_NUM_L2_VMS,	FIELD_NUM_VCPUS,
		FIELD_NOTIFY_ENABLES,	FIELD_TDX_FEATURES0,
		FIELD_L2_CTLS(1),	FIELD_TSC_DEADLINE(1),
		FIELD_MSR_BITMAP(3),	VMCS_GUEST_CR3,
		VMCS64(0x6802),		VMCS32(0x4002),
		VMCS_VIRTUAL_APIC_PAGE, VMCS16(0x0800)
	};
	static const uint8_t leaves[] = { TDG_VM_RD,
					  TDG_VP_RD,
					  TDG_SYS_RD,
					  TDG_MEM_PAGE_ACCEPT,
					  TDG_MEM_PAGE_ATTR_RD,
					  TDG_MEM_PAGE_ATTR_WR,
					  TDG_MEM_PAGE_RELEASE,
					  TDG_VP_INVGLA };
	struct mshv_tdcall *call = operand;

	memset(call, 0, sizeof(*call));
	call->rax = fuzz_once_in(thread, 6) ?
			    fuzz_value(thread) :
			    leaves[fuzz_below(thread, COUNT(leaves))];
	call->rdx = fields[fuzz_below(thread, COUNT(fields))];
	if (call->rax == TDG_MEM_PAGE_ACCEPT ||
	    call->rax == TDG_MEM_PAGE_ATTR_RD ||
	    call->rax == TDG_MEM_PAGE_ATTR_WR) {
		/* Execute without read is a page state that QEMU can't show. */
		call->rcx = fuzz_gpa(thread) | fuzz_below(thread, 3);
		call->rdx = (0x8000ULL | RIGHTS_ALL) << 16;
		call->r8 = 0xfULL << 16;
	} else if (call->rax == TDG_MEM_PAGE_RELEASE) {
		call->rcx = fuzz_shown(thread);
	} else if (fuzz_once_in(thread, 2)) {
		call->rcx = fuzz_value(thread);
		call->r8 = fuzz_value(thread);
		call->r9 = fuzz_value(thread);
	}
	if (fuzz_once_in(thread, 8) && call->rax != TDG_MEM_PAGE_ATTR_WR)
		call->rdx = fuzz_value(thread);
}

/*
 * A write to the VMCS of a lower VTL: fields on which an entry depends and any
 * others, with values that are nearly right. Whatever is accepted, the next
 * entry is made or refused, and the TD survives.
 */
static void make_field_write(struct fuzz_thread *thread, void *operand)
{
	static const uint64_t fields[] = {
		VMCS32(0x4016),	  VMCS32(0x4016), VMCS32(0x4018),
		VMCS32(0x401a),	  VMCS32(0x401c), VMCS32(0x401e),
		VMCS32(0x400a),	  VMCS32(0x4002), VMCS32(0x4004),
		VMCS32(0x4012),	  VMCS32(0x4824), VMCS64(0x2034),
		VMCS64(0x2040),	  VMCS64(0x2802), VMCS64(0x6800),
		VMCS64(0x6802),	  VMCS64(0x6804), VMCS64(0x2806),
		FIELD_L2_CTLS(1), VMCS16(0x0806), VMCS64(0x6822),
		VMCS64(0x681a)
	};
	static const uint64_t values[] = { 0x80000b0d, 0x8000030d, 0x80000202,
					   0x80000700, 0x80000480, 0x20,
					   0x31,       0x600,	   3,
					   15,	       16,	   0 };
	struct mshv_tdcall *call = operand;

	memset(call, 0, sizeof(*call));
	call->rax = TDG_VP_WR;
	call->rdx = fuzz_once_in(thread, 4) ?
			    VMCS64(fuzz_below(thread, 0x7000)) :
			    fields[fuzz_below(thread, COUNT(fields))];
	call->r8 = fuzz_once_in(thread, 3) ?
			   fuzz_value(thread) :
			   values[fuzz_below(thread, COUNT(values))];
	call->r9 = fuzz_once_in(thread, 4) ? fuzz_value(thread) : ~0ULL;
}

static void make_hvcall_setup(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_hvcall_setup *call = operand;
	unsigned char *list = (unsigned char *)operand + sizeof(*call);

	memset(list, 0xff, 64);
	call->bitmap_array_size = fuzz_once_in(thread, 8) ? fuzz_value(thread) :
							    64;
	call->allow_bitmap_ptr = (uintptr_t)list;
}

/* Pages are shared and made private again while other threads have them mapped. */
static void make_visibility(struct fuzz_thread *thread, void *operand)
{
	static const uint32_t values[] = { 0, 0, 3, 3, 3, 1, 2 };
	struct mshv_vtl_hvcall *call = operand;
	struct visibility *input = (struct visibility *)(call + 1);
	uint64_t count = 1 + fuzz_below(thread, COUNT(input->pages)), i;

	call->control = MODIFY_HOST_VISIBILITY | REPS(count) |
			DONE(fuzz_below(thread, count));
	call->input_size = sizeof(*input);
	call->input_ptr = (uintptr_t)input;
	call->output_size = 0;
	input->partition = ~0ULL;
	input->visibility = values[fuzz_below(thread, COUNT(values))];
	for (i = 0; i < COUNT(input->pages); i++)
		input->pages[i] = fuzz_shown(thread) / VTL_PAGE_SIZE;
}

static void make_hvcall(struct fuzz_thread *thread, void *operand)
{
	static const uint16_t codes[] = { 0x50, 0x51, 0x5c,  0x5d,  0xc0,
					  0xc1, 0x7e, 0x8,   0x123, 0x0d,
					  0x0f, 0x9a, 0x106, 0x107 };
	struct mshv_vtl_hvcall *call = operand;

	call->control = fuzz_once_in(thread, 4) ?
				fuzz_value(thread) :
				codes[fuzz_below(thread, COUNT(codes))] |
					fuzz_below(thread, 4) << 32;
	call->input_size =
		fuzz_below(thread, fuzz_once_in(thread, 4) ? 5000 : 300);
	call->input_ptr = (uintptr_t)operand;
	call->output_size = fuzz_below(thread, 5000);
	call->output_ptr = (uintptr_t)operand;
}

static void make_signal(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_signal_event *call = operand;

	call->connection_id = fuzz_below(thread, 8);
	call->flag = fuzz_once_in(thread, 4) ? fuzz_value(thread) :
					       fuzz_below(thread, 2049);
}

static void make_post(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_sint_post_msg *call = operand;

	call->message_type = fuzz_once_in(thread, 4) ? fuzz_value(thread) : 1;
	call->connection_id = fuzz_below(thread, 8);
	call->payload_size = fuzz_below(thread, 250);
	call->payload_ptr = fuzz_once_in(thread, 8) ? fuzz_value(thread) :
						      (uintptr_t)operand;
}

static void make_eventfd(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_set_eventfd *call = operand;

	call->fd = fuzz_once_in(thread, 2) ? thread->shared->event :
					     (int)fuzz_below(thread, 20) - 2;
	call->flag = fuzz_below(thread, 2049);
}

static void make_pause(struct fuzz_thread *thread, void *operand)
{
	struct mshv_sint_mask *call = operand;

	call->mask = fuzz_below(thread, 3);
}

static void make_redirect(struct fuzz_thread *thread, void *operand)
{
	struct mshv_map_device_intr *call = operand;

	memset(call, 0, sizeof(*call));
	call->vector = fuzz_below(thread, 0x110);
	call->apic_id = fuzz_below(thread, 3);
	call->create_mapping = fuzz_below(thread, 3);
}

/* The head as ever; an address of a page, of none, or nothing. */
static void make_switch(struct fuzz_thread *thread, void *operand)
{
	struct mshv_vtl_switch *call = operand;

	make_head(thread, operand);
	call->assist = fuzz_once_in(thread, 2) ?
			       (uintptr_t)operand & ~(VTL_PAGE_SIZE - 1) :
			       fuzz_value(thread);
	call->flags = fuzz_once_in(thread, 8) ? fuzz_value(thread) : 0;
}

static void make_number(struct fuzz_thread *thread, void *operand)
{
	uint64_t value = fuzz_value(thread);

	memcpy(operand, &value, sizeof(value));
}

static const struct {
	unsigned long number;
	unsigned int size;
	void (*make)(struct fuzz_thread *thread, void *operand);
} commands[] = {
	{ MSHV_CHECK_EXTENSION, 4, make_number },
	{ MSHV_CREATE_VTL, 1, make_number },
	{ MSHV_VTL_INFO, sizeof(struct mshv_vtl_info), make_head },
	{ MSHV_VTL_STATS, sizeof(struct mshv_vtl_stats), make_head },
	{ MSHV_RETURN_TO_LOWER_VTL, 0, make_number },
	{ MSHV_RETURN_TO_LOWER_VTL, 0, make_number },
	{ MSHV_RETURN_TO_LOWER_VTL, 0, make_number },
	{ MSHV_RETURN_TO_LOWER_VTL, 0, make_number },
	{ MSHV_GET_VP_REGISTERS, 16, make_registers },
	{ MSHV_SET_VP_REGISTERS, 16, make_registers },
	{ MSHV_VTL_XSAVE_GET, sizeof(struct mshv_vtl_xsave), make_xsave },
	{ MSHV_VTL_XSAVE_SET, sizeof(struct mshv_vtl_xsave), make_xsave },
	{ MSHV_VTL_RESET, sizeof(struct mshv_vtl_head), make_head },
	{ MSHV_VTL_SWITCH_SETUP, sizeof(struct mshv_vtl_switch), make_switch },
	{ MSHV_VTL_AUDIT_CHECKPOINT, sizeof(struct mshv_vtl_audit_checkpoint),
	  make_head },
	{ MSHV_VTL_AUDIT_EVENT, sizeof(struct mshv_vtl_audit_event),
	  make_head },
	{ MSHV_VTL_AUDIT_NOTE, sizeof(struct mshv_vtl_audit_note), make_head },
	{ MSHV_SET_POLL_FILE, 8, make_poll_file },
	{ MSHV_KICK_CPUS, 24, make_kick },
	{ MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT, 16, make_redirect },
	{ MSHV_HVCALL_SETUP, 16, make_hvcall_setup },
	{ MSHV_HVCALL, 48, make_hvcall },
	{ MSHV_HVCALL, 48, make_hvcall },
	{ MSHV_HVCALL, 48, make_visibility },
	{ MSHV_SINT_SIGNAL_EVENT, 8, make_signal },
	{ MSHV_SINT_POST_MESSAGE, 24, make_post },
	{ MSHV_SINT_SET_EVENTFD, 8, make_eventfd },
	{ MSHV_SINT_PAUSE_MESSAGE_STREAM, 8, make_pause },
	{ MSHV_ADD_VTL0_MEMORY, 16, make_memory },
	{ MSHV_RESTORE_PARTITION_TIME, 24, make_number },
	{ MSHV_READ_VMX_CR4_FIXED1, 8, make_number },
	{ MSHV_TDCALL, 56, make_tdcall },
	{ MSHV_TDCALL, 56, make_tdcall },
	{ MSHV_TDCALL, 56, make_field_write },
	{ MSHV_TDCALL, 56, make_field_write },
};

/* Chooses a command and makes an operand. */
void fuzz_operand(struct fuzz_thread *thread, unsigned long *command,
		  void **argument)
{
	unsigned int which = fuzz_below(thread, COUNT(commands));
	unsigned int size = commands[which].size;

	*command = commands[which].number;
	*argument = thread->operand;
	commands[which].make(thread, thread->operand);
	switch (fuzz_below(thread, 24)) {
	case 0: /* Nothing lies after the operand, or not all of it is there. */
		*argument = thread->operand + FUZZ_OPERAND - size +
			    fuzz_below(thread, 3);
		break;
	case 1:
		*argument = thread->read_only;
		break;
	case 2:
		*argument = (void *)(uintptr_t)fuzz_value(thread);
		break;
	case 3:
		*command = _IOC(fuzz_below(thread, 4), MSHV_IOCTL,
				fuzz_below(thread, 0x70),
				fuzz_below(thread, 64));
		break;
	case 4:
		*command ^= 1UL << fuzz_below(thread, 32);
		break;
	case 5:
		thread->operand[fuzz_below(thread, size + 1)] ^=
			1 << fuzz_below(thread, 8);
		break;
	default:
		break;
	}
	/* The kernel itself warns when it gets no memory for struct pages. */
	if (*command == MSHV_ADD_VTL0_MEMORY)
		fuzz_faults_disarm(thread);
}
