/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads. Only declarations of our own headers, and the functions
 * that Kbuild names, become Rust; kernel types come from the kernel's crate.
 */
#include <linux/anon_inodes.h>
#include <linux/cpuhotplug.h>
#include <linux/entry-virt.h>
#include <linux/eventfd.h>
#include <linux/gfp.h>
#include <asm/fpu/api.h>

#include "glue/helpers.h"
#include "hv/helpers.h"
#include "hv/synic.h"
#include "mem/helpers.h"
#include "mem/ranges.h"
#include "cpu/mitigation.h"
#include "nodes/redirect.h"
#include "observe/vtl_trace.h"
