// SPDX-License-Identifier: GPL-2.0
/*
 * What this kernel, or firmware below it, uses of a range that is declared to
 * be a lower VTL's. Memory that no description of the machine mentions counts
 * as unused.
 *
 * Stays C: the E820, ACPI and EFI descriptions have no abstraction.
 */
#include <linux/acpi.h>
#include <linux/efi.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/of_address.h>
#include <asm/coco.h>
#include <asm/e820/api.h>
#include <asm/pgtable_types.h>
#include <asm/processor.h>

#include "helpers.h"

struct vtl_area {
	u64 start, end; /* exclusive */
};

static bool overlaps(const struct vtl_area *area, u64 start, u64 end)
{
	return area->start < end && start < area->end;
}

/*
 * End of the TD's private memory: the SHARED bit, or the processor's physical
 * address width.
 */
u64 vtl_private_end(void)
{
	u64 end = 1ULL << boot_cpu_data.x86_phys_bits;
	u64 shared = cc_mkdec(0);

	return shared && shared < end ? shared : end;
}

/* Kinds of memory that firmware describes, or that drivers add. */
static const struct {
	unsigned long flags, desc;
	enum e820_type type;
	const char *text;
} vtl_kinds[] = {
	{ IORESOURCE_SYSTEM_RAM, IORES_DESC_CRASH_KERNEL, 0,
	  "memory of the crash kernel" },
	{ IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE, E820_TYPE_RAM, "System RAM" },
	{ IORESOURCE_MEM, IORES_DESC_ACPI_TABLES, E820_TYPE_ACPI,
	  "memory of ACPI tables" },
	{ IORESOURCE_MEM, IORES_DESC_ACPI_NV_STORAGE, E820_TYPE_NVS,
	  "ACPI non-volatile storage" },
	{ IORESOURCE_MEM, IORES_DESC_PERSISTENT_MEMORY, E820_TYPE_PMEM,
	  "persistent memory" },
	{ IORESOURCE_MEM, IORES_DESC_PERSISTENT_MEMORY_LEGACY, E820_TYPE_PRAM,
	  "persistent memory" },
	{ IORESOURCE_MEM, IORES_DESC_SOFT_RESERVED, E820_TYPE_SOFT_RESERVED,
	  "specific-purpose memory" },
	{ IORESOURCE_MEM, IORES_DESC_DEVICE_PRIVATE_MEMORY, 0,
	  "memory of a device" },
	{ IORESOURCE_MEM, IORES_DESC_CXL, 0, "a CXL window" },
	{ 0, 0, E820_TYPE_UNUSABLE, "memory that firmware calls unusable" },
};

static const char *find_kind(const struct vtl_area *area)
{
	u64 size = area->end - area->start;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vtl_kinds); i++) {
		if (vtl_kinds[i].flags &&
		    region_intersects(area->start, size, vtl_kinds[i].flags,
				      vtl_kinds[i].desc) != REGION_DISJOINT)
			return vtl_kinds[i].text;
		if (vtl_kinds[i].type &&
		    e820__mapped_any(area->start, area->end, vtl_kinds[i].type))
			return vtl_kinds[i].text;
	}
	return NULL;
}

/*
 * ACPI tables that firmware has put into memory that it merely calls reserved.
 * The mailbox for waking processors can't be there: [ACPI 5.2.12.19] requires
 * it in ACPI NVS memory. Without ACPI see find_mailbox().
 */
static const char *find_acpi_table(const struct vtl_area *area)
{
	struct acpi_table_header *table;
	acpi_status status = AE_OK;
	u32 index;

	if (acpi_disabled)
		return NULL;
	for (index = 0; status != AE_BAD_PARAMETER; index++) {
		bool is_hit;
		u64 at;

		status = acpi_get_table_by_index(index, &table);
		if (ACPI_FAILURE(status))
			continue;
		at = slow_virt_to_phys(table);
		is_hit = overlaps(area, at, at + table->length);
		acpi_put_table(table);
		if (is_hit)
			return "an ACPI table";
	}
	return NULL;
}

/*
 * The wake-up mailbox of a machine described by a device tree: writing to it
 * makes an offline processor run code. Its memory need not be reserved.
 */
static const char *find_mailbox(const struct vtl_area *area)
{
	struct device_node *node =
		of_find_compatible_node(NULL, NULL, "intel,wakeup-mailbox");
	struct resource mailbox;
	int error = -ENOENT;

	if (node)
		error = of_address_to_resource(node, 0, &mailbox);
	of_node_put(node);
	if (error || !overlaps(area, mailbox.start, mailbox.end + 1))
		return NULL;
	return "the wake-up mailbox";
}

/* Memory that firmware keeps using after boot, whatever the e820 map says. */
static const char *find_efi(const struct vtl_area *area)
{
	efi_memory_desc_t *entry;

	if (!efi_enabled(EFI_MEMMAP))
		return NULL;
	for_each_efi_memory_desc(entry) {
		u64 end =
			entry->phys_addr + (entry->num_pages << EFI_PAGE_SHIFT);

		if (!overlaps(area, entry->phys_addr, end))
			continue;
		if (entry->attribute & EFI_MEMORY_RUNTIME)
			return "memory of EFI runtime services";
		switch (entry->type) {
		case EFI_RUNTIME_SERVICES_CODE:
		case EFI_RUNTIME_SERVICES_DATA:
		case EFI_ACPI_RECLAIM_MEMORY: /* the map of unaccepted memory, too */
		case EFI_ACPI_MEMORY_NVS:
		case EFI_MEMORY_MAPPED_IO:
		case EFI_MEMORY_MAPPED_IO_PORT_SPACE:
		case EFI_PAL_CODE:
		case EFI_PERSISTENT_MEMORY:
		case EFI_UNACCEPTED_MEMORY:
		case EFI_UNUSABLE_MEMORY:
			return "memory of EFI firmware";
		}
	}
	return NULL;
}

/* Addresses that no resource has to describe. */
static const char *find_fixed(const struct vtl_area *area)
{
	/*
	 * Linux reserves page 0 itself. A range that starts there but is
	 * longer collides with more.
	 */
	if (!area->start && area->end == PAGE_SIZE)
		return "page 0 of this kernel";
	if (overlaps(area, 0xa0000, 0xc0000))
		return "the legacy VGA window";
	if (overlaps(area, 0xfec00000, 0xfef00000))
		return "the window of interrupt controllers";
	return NULL;
}

/* Names what a range collides with; NULL if nothing uses it. */
const char *vtl_find_use(u64 start, u64 end)
{
	const struct vtl_area area = { start, end };
	const char *use = find_fixed(&area);

	if (!use)
		use = find_acpi_table(&area);
	if (!use)
		use = find_mailbox(&area);
	if (!use)
		use = find_kind(&area);
	if (!use)
		use = find_efi(&area);
	return use;
}
