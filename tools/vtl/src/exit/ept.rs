// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! EPT violations: accesses to a page without the right, and to an address without a page. Part of
//! [`crate::exit`].

use core::fmt;

use crate::abi::ExitInfo;

/// Set in the alias of an address that is shared with the host.
const SHARED: u64 = 1 << 47;
const EEQ_PENDING_PAGE: u64 = 6;

/// Returns true if an address is one shared with the host.
pub(super) const fn is_shared(gpa: u64) -> bool {
    gpa & SHARED != 0
}

/// What the guest tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// Both, by one instruction.
    ReadModifyWrite,
    /// An instruction fetch.
    Fetch,
    /// The processor did not report the kind.
    Other,
}

impl Access {
    const fn from_qualification(qualification: u64) -> Self {
        match qualification & 7 {
            1 => Self::Read,
            2 => Self::Write,
            3 => Self::ReadModifyWrite,
            4 => Self::Fetch,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadModifyWrite => "read-modify-write",
            Self::Fetch => "fetch",
            Self::Other => "access",
        })
    }
}

/// An access that the rights of the page do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation {
    /// Guest-physical address.
    pub gpa: u64,
    /// Exit qualification.
    pub qualification: u64,
    /// The page has not been accepted by this level.
    pub is_pending: bool,
}

impl EptViolation {
    pub(super) const fn new(info: &ExitInfo) -> Self {
        Self {
            gpa: info.r8,
            qualification: info.rcx,
            is_pending: info.r13 & 0xf == EEQ_PENDING_PAGE,
        }
    }

    /// What the guest tried.
    pub const fn access(self) -> Access {
        Access::from_qualification(self.qualification)
    }
}

/// An access to an address at which VTL2 has no memory either: MMIO of a device, if the caller
/// emulates one. Memory shared with the host that the host does not provide looks the same.
///
/// RIP is at the instruction. Running again executes it again, which is right if the page has been
/// mapped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmio {
    /// Guest-physical address, with the SHARED bit (47) if the guest used it.
    pub gpa: u64,
    /// Exit qualification.
    pub qualification: u64,
    /// The host took the exit first. Older TDX modules deliver every such exit that way.
    pub is_host_routed: bool,
}

impl Mmio {
    pub(super) const fn new(info: &ExitInfo) -> Self {
        Self {
            gpa: info.r8,
            qualification: info.rcx,
            is_host_routed: info.rax >> 32 != 0,
        }
    }

    /// What the guest tried.
    pub const fn access(self) -> Access {
        Access::from_qualification(self.qualification)
    }

    /// Returns true if the guest used the alias that is shared with the host.
    pub const fn is_shared(self) -> bool {
        is_shared(self.gpa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Kind, classify};

    fn violation(rax: u64, gpa: u64, rcx: u64) -> Kind {
        classify(&ExitInfo {
            rax,
            rcx,
            r8: gpa,
            ..ExitInfo::default()
        })
    }

    #[test]
    fn an_access_that_the_host_saw_first_is_mmio() {
        let mmio = |gpa, qualification, is_host_routed| {
            Kind::Mmio(Mmio {
                gpa,
                qualification,
                is_host_routed,
            })
        };
        let routed = (0x1100 << 32) | 48;
        assert_eq!(
            violation(routed, 0xfee0_0300, 2),
            mmio(0xfee0_0300, 2, true)
        );
        // Newer TDX modules may send an access to shared memory here at once.
        let shared = SHARED | 0x1234;
        assert_eq!(violation(48, shared, 1), mmio(shared, 1, false));
        assert!(matches!(violation(48, 0x1234, 1), Kind::EptViolation(_)));
    }

    #[test]
    fn other_exits_of_the_host_are_no_mmio() {
        for rax in [(0x1100 << 32) | 1, (0x1101 << 32) | 48, (0x1102 << 32) | 48] {
            assert!(matches!(violation(rax, 0x1000, 2), Kind::NotEntered(_)));
        }
    }

    #[test]
    fn each_access_has_its_name() {
        let names = [1, 2, 3, 4, 0].map(|q| Access::from_qualification(q | 0x78).to_string());
        let expected = ["read", "write", "read-modify-write", "fetch", "access"];
        assert_eq!(names, expected);
    }
}
