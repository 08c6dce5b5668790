// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! TDCALL leaves and field ids, read from the specification for this program alone: it shall
//! find out where the model reads differently.

use crate::cpu::{Registers, tdcall};

/// Leaves.
pub mod leaf {
    /// TDG.MR.RTMR.EXTEND
    pub const MR_RTMR_EXTEND: u64 = 2;
    /// TDG.MR.REPORT
    pub const MR_REPORT: u64 = 4;
    /// TDG.MEM.PAGE.ACCEPT
    pub const MEM_PAGE_ACCEPT: u64 = 6;
    /// TDG.VP.RD
    pub const VP_RD: u64 = 9;
    /// TDG.VP.WR
    pub const VP_WR: u64 = 10;
    /// TDG.MEM.PAGE.ATTR.RD
    pub const MEM_PAGE_ATTR_RD: u64 = 23;
    /// TDG.MEM.PAGE.ATTR.WR
    pub const MEM_PAGE_ATTR_WR: u64 = 24;
    /// TDG.VP.ENTER
    pub const VP_ENTER: u64 = 25;
    /// TDG.VP.INVEPT
    pub const VP_INVEPT: u64 = 26;
    /// TDG.VP.INVGLA
    pub const VP_INVGLA: u64 = 27;
}

/// Upper half of RAX.
pub mod status {
    /// Done, or an exit of the L2.
    pub const SUCCESS: u64 = 0;
    /// OPERAND_INVALID
    pub const OPERAND_INVALID: u64 = 0xc000_0100;
    /// L2_EXIT_HOST_ROUTED_ASYNC
    pub const HOST_ROUTED_ASYNC: u64 = 0x1100;
    /// L2_EXIT_PENDING_INTERRUPT
    pub const L2_EXIT_PENDING_INTERRUPT: u64 = 0x1102;
    /// PENDING_INTERRUPT
    pub const PENDING_INTERRUPT: u64 = 0x1120;
    /// GLA_NOT_CANONICAL
    pub const GLA_NOT_CANONICAL: u64 = 0xc000_1160;
}

/// Rights of an L2 to a page.
pub mod rights {
    /// Read.
    pub const READ: u64 = 1;
    /// Write.
    pub const WRITE: u64 = 2;
    /// Everything.
    pub const ALL: u64 = 0xf;
}

/// VMCS encodings, whose bits 14:13 give the width.
pub mod vmcs {
    #![allow(missing_docs)]
    pub const VIRTUAL_APIC_ADDRESS: u64 = 0x2012;
    pub const EOI_EXIT_BITMAP_0: u64 = 0x201c;
    pub const GUEST_EFER: u64 = 0x2806;
    pub const PRIMARY_CONTROLS: u64 = 0x4002;
    pub const EXCEPTION_BITMAP: u64 = 0x4004;
    pub const PAGE_FAULT_MASK: u64 = 0x4006;
    pub const PAGE_FAULT_MATCH: u64 = 0x4008;
    pub const ENTRY_CONTROLS: u64 = 0x4012;
    pub const ENTRY_EVENT: u64 = 0x4016;
    pub const ENTRY_ERROR_CODE: u64 = 0x4018;
    pub const ENTRY_LENGTH: u64 = 0x401a;
    pub const TPR_THRESHOLD: u64 = 0x401c;
    pub const SECONDARY_CONTROLS: u64 = 0x401e;
    pub const INTERRUPTIBILITY: u64 = 0x4824;
    pub const SYSENTER_CS: u64 = 0x482a;
    pub const CR0_MASK: u64 = 0x6000;
    pub const CR4_MASK: u64 = 0x6002;
    pub const CR0_SHADOW: u64 = 0x6004;
    pub const CR4_SHADOW: u64 = 0x6006;
    pub const CR0: u64 = 0x6800;
    pub const CR3: u64 = 0x6802;
    pub const CR4: u64 = 0x6804;
    pub const DR7: u64 = 0x681a;
}

/// Write mask of a VMCS field as wide as the field.
pub const fn field_mask(encoding: u64) -> u64 {
    match (encoding >> 13) & 3 {
        0 => 0xffff,
        2 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// Id of a field in the VMCS of an L2.
pub const fn field_id(vm: u64, encoding: u64) -> u64 {
    let size_code = match (encoding >> 13) & 3 {
        0 => 1,
        2 => 2,
        _ => 3,
    };
    (0x1c20_0000_0000_0000 + (vm << 59)) | (1 << 50) | (size_code << 32) | encoding
}

/// Id of a word of the MSR bitmap that L1 sets for an L2.
pub const fn msr_bitmap_id(vm: u64, word: u64) -> u64 {
    0x1d20_0003_0000_0000 + (vm << 59) + word
}

/// L2_CTLS.
pub const fn l2_ctls_id(vm: u64) -> u64 {
    0xa020_0003_0000_0050 + vm
}

/// TSC_DEADLINE.
pub const fn tsc_deadline_id(vm: u64) -> u64 {
    0xa020_0003_0000_0058 + vm
}

/// A leaf with RCX, RDX, R8 and R9.
pub fn call(leaf: u64, rcx: u64, rdx: u64, r8: u64, r9: u64) -> Registers {
    let mut registers: Registers = [0; 16];
    (registers[0], registers[1], registers[2]) = (leaf, rcx, rdx);
    (registers[8], registers[9]) = (r8, r9);
    tdcall(&mut registers);
    registers
}

/// TDG.VP.WR; a refusal is a failure of the test.
pub fn write(id: u64, value: u64, mask: u64) -> u64 {
    call(leaf::VP_WR, 0, id, value, mask)[0]
}

/// TDG.VP.RD.
pub fn read(id: u64) -> u64 {
    let registers = call(leaf::VP_RD, 0, id, 0, 0);
    assert!(registers[0] == 0, "VP.RD of {id:#x}: {:#x}", registers[0]);
    registers[8]
}

/// Gives VM `vm` these rights to a page and nothing else. `gpa` carries the level.
pub fn set_rights(vm: u64, gpa: u64, rights: u64) -> u64 {
    const VALID: u64 = 1 << 15;
    let (shift, all) = (16 * vm, rights::ALL);
    call(
        leaf::MEM_PAGE_ATTR_WR,
        gpa,
        (VALID | rights) << shift,
        all << shift,
        0,
    )[0]
}
