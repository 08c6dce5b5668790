// SPDX-License-Identifier: GPL-2.0
/*
 * Puts VTL0 and VTL1 into memory and both VMs into 64-bit mode.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kselftest.h"
#include "vtl_pair.h"

/*
 * Offsets in the 128 KiB of memory for the VTLs of a VP, after the memory of other
 * guests.
 */
#define PARTS_AT 0x100000
#define PART_SIZE 0x20000
#define AT_CODE 0x0
#define AT_ASSIST 0x4000
#define AT_GDT 0x6000
/* Offsets in the 32 KiB of each VTL. */
#define AT_VTL(vm) (0x8000 * (vm))
#define AT_PML4 0x0
#define AT_PDPT 0x1000
#define AT_PD 0x2000
#define AT_IDT 0x3000
#define AT_DATA 0x4000
#define AT_STACK_END 0x7000

#define PRESENT_WRITABLE 3
#define USER_MODE 4
#define LARGE_PAGE 0x80
#define VIRTUAL_INTERRUPT_DELIVERY 0x200
/* Writes of TPR, EOI and self IPI go to the virtual-APIC page, all others exit. */
#define X2APIC_BITMAP 0x7ffffffffffff6ffULL

static void put64(volatile uint8_t *at, uint64_t value)
{
	*(volatile uint64_t *)at = value;
}

static void fill(volatile uint8_t *at, size_t size)
{
	while (size--)
		*at++ = 0;
}

/* Maps the 2 MiB page around the part, and the next one. */
static void put_page_tables(volatile uint8_t *own, uint64_t gpa,
			    uint64_t memory)
{
	put64(own + AT_PML4 + 8 * (memory >> 39 & 511),
	      (gpa + AT_PDPT) | PRESENT_WRITABLE);
	put64(own + AT_PDPT + 8 * (memory >> 30 & 511),
	      (gpa + AT_PD) | PRESENT_WRITABLE);
	memory &= -VTL_LARGE_SIZE;
	put64(own + AT_PD + 8 * (memory >> 21 & 511),
	      memory | PRESENT_WRITABLE | LARGE_PAGE);
	memory += VTL_LARGE_SIZE;
	put64(own + AT_PD + 8 * (memory >> 21 & 511),
	      memory | PRESENT_WRITABLE | LARGE_PAGE);
}

/* Sets the user bit in the entries of all levels. */
void pair_let_users(struct vtl_pair *pair)
{
	static const unsigned int tables[] = { AT_PML4, AT_PDPT, AT_PD };
	unsigned int i, entry;

	for (i = 0; i < 3; i++)
		for (entry = 0; entry < 512; entry++) {
			volatile uint64_t *at =
				(void *)(pair->part + AT_VTL(1) + tables[i] +
					 8 * entry);
			if (*at)
				*at |= USER_MODE;
		}
}

static void put_gate(volatile uint8_t *idt, unsigned int vector,
		     uint64_t handler)
{
	put64(idt + 16 * vector, (handler & 0xffff) | 0x80000 |
					 0x8e0000000000ULL |
					 (handler >> 16 & 0xffff) << 48);
	put64(idt + 16 * vector + 8, handler >> 32);
}

/* Gates for interrupts only: an exception has no handler. */
static void put_gates(volatile uint8_t *idt, uint64_t handler)
{
	unsigned int vector;

	for (vector = 32; vector < 256; vector++)
		put_gate(idt, vector, handler);
}

void pair_set_gate(struct vtl_pair *pair, int vm, unsigned int vector,
		   const unsigned char *handler)
{
	put_gate(pair->part + AT_VTL(vm) + AT_IDT, vector,
		 pair_address(pair, handler));
}

static void put_part(struct vtl_pair *pair)
{
	volatile uint8_t *part = pair->part;
	unsigned int i;
	int vm;

	fill(part, PART_SIZE);
	for (i = 0; pair_code + i < pair_code_end; i++)
		part[AT_CODE + i] = pair_code[i];
	/* Flat 64-bit code segment, and data segment. */
	put64(part + AT_GDT + 8, 0x00af9b000000ffffULL);
	put64(part + AT_GDT + 16, 0x00cf93000000ffffULL);
	for (vm = 1; vm <= 2; vm++) {
		volatile uint8_t *own = part + AT_VTL(vm);

		put_page_tables(own, pair->memory + AT_VTL(vm), pair->memory);
		put_gates(own + AT_IDT, pair->memory + AT_CODE);
	}
}

int pair_write_field(struct vtl_pair *pair, int vm, uint64_t id, uint64_t value,
		     uint64_t mask)
{
	struct vtl_guest guest = pair->guest;
	int result;

	guest.vm = vm;
	result = vtl_guest_write_field(&guest, id, value, mask);
	memcpy(pair->guest.why, guest.why, sizeof(guest.why));
	return result;
}

/* Changes the flat 32-bit state of a new guest to 64-bit mode. */
static int enter_long_mode(struct vtl_pair *pair, int vm)
{
	const uint64_t own = pair->memory + AT_VTL(vm);
	const struct {
		uint64_t id, value, mask;
	} fields[] = {
		{ VMCS64(0x6004), 0x80000031, ~0ULL },
		{ VMCS64(0x6800), 0x80000031, ~0ULL },
		{ VMCS64(0x6802), own + AT_PML4, ~0ULL },
		{ VMCS64(0x6006), 0x620, ~0ULL },
		{ VMCS64(0x6804), 0x2660, ~0ULL },
		{ VMCS64(0x2806), 0xd00, ~0ULL },
		{ VMCS32(0x4012), 0x200, 0x200 },
		{ VMCS32(0x4816), 0xa09b, 0xffffffff },
		{ VMCS64(0x6816), pair->memory + AT_GDT, ~0ULL },
		{ VMCS32(0x4810), 23, 0xffffffff },
		{ VMCS64(0x6818), own + AT_IDT, ~0ULL },
		{ VMCS32(0x4812), 0xfff, 0xffffffff },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (pair_write_field(pair, vm, fields[i].id, fields[i].value,
				     fields[i].mask))
			return -1;
	return 0;
}

int pair_deliver(struct vtl_pair *pair)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		if (pair_write_field(pair, 1, VMCS64(0x201c + 2 * i), 0, ~0ULL))
			return -1;
	return pair_write_field(pair, 1, FIELD_MSR_BITMAP(0x20), X2APIC_BITMAP,
				~0ULL) ||
	       pair_write_field(pair, 1, FIELD_MSR_BITMAP(0x120), X2APIC_BITMAP,
				~0ULL) ||
	       pair_write_field(pair, 1, VMCS32(0x401e),
				VIRTUAL_INTERRUPT_DELIVERY,
				VIRTUAL_INTERRUPT_DELIVERY);
}

static int take_back_delivery(struct vtl_pair *pair)
{
	return pair_write_field(pair, 1, FIELD_MSR_BITMAP(0x20), ~0ULL,
				~0ULL) ||
	       pair_write_field(pair, 1, FIELD_MSR_BITMAP(0x120), ~0ULL,
				~0ULL) ||
	       pair_write_field(pair, 1, VMCS32(0x401e), 0,
				VIRTUAL_INTERRUPT_DELIVERY);
}

uint64_t pair_address(const struct vtl_pair *pair, const unsigned char *label)
{
	return pair->memory + AT_CODE + (label - pair_code);
}

uint64_t pair_gpa(const struct vtl_pair *pair, volatile void *at)
{
	return pair->memory + ((volatile uint8_t *)at - pair->part);
}

unsigned int pair_vm(const struct vtl_pair *pair)
{
	return pair->guest.run->tdx.entry_rcx >> MSHV_TDX_ENTRY_VM_SHIFT & 3;
}

int pair_open(struct vtl_pair *pair, int cpu)
{
	struct vtl_guest *guest = &pair->guest;

	memset(pair, 0, sizeof(*pair));
	if (vtl_guest_open(guest, cpu) || vtl_guest_use_vm(guest, 2))
		return -1;
	guest->vm = 1;
	pair->memory = guest->base + PARTS_AT + cpu * PART_SIZE;
	pair->page = vtl_map_page(guest->fd, MSHV_VTL_MMAP_SWITCH_PAGE, cpu);
	pair->vapic = vtl_map_page(guest->fd, MSHV_VTL_MMAP_VAPIC_PAGE, cpu);
	pair->part = vtl_map_low(pair->memory, PART_SIZE);
	if (pair->page == MAP_FAILED || pair->vapic == MAP_FAILED ||
	    pair->part == MAP_FAILED) {
		snprintf(guest->why, sizeof(guest->why), "cannot map: %s",
			 strerror(errno));
		return -1;
	}
	pair->assist = pair->part + AT_ASSIST;
	pair->data[0] = (void *)(pair->part + AT_VTL(1) + AT_DATA);
	pair->data[1] = (void *)(pair->part + AT_VTL(2) + AT_DATA);
	return pair_write_field(pair, 2, VMCS_VIRTUAL_APIC_PAGE,
				pair->memory + PAIR_APIC_VM2, ~0ULL);
}

/* Sets VTL0 to run at @vtl0, and parks VTL1 at @vtl1. */
int pair_start(struct vtl_pair *pair, const unsigned char *vtl0,
	       const unsigned char *vtl1)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&pair->guest.run->tdx.l2_enter_guest_state;
	volatile struct mshv_vtl_parked *vtl1_state = &pair->page->parked[1];
	int vm;

	put_part(pair);
	fill(pair->vapic, VTL_PAGE_SIZE);
	fill((volatile uint8_t *)pair->page, sizeof(*pair->page));
	for (vm = 2; vm >= 1; vm--) {
		pair->guest.vm = vm;
		if (vtl_guest_start(&pair->guest) || enter_long_mode(pair, vm))
			return -1;
	}
	if (take_back_delivery(pair))
		return -1;
	fill((volatile uint8_t *)pair->guest.run->proxy_irr,
	     sizeof(pair->guest.run->proxy_irr));
	fill((volatile uint8_t *)pair->guest.run->proxy_irr_exit_mask,
	     sizeof(pair->guest.run->proxy_irr_exit_mask));
	state->rip = pair_address(pair, vtl0);
	state->gpr[RSP] = pair->memory + AT_VTL(1) + AT_STACK_END;
	state->gpr[RBP] = pair->memory + AT_VTL(1) + AT_DATA;
	vtl1_state->rip = pair_address(pair, vtl1);
	vtl1_state->rsp = pair->memory + AT_VTL(2) + AT_STACK_END;
	vtl1_state->rflags = 2;
	pair->page->enable = MSHV_VTL_SWITCH_CALL | MSHV_VTL_SWITCH_RETURN;
	return 0;
}

int pair_let_live_msrs_through(struct vtl_pair *pair)
{
	static const uint32_t msrs[] = { 0xc0000081, 0xc0000082, 0xc0000084,
					 0xc0000102, 0xc0000103 };
	unsigned int i;

	for (i = 0; i < 2 * 2 * ARRAY_SIZE(msrs); i++) {
		const uint32_t msr = msrs[i / 4];

		if (pair_write_field(
			    pair, 1 + i / 2 % 2,
			    FIELD_MSR_BITMAP(MSR_BITMAP_WORD(msr, i % 2)), 0,
			    1ULL << msr % 64))
			return -1;
	}
	return 0;
}

void pair_exchange(struct vtl_pair *pair)
{
	volatile struct mshv_tdx_vp_context *tdx = &pair->guest.run->tdx;
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&tdx->l2_enter_guest_state;
	unsigned int old = pair_vm(pair), new = 3 - old;
	const struct mshv_vtl_parked *next =
		(const struct mshv_vtl_parked *)&pair->page->parked[new - 1];
	struct mshv_vtl_parked left = {
		.rsp = state->gpr[RSP],
		.rip = state->rip,
		.rflags = state->rflags,
		.ssp = state->ssp,
		.rvi = state->rvi,
		.svi = state->svi,
		.msr_kernel_gs_base = tdx->vp_state.msr_kernel_gs_base,
		.msr_star = tdx->vp_state.msr_star,
		.msr_lstar = tdx->vp_state.msr_lstar,
		.msr_sfmask = tdx->vp_state.msr_sfmask,
		.msr_xss = tdx->vp_state.msr_xss,
		.msr_tsc_aux = tdx->vp_state.msr_tsc_aux,
	};

	state->gpr[RSP] = next->rsp;
	state->rip = next->rip;
	state->rflags = next->rflags;
	state->ssp = next->ssp;
	state->rvi = next->rvi;
	state->svi = next->svi;
	tdx->vp_state.msr_kernel_gs_base = next->msr_kernel_gs_base;
	tdx->vp_state.msr_star = next->msr_star;
	tdx->vp_state.msr_lstar = next->msr_lstar;
	tdx->vp_state.msr_sfmask = next->msr_sfmask;
	tdx->vp_state.msr_xss = next->msr_xss;
	tdx->vp_state.msr_tsc_aux = next->msr_tsc_aux;
	memcpy((void *)&pair->page->parked[old - 1], &left, sizeof(left));
	tdx->entry_rcx = (uint64_t)new << MSHV_TDX_ENTRY_VM_SHIFT;
}

int pair_set_up(struct vtl_pair *pair, volatile void *assist)
{
	struct mshv_vtl_switch setup = {
		.head = { sizeof(setup), pair->guest.cpu },
		.assist = (uintptr_t)assist,
	};

	return ioctl(pair->guest.fd, MSHV_VTL_SWITCH_SETUP, &setup) ? -errno :
								      0;
}

struct mshv_vtl_stats pair_stats(struct vtl_pair *pair)
{
	struct mshv_vtl_stats stats = {
		.head = { sizeof(stats), pair->guest.cpu },
	};

	ioctl(pair->guest.fd, MSHV_VTL_STATS, &stats);
	return stats;
}

volatile struct mshv_vtl_timer *pair_timer(const struct vtl_pair *pair)
{
	return (void *)((volatile uint8_t *)pair->guest.run +
			MSHV_VTL_RUN_TIMER);
}

void pair_close(struct vtl_pair *pair)
{
	if (pair->guest.run && pair->page != MAP_FAILED &&
	    pair->vapic != MAP_FAILED) {
		take_back_delivery(pair);
		pair->guest.run->flags = 0;
		pair->guest.run->scan_proxy_irr = 0;
		pair->guest.run->offload_flags = 0;
		fill(pair->vapic, VTL_PAGE_SIZE);
		fill((volatile uint8_t *)pair->page, sizeof(*pair->page));
		munmap((void *)pair->page, VTL_PAGE_SIZE);
		munmap((void *)pair->vapic, VTL_PAGE_SIZE);
	}
	if (pair->part && pair->part != MAP_FAILED)
		munmap((void *)pair->part, PART_SIZE);
	vtl_guest_close(&pair->guest);
}
