/* SPDX-License-Identifier: GPL-2.0 */
/* The module's own entry stub: the floor is measured with the shipped code. */
#include "run/vp_enter.S"
