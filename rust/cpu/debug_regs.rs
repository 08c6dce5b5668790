// SPDX-License-Identifier: GPL-2.0
//! DR0 to DR3 and DR6, which lower VTL and VTL2 share; the TDX module switches only DR7.
//!
//! Any interrupt may set or remove a breakpoint of VTL2 (perf, ptrace). So while interrupts are
//! enabled, the registers are VTL2's if it has a breakpoint. If it has none, nothing reads them,
//! and the lower VTL's values may stay loaded.
//!
//! DR0 to DR3 are exchanged when interrupts are disabled and before they are enabled, whatever the
//! number of entries in between: with DR7 clear, they have no effect on the kernel. DR6 is exchanged
//! at each entry, because a #DB in the kernel would change it.

// UNSAFETY: MOV to and from debug registers, a per-CPU variable, and C functions.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::cpu::fpu::Section;
use crate::cpu::guards::IrqsOff;
use crate::glue::abi::{self, safe_in_c, vtl_breakpoints};
use crate::pure::registers::{DEBUG_START, INDEX_DR6};

// They access registers only as the kernel itself does to set and remove its breakpoints.
safe_in_c! {
    /// Clears the registers that hold no breakpoint of VTL2.
    fn vtl_debug_forget();
    /// Disables VTL2's breakpoints, and saves them.
    fn vtl_breakpoints_stop(own: &mut vtl_breakpoints as *mut vtl_breakpoints);
    /// Enables them again.
    fn vtl_breakpoints_resume(own: &mut vtl_breakpoints as *mut vtl_breakpoints);
}

/// DR6 without an event: the handler of #DB expects the value that the last #DB has left.
const DR6_IDLE: u64 = DEBUG_START[INDEX_DR6];
/// B0 to B3.
const DR6_HITS: u64 = 0xf;
/// Enabled breakpoints in DR7: the kernel's own bits, as `hw_breakpoint_active()` tests them.
const DR7_GLOBAL_ENABLES: u64 = 0xaa;

/// Reads a debug register. As an instruction of its own: `get_debugreg()` calls `pv_ops`, which only
/// Xen PV needs, and that is never a TD.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: Reading has no effect; DR7.GD is never set in this kernel.
        unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Writes a debug register.
macro_rules! write {
    ($register:literal, $value:expr) => {
        // SAFETY: DR0 to DR3 take any value, and have no effect while DR7 is clear, which the callers
        // ensure; DR6 takes the values that the processor gave, or `pure::registers` checked.
        unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) $value, options(nomem, nostack)) }
    };
}

macro_rules! change {
    ($register:literal, $value:expr) => {
        if read!($register) != $value {
            write!($register, $value);
        }
    };
}

/// DR0, DR1, DR2, DR3, DR6 of the lower VTL (`lower`), and those that VTL2 has while it runs.
pub(crate) struct DebugRegs {
    lower: [u64; DEBUG_START.len()],
    /// VTL2's; its `dr7` is zero if VTL2 has no breakpoint, or its breakpoints are enabled.
    own: vtl_breakpoints,
    /// The lower VTL can use DR0 to DR3.
    needs_addresses: bool,
    /// DR0 to DR3 are the lower VTL's now.
    has_addresses: bool,
    /// They have been, and not all were zero.
    must_forget: bool,
}

impl DebugRegs {
    /// Values after a reset.
    pub(crate) fn new() -> Self {
        Self {
            lower: DEBUG_START,
            own: vtl_breakpoints::default(),
            needs_addresses: false,
            has_addresses: false,
            must_forget: false,
        }
    }

    /// The lower VTL's values.
    pub(crate) fn lower(&self) -> &[u64; DEBUG_START.len()] {
        &self.lower
    }

    /// The lower VTL's values, to be set to checked ones.
    pub(crate) fn lower_mut(&mut self) -> &mut [u64; DEBUG_START.len()] {
        &mut self.lower
    }

    /// States if DR0 to DR3 matter to the lower VTL that will be entered. If they do not, and VTL2
    /// has no breakpoint, an entry loads only DR6.
    pub(crate) fn set_needs_addresses(&mut self, needs_addresses: bool) {
        self.needs_addresses = needs_addresses;
    }

    /// Loads DR0 to DR3 if they matter, and disables VTL2's breakpoints.
    #[inline(always)]
    pub(crate) fn load_addresses(&mut self, _irqs: &IrqsOff) {
        self.has_addresses = self.needs_addresses;
        if armed() & DR7_GLOBAL_ENABLES != 0 {
            vtl_breakpoints_stop(&mut self.own);
            self.has_addresses = true;
        }
        if !self.has_addresses {
            return;
        }
        let [dr0, dr1, dr2, dr3, _] = self.lower;
        // Usually none differs, so they are tested together.
        let differ = (read!("dr0") ^ dr0)
            | (read!("dr1") ^ dr1)
            | (read!("dr2") ^ dr2)
            | (read!("dr3") ^ dr3);
        if differ != 0 {
            self.write_addresses();
        }
    }

    #[cold]
    fn write_addresses(&self) {
        let [dr0, dr1, dr2, dr3, _] = self.lower;
        change!("dr0", dr0);
        change!("dr1", dr1);
        change!("dr2", dr2);
        change!("dr3", dr3);
    }

    /// Saves DR0 to DR3 if they are the lower VTL's, and enables VTL2's breakpoints again. Without a
    /// breakpoint, VTL2 has no values to restore.
    #[inline(always)]
    pub(crate) fn store_addresses(&mut self, _irqs: &IrqsOff) {
        if !self.has_addresses {
            return;
        }
        let [dr0, dr1, dr2, dr3, _] = &mut self.lower;
        (*dr0, *dr1) = (read!("dr0"), read!("dr1"));
        (*dr2, *dr3) = (read!("dr2"), read!("dr3"));
        self.must_forget = *dr0 | *dr1 | *dr2 | *dr3 != 0;
        if self.own.dr7 != 0 {
            vtl_breakpoints_resume(&mut self.own);
        }
    }

    /// Loads DR6, right before an entry.
    #[inline(always)]
    pub(crate) fn load_dr6(&self, _irqs: &IrqsOff) {
        change!("dr6", self.lower[INDEX_DR6]);
    }

    /// Saves DR6, right after an exit.
    ///
    /// A #DB sets B0 to B3 for every address that matches, whether its breakpoint is enabled or not. If
    /// the lower VTL's addresses were not loaded, a match is one of VTL2's, which stays in its register
    /// after the breakpoint is gone. Only bits that were set before are the lower VTL's.
    #[inline(always)]
    pub(crate) fn store_dr6(&mut self, _irqs: &IrqsOff) {
        let mut dr6 = read!("dr6");
        if dr6 != DR6_IDLE {
            write!("dr6", DR6_IDLE);
        }
        let lower = &mut self.lower[INDEX_DR6];
        if !self.has_addresses {
            dr6 &= *lower | !DR6_HITS;
        }
        *lower = dr6;
    }

    /// Removes the lower VTL's values from the registers.
    #[inline(always)]
    pub(crate) fn forget(&mut self, _section: &Section) {
        if self.must_forget {
            self.must_forget = false;
            vtl_debug_forget();
        }
    }
}

/// DR7, as the kernel keeps it for each CPU. Under a hypervisor, as in every TD, it is the register's
/// value; `local_db_save()` relies on that, too.
#[inline(always)]
fn armed() -> u64 {
    let value: u64;
    // SAFETY: A variable of this CPU, which exists as long as the kernel; reading it is one instruction.
    unsafe {
        asm!("mov {}, qword ptr gs:[rip + {}]", out(reg) value, sym abi::cpu_dr7,
            options(readonly, nostack, preserves_flags));
    }
    value
}
