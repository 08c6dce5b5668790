/* SPDX-License-Identifier: GPL-2.0 */
/* Numbers of VTL calls and of VTL1's VP assist page, for C and assembler. [TLFS 15] */
#ifndef VTL_ASSIST_H
#define VTL_ASSIST_H

#define CODE_CALL 0x11
#define CODE_RETURN 0x12
#define ASSIST_ENTRY_REASON 0x08
#define ASSIST_VINA 0x0c
#define ASSIST_RAX 0x10
#define ASSIST_RCX 0x18

#endif /* VTL_ASSIST_H */
