/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the examples of Documentation/abi.rst use and do not declare.
 */
#ifndef VTL_EXAMPLES_H
#define VTL_EXAMPLES_H

#include <errno.h>
#include <linux/mshv_vtl_tdx.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Open files: /dev/mshv, a VTL descriptor, and the nodes of a Hyper-V host. */
extern int mshv, vtl, hvcall, sint;
/* Of a virtual processor: its CPU, its run page, and where VTL1's assist page is. */
extern unsigned int cpu;
extern struct mshv_vtl_run *run;
extern void *assist_page;

extern uint64_t base, cr3;
extern const unsigned char nonce_of_the_verifier[32];

void handle(const void *what);
void refused(const struct mshv_register *which);
void send_device_interrupts_to(unsigned int vector, unsigned int apic_id);

#endif
