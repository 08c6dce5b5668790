// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! #VE in L1: when it is raised, and the information that L1 then fetches.
//!
//! Read back by `leaf/tdg_vp_veinfo_get.rs`; raised by the emulator for the exits of
//! [ABI virtualization exception] and by [`l1_ept_violation`].

use crate::gpa::{Gpa, VmIndex};
use crate::page_state::PageState;
use crate::td::{Td, td_ctls};
use crate::vcpu::Vcpu;

/// What kind of operation a #VE is about; only version 1 of TDG.VP.VEINFO.GET tells it
/// [ABI TDG.VP.VEINFO.GET].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Category {
    /// A processor without TDX would raise it, too: an EPT violation on a shared address.
    #[default]
    Arch = 0,
    /// A page that is not accepted.
    Pending = 1,
    /// Something of the host's that the TD's configuration can do without.
    ConfigParavirt = 0x10,
    /// Something that is always the host's.
    NonConfigParavirt = 0x11,
    /// Something that no TD may do.
    UnsupportedFeature = 0x80,
}

/// What TDG.VP.VEINFO.GET returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VeInfo {
    /// Basic exit reason.
    pub reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest-linear address.
    pub gla: u64,
    /// Guest-physical address, SHARED bit included.
    pub gpa: u64,
    /// Length of the instruction.
    pub instruction_length: u32,
    /// VM-exit instruction information.
    pub instruction_info: u32,
    /// What kind of operation it is.
    pub category: Category,
}

/// What to inject into L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VeDelivery {
    /// Vector 20, no error code.
    InjectVe,
    /// Vector 8, error code 0: L1 had not fetched the information about the previous #VE.
    InjectDf,
}

impl Vcpu {
    /// Raises a #VE in L1.
    pub fn raise_ve(&mut self, info: VeInfo) -> VeDelivery {
        if self.ve.is_some() {
            return VeDelivery::InjectDf;
        }
        self.ve = Some(info);
        VeDelivery::InjectVe
    }
}

/// Extended exit qualification that accompanies an EPT violation to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eeq {
    /// Type 0.
    None,
    /// Type 1: TDG.MEM.PAGE.ACCEPT found no page of this level.
    Accept {
        /// The requested level.
        level: crate::gpa::Level,
    },
    /// Type 2: TDG.MEM.PAGE.ATTR.WR found no table in the secure EPT of an L2.
    L2Walk {
        /// The L2.
        vm: VmIndex,
        /// The level whose table is missing.
        level: crate::gpa::Level,
    },
    /// Type 5: TDG.MEM.PAGE.ATTR.WR needs the page mapped at this level.
    AttrWr {
        /// The requested level.
        level: crate::gpa::Level,
    },
    /// Type 6: the page waits for acceptance.
    Pending,
}

/// An exit to the host which the guest does not see, apart from the time it takes.
///
/// The guest's RIP has not moved: the instruction is executed again at the next TD entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TdExit {
    /// EPT violation on a page.
    EptViolation {
        /// The page, offset removed.
        gpa: Gpa,
        /// The VM that made the access; `None` for L1, or for the module on its behalf.
        vm: Option<VmIndex>,
        /// Exit qualification as the host sees it.
        qualification: u64,
        /// Why the module needs the page.
        eeq: Eeq,
    },
    /// An L2 exit that is the host's: NMI, INIT, SMI, external interrupt, bus lock.
    Async {
        /// The VM that ran.
        vm: VmIndex,
        /// Raw exit reason.
        reason: u32,
        /// Interruption information, for NMI.
        interruption_info: u32,
    },
    /// TDG.VP.VMCALL of an L2 whose L1 allows it (L2_CTLS.ENABLE_TDVMCALL). Synchronous: see
    /// [`crate::l2_exit::l2_vmcall_done`].
    L2Vmcall {
        /// The VM that called.
        vm: VmIndex,
        /// Registers the host may see and change.
        mask: u32,
    },
}

/// An access of L1 that its page tables in the host did not allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct L1EptViolation {
    /// The address, SHARED bit included.
    pub gpa: u64,
    /// The linear address; `None` if the access came from a page walk without one.
    pub gla: Option<u64>,
    /// Exit qualification.
    pub qualification: u64,
    /// Length of the instruction.
    pub instruction_length: u32,
    /// VM-exit instruction information.
    pub instruction_info: u32,
}

/// Outcome of such an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L1EptOutcome {
    /// The page is mapped: let L1 try again.
    Retry,
    /// #PF with the reserved-bit error code: the address is beyond the TD's width.
    InjectPfReserved,
    /// #VE.
    InjectVe,
    /// #DF.
    InjectDf,
    /// The host has to do something about it.
    TdExit(TdExit),
}

/// Decides on an EPT violation of L1. The modelled host lets every shared access it has not
/// mapped become a #VE.
pub fn l1_ept_violation(td: &Td<'_>, vcpu: &mut Vcpu, v: &L1EptViolation) -> L1EptOutcome {
    let gpa = Gpa(v.gpa);
    if gpa.is_beyond_width() && v.gla.is_some() {
        return L1EptOutcome::InjectPfReserved;
    }
    let state = td.pages.state(gpa.without_shared());
    if gpa.is_shared() {
        return match state {
            PageState::Shared => L1EptOutcome::Retry,
            PageState::Free | PageState::Pending | PageState::Mapped => {
                raise(vcpu, v, Category::Arch)
            }
        };
    }
    match state {
        PageState::Mapped => L1EptOutcome::Retry,
        PageState::Pending if td.td_ctls & td_ctls::PENDING_VE_DISABLE == 0 => {
            raise(vcpu, v, Category::Pending)
        }
        PageState::Pending => L1EptOutcome::TdExit(to_host(v, Eeq::Pending)),
        PageState::Free | PageState::Shared => L1EptOutcome::TdExit(to_host(v, Eeq::None)),
    }
}

fn raise(vcpu: &mut Vcpu, v: &L1EptViolation, category: Category) -> L1EptOutcome {
    let info = VeInfo {
        reason: 48,
        qualification: v.qualification,
        gla: v.gla.unwrap_or(0),
        gpa: v.gpa,
        instruction_length: v.instruction_length,
        instruction_info: v.instruction_info,
        category,
    };
    match vcpu.raise_ve(info) {
        VeDelivery::InjectVe => L1EptOutcome::InjectVe,
        VeDelivery::InjectDf => L1EptOutcome::InjectDf,
    }
}

fn to_host(v: &L1EptViolation, eeq: Eeq) -> TdExit {
    TdExit::EptViolation {
        gpa: Gpa(v.gpa & !0xfff),
        vm: None,
        qualification: host_qualification(v.qualification),
        eeq,
    }
}

/// The part of an EPT-violation qualification that the host may see: bits 12:7 are cleared.
pub(crate) const fn host_qualification(qualification: u64) -> u64 {
    qualification & !0x1f80
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpa::{Level, SHARED_BIT};
    use crate::testing::with_td;

    fn touch(td: &Td<'_>, vcpu: &mut Vcpu, gpa: u64) -> L1EptOutcome {
        let v = L1EptViolation {
            gpa,
            gla: Some(0x1234),
            qualification: 0x183,
            ..Default::default()
        };
        l1_ept_violation(td, vcpu, &v)
    }

    #[test]
    fn second_ve_before_the_first_was_read_is_a_double_fault() {
        with_td(|td, vcpu, _| {
            assert_eq!(
                touch(td, vcpu, SHARED_BIT | 0xfed0_0000),
                L1EptOutcome::InjectVe
            );
            assert_eq!(
                touch(td, vcpu, SHARED_BIT | 0xfed0_0000),
                L1EptOutcome::InjectDf
            );
            assert_eq!(vcpu.ve.map(|v| (v.reason, v.gla)), Some((48, 0x1234)));
        });
    }

    #[test]
    fn pending_page_exits_to_the_host_when_ve_is_disabled() {
        with_td(|td, vcpu, _| {
            assert!(td.pages.host_aug_pending(Gpa(0x20_0000), Level::Size4K));
            let want = TdExit::EptViolation {
                gpa: Gpa(0x20_0000),
                vm: None,
                qualification: 3,
                eeq: Eeq::Pending,
            };
            assert_eq!(touch(td, vcpu, 0x20_0010), L1EptOutcome::TdExit(want));
            td.td_ctls = 0;
            assert_eq!(touch(td, vcpu, 0x20_0010), L1EptOutcome::InjectVe);
        });
    }

    #[test]
    fn address_beyond_the_width_is_a_page_fault() {
        with_td(|td, vcpu, _| {
            assert_eq!(touch(td, vcpu, 1 << 50), L1EptOutcome::InjectPfReserved);
            assert_eq!(touch(td, vcpu, 0x1000), L1EptOutcome::Retry);
        });
    }
}
