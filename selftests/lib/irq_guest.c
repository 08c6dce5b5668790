// SPDX-License-Identifier: GPL-2.0
/*
 * Loads the guest of irq_guest_code.S into memory, with tables of its own, and
 * enables the virtual x2APIC of VM 1.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "irq_guest.h"

/* Offsets in the 64 KiB that each guest has. */
#define PART_SIZE 0x10000
#define AT_STUBS 0x1000
#define AT_IDT 0x2000
#define AT_GDT 0x3000
#define AT_DATA 0x4000
#define AT_STACK_END 0x7000

#define STUB_SIZE 16
#define VIRTUAL_INTERRUPT_DELIVERY 0x200
/* TPR, EOI and self IPI go to the virtual-APIC page, all others exit. */
#define X2APIC_BITMAP 0x7ffffffffffff6ffULL

/* Eoi-exit bitmaps off, delivery and pass-through as @is_on. */
static int write_controls(struct irq_guest *irq, bool is_on)
{
	uint64_t delivery = is_on ? VIRTUAL_INTERRUPT_DELIVERY : 0;
	uint64_t bitmap = is_on ? X2APIC_BITMAP : ~0ULL;
	unsigned int i;

	for (i = 0; i < 4; i++)
		if (vtl_guest_write_field(&irq->guest, VMCS64(0x201c + 2 * i),
					  0, ~0ULL))
			return -1;
	return vtl_guest_write_field(&irq->guest, FIELD_MSR_BITMAP(0x20),
				     bitmap, ~0ULL) ||
			       vtl_guest_write_field(&irq->guest,
						     FIELD_MSR_BITMAP(0x120),
						     bitmap, ~0ULL) ||
			       vtl_guest_write_field(
				       &irq->guest, VMCS32(0x401e), delivery,
				       VIRTUAL_INTERRUPT_DELIVERY) ?
		       -1 :
		       0;
}

static void put32(volatile uint8_t *at, uint32_t value)
{
	*(volatile uint32_t *)at = value;
}

static void fill(volatile uint8_t *at, size_t size)
{
	while (size--)
		*at++ = 0;
}

/* push $vector; jmp irq_guest */
static void put_stub(volatile uint8_t *part, unsigned int vector)
{
	uint32_t offset = AT_STUBS + vector * STUB_SIZE;
	volatile uint8_t *stub = part + offset;
	uint32_t push = vector, jump = -(offset + 10);
	unsigned int i;

	stub[0] = 0x68;
	stub[5] = 0xe9;
	for (i = 0; i < 4; i++) {
		stub[1 + i] = push >> 8 * i;
		stub[6 + i] = jump >> 8 * i;
	}
}

static void put_tables(volatile uint8_t *part, uint64_t gpa)
{
	unsigned int vector;

	fill(part, PART_SIZE);
	for (vector = 0; irq_guest + vector < irq_guest_end; vector++)
		part[vector] = irq_guest[vector];
	/* Gates for interrupts; an exception finds none. */
	for (vector = 16; vector < 256; vector++) {
		uint32_t stub = gpa + AT_STUBS + vector * STUB_SIZE;

		put_stub(part, vector);
		put32(part + AT_IDT + 8 * vector, 0x80000 | (stub & 0xffff));
		put32(part + AT_IDT + 8 * vector + 4,
		      (stub & 0xffff0000) | 0x8e00);
	}
	/* Flat code and data. */
	put32(part + AT_GDT + 8, 0xffff);
	put32(part + AT_GDT + 12, 0x00cf9b00);
	put32(part + AT_GDT + 16, 0xffff);
	put32(part + AT_GDT + 20, 0x00cf9300);
}

uint64_t irq_guest_address(const struct irq_guest *irq,
			   const unsigned char *label)
{
	return irq->memory + (label - irq_guest);
}

/* Nothing in the IRR, the ISR, or the run page. */
static void reset_interrupts(struct irq_guest *irq)
{
	volatile struct mshv_vtl_run *run = irq->guest.run;

	if (irq->vapic)
		fill(irq->vapic, VTL_PAGE_SIZE);
	run->offload_flags = 0;
	run->scan_proxy_irr = 0;
	fill((volatile uint8_t *)run->proxy_irr, sizeof(run->proxy_irr));
	fill((volatile uint8_t *)run->proxy_irr_exit_mask,
	     sizeof(run->proxy_irr_exit_mask));
}

/* As vtl_guest_open(), and the guest in memory. 0, or -1 with guest.why. */
int irq_guest_open(struct irq_guest *irq, int cpu)
{
	volatile uint8_t *part;

	irq->vapic = NULL;
	irq->data = NULL;
	if (vtl_guest_open(&irq->guest, cpu))
		return -1;
	irq->memory = irq->guest.base + cpu * PART_SIZE;
	irq->vapic = vtl_map_page(irq->guest.fd, MSHV_VTL_MMAP_VAPIC_PAGE, cpu);
	part = vtl_map_low(irq->memory, PART_SIZE);
	if (irq->vapic == MAP_FAILED || part == MAP_FAILED) {
		irq->vapic = NULL;
		snprintf(irq->guest.why, sizeof(irq->guest.why),
			 "cannot map: %s", strerror(errno));
		return -1;
	}
	put_tables(part, irq->memory);
	irq->part = part;
	irq->data = (volatile struct irq_data *)(part + AT_DATA);
	return 0;
}

/* Sets the processor to run at @entry, with interrupts off. */
int irq_guest_start(struct irq_guest *irq, const unsigned char *entry)
{
	volatile struct mshv_tdx_l2_enter_guest_state *state =
		&irq->guest.run->tdx.l2_enter_guest_state;

	if (vtl_guest_start(&irq->guest))
		return -1;
	reset_interrupts(irq);
	if (write_controls(irq, true) ||
	    vtl_guest_write_field(&irq->guest, VMCS64(0x6816),
				  irq->memory + AT_GDT, ~0ULL) ||
	    vtl_guest_write_field(&irq->guest, VMCS32(0x4810), 23,
				  0xffffffff) ||
	    vtl_guest_write_field(&irq->guest, VMCS64(0x6818),
				  irq->memory + AT_IDT, ~0ULL) ||
	    vtl_guest_write_field(&irq->guest, VMCS32(0x4812), 0x7ff,
				  0xffffffff))
		return -1;
	state->rip = irq_guest_address(irq, entry);
	state->gpr[RSP] = irq->memory + AT_STACK_END;
	state->gpr[RBP] = irq->memory + AT_DATA;
	return 0;
}

void irq_guest_close(struct irq_guest *irq)
{
	if (irq->guest.run) {
		reset_interrupts(irq);
		irq->guest.run->flags = 0;
		irq->guest.run->tdx.l2_enter_guest_state.rvi = 0;
		irq->guest.run->tdx.l2_enter_guest_state.svi = 0;
		write_controls(irq, false);
	}
	if (irq->vapic)
		munmap((void *)irq->vapic, VTL_PAGE_SIZE);
	if (irq->data)
		munmap((void *)irq->part, PART_SIZE);
	vtl_guest_close(&irq->guest);
}

/* Requests an interrupt, as the handler of the host's interrupts does. */
void irq_proxy(volatile struct mshv_vtl_run *run, unsigned int vector)
{
	__atomic_fetch_or(&run->proxy_irr[vector / 32], 1U << vector % 32,
			  __ATOMIC_SEQ_CST);
	__atomic_store_n(&run->scan_proxy_irr, 1, __ATOMIC_SEQ_CST);
}

bool irq_is_requested(const volatile uint8_t *vapic, unsigned int vector)
{
	return vapic[0x200 + vector / 32 * 16 + vector % 32 / 8] >> vector % 8 &
	       1;
}

void irq_request(volatile uint8_t *vapic, volatile uint8_t *rvi,
		 unsigned int vector)
{
	volatile uint32_t *word =
		(volatile uint32_t *)(vapic + 0x200 + vector / 32 * 16);

	*word |= 1U << vector % 32;
	if (*rvi < vector)
		*rvi = vector;
}

void irq_take_proxied(volatile struct mshv_vtl_run *run,
		      volatile uint8_t *vapic, volatile uint8_t *rvi)
{
	unsigned int word, bit;
	uint32_t bits;

	if (!__atomic_exchange_n(&run->scan_proxy_irr, 0, __ATOMIC_SEQ_CST))
		return;
	for (word = 0; word < 8; word++) {
		bits = __atomic_exchange_n(&run->proxy_irr[word], 0,
					   __ATOMIC_SEQ_CST);
		for (bit = 0; bit < 32; bit++)
			if (bits >> bit & 1)
				irq_request(vapic, rvi, word * 32 + bit);
	}
}

int irq_kick(const struct irq_guest *irq, uint64_t flags)
{
	return vtl_kick(&irq->guest, flags);
}

/* x2APIC ID of a CPU, all ones if there is none. */
uint32_t irq_apic_id(unsigned int cpu)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	unsigned int id = ~0U, found = ~0U;
	char line[4096];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "apicid : %u", &id) == 1 && !cpu--)
			found = id;
	if (file)
		fclose(file);
	return found;
}

uint64_t irq_tsc(void)
{
	return __builtin_ia32_rdtsc();
}
