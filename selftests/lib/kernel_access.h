/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that makes the kernel itself access a page that a program has
 * mapped, and the expected results for the two kinds of mappings of lower-VTL
 * memory: by PFN, and of pages, which have a struct page.
 *
 * Nothing here accesses the page by an instruction of the program, or
 * allocates.
 */
#ifndef KERNEL_ACCESS_H
#define KERNEL_ACCESS_H

#include <stddef.h>

enum kernel_access_way {
	ACCESS_READS, /* from the page into @copy */
	ACCESS_WRITES, /* @copy into the page */
	ACCESS_LOOKS, /* reads only page tables and struct pages */
};

struct kernel_access {
	const char *name;
	enum kernel_access_way way;
	/* A page and as much room; 0 or the negative errno. */
	int (*act)(void *page, void *copy);
	int of_frames; /* what it gives for page frames */
	int of_pages; /* what it gives for pages */
	int is_slow; /* for a test that does many */
};

extern const struct kernel_access kernel_accesses[];
extern const size_t kernel_access_count;

int vtl_uring_fixed_write(void *page, void *copy);
int vtl_uring_fixed_read(void *page, void *copy);
int vtl_uring_plain_write(void *page, void *copy);
/* A ring that has the page pinned until it is closed, or the negative errno. */
int vtl_uring_pin(void *page);
/* A pipe's end that holds the page until it is closed, or the negative errno. */
int vtl_pipe_pin(void *page);

#endif /* KERNEL_ACCESS_H */
