// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The seam to whatever runs the model: everything the semantics need from below.
//!
//! The bare-metal emulator implements it on AMD SVM, tests implement it on an array. The model has
//! checked page states before it calls, so no method can fail.

use crate::Field;
use crate::gpa::{Gpa, Level, Rights, VmIndex};

/// How L1 reaches a page of its guest-physical address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L1Mapping {
    /// Not at all.
    Absent,
    /// By the private address only.
    Private,
    /// By the address with the SHARED bit only.
    Shared,
}

/// Which translations of an L2 VM to flush on the current logical processor.
///
/// Flushing more than requested is always correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// INVEPT, single context: linear and guest-physical translations.
    Ept,
    /// INVVPID, single context: linear translations.
    AllLinear,
    /// INVVPID, single context retaining globals.
    NonGlobalLinear,
    /// INVVPID, individual addresses.
    Pages {
        /// Page-aligned linear address of the first page.
        first_gla: u64,
        /// How many pages, 1 to 4096.
        pages: u32,
    },
}

/// What the model needs from the logical processor it is called on.
pub trait Machine {
    /// Copies from guest memory. `gpa` has no SHARED bit; the page is one the caller may read.
    fn read_memory(&mut self, gpa: Gpa, buf: &mut [u8]);

    /// Copies to guest memory. `gpa` has no SHARED bit; the page is one the caller may write.
    fn write_memory(&mut self, gpa: Gpa, bytes: &[u8]);

    /// Fills guest memory with zero, before it is mapped.
    fn zero_memory(&mut self, gpa: Gpa, len_bytes: u64);

    /// L1's mapping of a page is now this one, on every logical processor.
    fn l1_mapping_changed(&mut self, gpa: Gpa, level: Level, mapping: L1Mapping);

    /// An L2's alias of a page now has these rights; `None` if it is blocked or does not exist.
    fn l2_mapping_changed(&mut self, vm: VmIndex, gpa: Gpa, level: Level, rights: Option<Rights>);

    /// Drops translations of an L2 on this logical processor.
    fn flush_l2(&mut self, vm: VmIndex, scope: FlushScope);

    /// Drops translations of all L2s on every logical processor, before it runs one of them again.
    fn flush_l2_everywhere(&mut self);

    /// The TSC that L1 and L2 read.
    fn virtual_tsc(&self) -> u64;

    /// Returns true if L1's virtual APIC has an interrupt above its priority: the
    /// priority class of RVI is greater than that of PPR.
    fn l1_interrupt_deliverable(&self) -> bool;

    /// Returns true if another logical processor holds the measurement registers.
    fn are_rtmrs_busy(&mut self) -> bool {
        false
    }

    /// An L2 is not entered: what a check found wrong, the fields that it looked at, and
    /// RIP. For a log.
    fn l2_entry_refused(
        &mut self,
        _vm: VmIndex,
        _what: &'static str,
        _fields: &mut dyn Iterator<Item = (Field, u64)>,
    ) {
    }

    /// Returns true if an interrupt or NMI is pending on this logical processor, whoever will take it.
    /// Long calls pause then, and L1 executes them again. Asked after each piece of work, so that they
    /// get on even if it always is.
    fn is_interrupted(&mut self) -> bool {
        false
    }

    /// Returns true if a function of the host holds the secure-EPT entry of this page right now.
    fn is_page_busy(&mut self, gpa: Gpa) -> bool {
        let _ = gpa;
        false
    }

    /// Loads IA32_XSS of this logical processor. The value has been checked against XFAM and the
    /// supported bits of [`crate::td::CpuFeatures`]; with none supported it is zero.
    fn write_xss(&mut self, value: u64);
}
