// SPDX-License-Identifier: GPL-2.0
//! The interface to the TDX module, and typed wrappers of the leaves that the driver itself uses.
//!
//! The kernel module implements [`Tdcall`] with the instruction, tests implement it with a table.
//! It takes a [`Call`], which only this folder makes: for a leaf of the driver's own below, or for
//! a request of userspace that [`super::policy`] allows. A leaf whose operand could take the
//! kernel's memory away, or give it to a lower VTL, is no `Call`: the kernel module executes it
//! itself, with a justification.

use super::field::{vmcs, FieldId, VmIndex};
use super::leaf;
use super::lower::LowerRange;
use super::status::Status;

/// Registers of a TDCALL, in and out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    /// Leaf on input, status on output.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// R8.
    pub r8: u64,
    /// R9.
    pub r9: u64,
    /// R10, output only: zero on input.
    pub r10: u64,
    /// R11, output only: zero on input.
    pub r11: u64,
}

impl Registers {
    /// Checks the status.
    ///
    /// # Errors
    ///
    /// The status, if it is not SUCCESS.
    pub fn succeeded(self) -> Result<Self, Status> {
        let status = Status(self.rax);
        if status.is_success() {
            Ok(self)
        } else {
            Err(status)
        }
    }
}

/// A TDCALL that can't harm this kernel, whoever requested it.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call(Registers);

impl Call {
    /// Called by `policy` for a request that it allows.
    pub(super) const fn allowed(request: Registers) -> Self {
        Self(request)
    }

    /// The registers to execute it with.
    pub const fn registers(self) -> Registers {
        self.0
    }
}

/// Something that executes TDCALL.
pub trait Tdcall {
    /// Executes one TDCALL on the current processor.
    fn tdcall(&mut self, call: Call) -> Registers;
}

/// Reads a field of the TD. [ABI TDG.VM.RD]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_vm_rd(tdcall: &mut impl Tdcall, field: FieldId) -> Result<u64, Status> {
    read(tdcall, leaf::TDG_VM_RD, field)
}

/// Reads a field of the TDX module. [ABI TDG.SYS.RD]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_sys_rd(tdcall: &mut impl Tdcall, field: FieldId) -> Result<u64, Status> {
    read(tdcall, leaf::TDG_SYS_RD, field)
}

/// Reads a field of the current VP. [ABI TDG.VP.RD]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_vp_rd(tdcall: &mut impl Tdcall, field: FieldId) -> Result<u64, Status> {
    read(tdcall, leaf::TDG_VP_RD, field)
}

fn read(tdcall: &mut impl Tdcall, leaf: u64, field: FieldId) -> Result<u64, Status> {
    let out = tdcall.tdcall(Call(Registers {
        rax: leaf,
        rdx: field.0,
        ..Registers::default()
    }));
    out.succeeded().map(|out| out.r8)
}

/// Extends a run-time measurement register by the digest at an address. [ABI TDG.MR.RTMR.EXTEND]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_mr_rtmr_extend(
    tdcall: &mut impl Tdcall,
    index: u32,
    digest_gpa: u64,
) -> Result<(), Status> {
    let out = tdcall.tdcall(Call(Registers {
        rax: leaf::TDG_MR_RTMR_EXTEND,
        rcx: digest_gpa,
        rdx: index.into(),
        ..Registers::default()
    }));
    out.succeeded().map(|_| ())
}

/// Sets the TSC deadline, in ticks, at which runs of a VM of the current VP end. [ABI TDG.VP.WR]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_vp_wr_tsc_deadline(
    tdcall: &mut impl Tdcall,
    vm: VmIndex,
    deadline: u64,
) -> Result<(), Status> {
    tdg_vp_wr_bits(tdcall, FieldId::tsc_deadline(vm), deadline, u64::MAX)
}

/// Clears blocking of interrupts by STI and MOV SS in a VM of the current VP. [ABI TDG.VP.WR]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_vp_wr_no_shadow(tdcall: &mut impl Tdcall, vm: VmIndex) -> Result<(), Status> {
    tdg_vp_wr_bits(tdcall, FieldId::interruptibility(vm), 0, vmcs::SHADOW)
}

/// The virtual-APIC address of a VM without such a page: the first page of memory, which Linux
/// never uses. The TDX module has no operation that clears the address.
pub const NOWHERE: u64 = 0;

/// Makes the TDX module forget the virtual-APIC page of a VM of the current VP. [ABI TDG.VP.WR]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_vp_wr_no_virtual_apic(tdcall: &mut impl Tdcall, vm: VmIndex) -> Result<(), Status> {
    let field = FieldId::virtual_apic_address(vm);
    tdg_vp_wr_bits(tdcall, field, NOWHERE, u64::MAX)
}

/// Registers of the TDCALL that sets the virtual-APIC page of a VM of the current VP. From then on
/// the lower VTL can write to that page, so this is not a [`Call`]. [ABI TDG.VP.WR]
pub fn virtual_apic_write(vm: VmIndex, gpa: u64) -> Registers {
    vp_write(FieldId::virtual_apic_address(vm), gpa, u64::MAX)
}

/// Writes the bits `mask` of a field of the current VP. [ABI TDG.VP.WR]
fn tdg_vp_wr_bits(
    tdcall: &mut impl Tdcall,
    field: FieldId,
    value: u64,
    mask: u64,
) -> Result<(), Status> {
    let out = tdcall.tdcall(Call(vp_write(field, value, mask)));
    out.succeeded().map(|_| ())
}

fn vp_write(field: FieldId, value: u64, mask: u64) -> Registers {
    Registers {
        rax: leaf::TDG_VP_WR,
        rdx: field.0,
        r8: value,
        r9: mask,
        ..Registers::default()
    }
}

/// State of a private page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageState {
    /// The host added the page, and it is accepted.
    Accepted {
        /// Size of the mapping in the TDX module: 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB.
        level: u8,
    },
    /// The host added the page, but it is not accepted yet: an access raises #VE or worse.
    Pending,
}

const MAPPING_PENDING: u64 = 1 << 62;

/// Reads the state of the first page of a range, by its private alias. If the host never added the
/// page, this can end the TD. [ABI TDG.MEM.PAGE.ATTR.RD]
///
/// # Errors
///
/// The status, if it is not SUCCESS.
pub fn tdg_mem_page_attr_rd(
    tdcall: &mut impl Tdcall,
    range: LowerRange,
) -> Result<PageState, Status> {
    let out = tdcall.tdcall(Call(Registers {
        rax: leaf::TDG_MEM_PAGE_ATTR_RD,
        rcx: range.start_gpa(),
        ..Registers::default()
    }));
    out.succeeded().map(|out| {
        if out.rcx & MAPPING_PENDING == 0 {
            PageState::Accepted {
                level: (out.rcx & 0x7) as u8, // CAST: three bits
            }
        } else {
            PageState::Pending
        }
    })
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    kernel::prelude::kunit_tests(vtl_tdcall),
    allow(unsafe_code)
)]
mod tests {
    use super::*;
    use crate::pure::field::VmIndex;
    use crate::pure::lower::LowerMemory;

    struct Answering(Registers, Option<Registers>);

    fn page() -> LowerRange {
        let list = LowerMemory::parse(b"2G,4K", u64::MAX).unwrap();
        list.range(0x8000_0000, 1).unwrap()
    }

    impl Tdcall for Answering {
        fn tdcall(&mut self, call: Call) -> Registers {
            self.1 = Some(call.registers());
            self.0
        }
    }

    #[test]
    fn vm_rd_returns_r8() {
        let mut tdx = Answering(
            Registers {
                r8: 2,
                ..Registers::default()
            },
            None,
        );
        assert_eq!(tdg_vm_rd(&mut tdx, FieldId::NUM_L2_VMS), Ok(2));
        let asked = tdx.1.unwrap();
        assert_eq!(
            (asked.rax, asked.rcx, asked.rdx),
            (7, 0, FieldId::NUM_L2_VMS.0)
        );
    }

    #[test]
    fn an_extend_names_register_and_digest() {
        let mut tdx = Answering(Registers::default(), None);
        assert_eq!(tdg_mr_rtmr_extend(&mut tdx, 3, 0x3800), Ok(()));
        let asked = tdx.1.unwrap();
        assert_eq!((asked.rax, asked.rcx, asked.rdx), (2, 0x3800, 3));
    }

    #[test]
    fn vp_wr_writes_every_bit() {
        let mut tdx = Answering(Registers::default(), None);
        let vm = VmIndex::VM1;
        assert_eq!(tdg_vp_wr_tsc_deadline(&mut tdx, vm, 0x1000), Ok(()));
        let asked = tdx.1.unwrap();
        assert_eq!(
            (asked.rax, asked.rdx, asked.r8, asked.r9),
            (10, FieldId::tsc_deadline(vm).0, 0x1000, u64::MAX)
        );
        let field = FieldId::virtual_apic_address(vm);
        let told = virtual_apic_write(vm, 0x1000);
        assert_eq!(
            (told.rax, told.rdx, told.r8, told.r9),
            (10, field.0, 0x1000, u64::MAX)
        );
        assert_eq!(tdg_vp_wr_no_virtual_apic(&mut tdx, vm), Ok(()));
        let asked = tdx.1.unwrap();
        assert_eq!(
            (asked.rax, asked.rdx, asked.r8, asked.r9),
            (10, field.0, 0, u64::MAX)
        );
    }

    #[test]
    fn a_shadow_ends_and_nothing_else_of_the_field() {
        let mut tdx = Answering(Registers::default(), None);
        assert_eq!(tdg_vp_wr_no_shadow(&mut tdx, VmIndex::VM1), Ok(()));
        let asked = tdx.1.unwrap();
        assert_eq!(
            (asked.rax, asked.rdx, asked.r8, asked.r9),
            (10, FieldId::interruptibility(VmIndex::VM1).0, 0, 3)
        );
    }

    #[test]
    fn vp_rd_reads_and_vp_wr_bits_writes_some() {
        let field = FieldId::tsc_deadline(VmIndex::VM1);
        let answer = Registers {
            r8: 77,
            ..Registers::default()
        };
        let mut tdx = Answering(answer, None);
        assert_eq!(tdg_vp_rd(&mut tdx, field), Ok(77));
        let asked = tdx.1.unwrap();
        assert_eq!((asked.rax, asked.rdx, asked.r9), (9, field.0, 0));
        assert_eq!(tdg_vp_wr_bits(&mut tdx, field, 1, 3), Ok(()));
        let asked = tdx.1.unwrap();
        assert_eq!(
            (asked.rax, asked.rdx, asked.r8, asked.r9),
            (10, field.0, 1, 3)
        );
    }

    #[test]
    fn pending_pages_are_told_apart() {
        let state = |rcx| {
            let mut tdx = Answering(
                Registers {
                    rcx,
                    ..Registers::default()
                },
                None,
            );
            let state = tdg_mem_page_attr_rd(&mut tdx, page());
            assert_eq!(tdx.1.unwrap().rcx, 0x8000_0000);
            state
        };
        assert_eq!(state(0x8000_0001), Ok(PageState::Accepted { level: 1 }));
        assert_eq!(state(0x8000_0001 | (1 << 62)), Ok(PageState::Pending));
    }

    #[test]
    fn an_error_status_is_never_taken_for_a_value() {
        let status = Status::new(Status::OPERAND_BUSY, 1);
        let mut tdx = Answering(
            Registers {
                rax: status.0,
                r8: 9,
                ..Registers::default()
            },
            None,
        );
        assert_eq!(tdg_vm_rd(&mut tdx, FieldId::NUM_L2_VMS), Err(status));
        assert_eq!(
            tdg_vp_wr_tsc_deadline(&mut tdx, VmIndex::VM1, 0),
            Err(status)
        );
        assert_eq!(tdg_mem_page_attr_rd(&mut tdx, page()), Err(status));
    }
}
