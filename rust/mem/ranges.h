/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the list of the lower VTLs' memory comes from (list.c), what in this kernel
 * a range of it may collide with (uses.c), and how it is kept free (claim.c).
 */
#ifndef _MSHV_VTL_TDX_MEM_RANGES_H
#define _MSHV_VTL_TDX_MEM_RANGES_H

#include <linux/types.h>

/* MAX_RANGES of pure/lower.rs. */
#define VTL_MAX_RANGES 32
/* A text that the command line of a kernel fits in. */
#define VTL_TEXT_BYTES 4096

int vtl_list_given(char *text);
int vtl_command_line(char *text);

u64 vtl_private_end(void);
const char *vtl_find_use(u64 start, u64 end);

int vtl_range_claim(u64 start, u64 len_bytes);
void vtl_ranges_release(void);
int vtl_ranges_show(char *buffer);

#endif
