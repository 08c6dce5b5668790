/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ways around VTL0's own rights to a page: what changes memory for VTL0 without a store of VTL0.
 */
#ifndef AROUND_H
#define AROUND_H

#include <linux/types.h>

/*
 * Makes page tables with @last as the last one, in which one entry, not marked accessed, maps @target. The
 * upper ones, marked, need up to four pages at @upper.
 */
void make_tables(u64 *upper, u64 *last, void *target);

/*
 * Has the entry of make_tables() used by a store, or as the destination of a string move from a device. Returns
 * true if that was an exception and @last is as it was.
 */
bool table_is_kept(const void *last, bool from_device);

/* Stores a byte. Returns true if that was an exception. */
bool write_faults(u8 *at);

/*
 * Moves a byte from a device by a repeated string instruction. Returns true if that was an exception with RCX
 * unchanged.
 */
bool device_moves_to(u8 *to);

/* The byte. */
u8 device_byte(void);

/* Has the virtio device with random numbers fill 32 bytes. Returns true if it has. */
bool random_fills(void *to);

#endif
