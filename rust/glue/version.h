/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The version of the module, of the tools and of the packages. What can't read this file has the
 * same number, which `make lint` checks.
 */
#ifndef VTL_VERSION_H
#define VTL_VERSION_H

#include <linux/stringify.h>

#define VTL_MAJOR 0
#define VTL_MINOR 2
#define VTL_PATCH 0

#define VTL_VERSION                                                        \
	__stringify(VTL_MAJOR) "." __stringify(VTL_MINOR) "." __stringify( \
		VTL_PATCH)

#endif
