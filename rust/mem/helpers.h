/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What mappings of lower-VTL memory need from the kernel and is not available
 * to Rust.
 */
#ifndef _MSHV_VTL_TDX_MEM_HELPERS_H
#define _MSHV_VTL_TDX_MEM_HELPERS_H

#include <linux/mm_types.h>
#include <linux/types.h>

struct dev_pagemap;
struct file;
struct vm_area_struct;
struct vm_fault;

#define VTL_PMD_ORDER 9

void vtl_low_prepare(struct vm_area_struct *vma,
		     const struct vm_operations_struct *operations,
		     bool is_shared, bool has_pages);

/* Result of probing shared pages. */
enum vtl_presence {
	VTL_ABSENT, /* at least one page is not provided */
	VTL_PRESENT,
	VTL_UNKNOWN, /* out of memory */
};

enum vtl_presence vtl_shared_look(u64 start, u64 len_bytes);

struct page *vtl_pin_own_page(u64 gpa);
void vtl_unpin_page(struct page *page);
u8 vtl_read_pinned(u64 gpa, size_t offset);

struct dev_pagemap *vtl_pages_make(u64 start, u64 len_bytes);
bool vtl_pages_are_held(const struct dev_pagemap *map);
void vtl_pages_remove(struct dev_pagemap *map);
void vtl_pages_retry_later(void (*function)(void));
void vtl_pages_retry_never(void);
void vtl_module_keep(void);
void vtl_module_let_go(void);

int vtl_withdrawn_init(void);
void vtl_withdrawn_exit(void);
void vtl_low_opened(struct file *file);
void vtl_withdrawn_down_read(void);
void vtl_withdrawn_up_read(void);
int vtl_withdrawn_down_write(void);
void vtl_withdrawn_up_write(void);
bool vtl_withdrawn_any(u64 first, u64 count);
int vtl_withdrawn_add(u64 page);
void vtl_withdrawn_remove(u64 page);
u64 vtl_withdrawn_next(u64 page);
void vtl_low_unmap(u64 offset, u64 count);

vm_fault_t vtl_low_insert(struct vm_fault *vmf, unsigned long frame,
			  unsigned int order);

/*
 * Where the list of the lower VTLs' memory comes from (list.c), what in this
 * kernel a range of it may collide with (uses.c), and how it is reserved
 * (claim.c).
 */

/* MAX_RANGES of pure/lower.rs. */
#define VTL_MAX_RANGES 32
/* Fits any command line of a kernel, COMMAND_LINE_SIZE. */
#define VTL_TEXT_BYTES 4096

int vtl_list_given(char *text);
int vtl_command_line(char *text);

u64 vtl_private_end(void);
const char *vtl_find_use(u64 start, u64 end);

int vtl_range_claim(u64 start, u64 len_bytes);
void vtl_ranges_release(void);
int vtl_ranges_show(char *buffer);

#endif
