// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `/dev/mshv`: queries what the kernel offers, and makes VTL files ([`crate::Vtl`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zerocopy::FromZeros as _;

use crate::abi::operands;
use crate::info::{Info, PolicyLine};
use crate::{Error, Result, Vtl, abi, sys};

/// A capability of CHECK_EXTENSION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Extension {
    /// The core ABI is frozen.
    CoreApiStable = 0,
    /// Register page (not on TDX).
    RegisterPage = 1,
    /// VTL return actions (not on TDX).
    VtlReturnAction = 2,
    /// DR6 is shared between VTLs.
    Dr6Shared = 3,
    /// The kernel handles the lower VTL's TSC deadline.
    LowerVtlTimerVirt = 4,
    /// [`Mshv::info`] is supported.
    Info = 0x100,
    /// [`Vtl::stats`] is supported.
    Stats = 0x101,
    /// [`Vtl::map_audit_ring`] is supported.
    AuditRing = 0x102,
    /// [`Mshv::policy`] is supported.
    Policy = 0x103,
    /// The XSAVE image can be read and written.
    Xsave = 0x104,
    /// The kernel carries out VTL calls and returns: the trust domain has a VTL1.
    VtlSwitch = 0x105,
    /// [`abi::command::VTL_AUDIT_CHECKPOINT`] and `VTL_AUDIT_EVENT` are supported.
    Attest = 0x106,
    /// [`crate::Vp::renew`] is supported.
    Reset = 0x108,
    /// The kernel serves the timer of VTL0's APIC, see [`crate::RunPage::set_timer_vector`].
    Timer = 0x109,
    /// [`Vtl::note`] is supported.
    AuditNote = 0x10a,
}

impl Extension {
    /// All capabilities that this crate knows.
    pub const ALL: &'static [Self] = &[
        Self::CoreApiStable,
        Self::RegisterPage,
        Self::VtlReturnAction,
        Self::Dr6Shared,
        Self::LowerVtlTimerVirt,
        Self::Info,
        Self::Stats,
        Self::AuditRing,
        Self::Policy,
        Self::Xsave,
        Self::VtlSwitch,
        Self::Attest,
        Self::Reset,
        Self::Timer,
        Self::AuditNote,
    ];

    /// Name as in the header, without the prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CoreApiStable => "CORE_API_STABLE",
            Self::RegisterPage => "REGISTER_PAGE",
            Self::VtlReturnAction => "VTL_RETURN_ACTION",
            Self::Dr6Shared => "DR6_SHARED",
            Self::LowerVtlTimerVirt => "LOWER_VTL_TIMER_VIRT",
            Self::Info => "INFO",
            Self::Stats => "STATS",
            Self::AuditRing => "AUDIT_RING",
            Self::Policy => "POLICY",
            Self::Xsave => "XSAVE",
            Self::VtlSwitch => "VTL_SWITCH",
            Self::Attest => "ATTEST",
            Self::Reset => "RESET",
            Self::Timer => "TIMER",
            Self::AuditNote => "AUDIT_NOTE",
        }
    }
}

/// The device `/dev/mshv`: queries, and creation of VTL files.
///
/// ```no_run
/// # fn main() -> Result<(), vtl::Error> {
/// let mshv = vtl::Mshv::open()?;
/// let info = mshv.info()?;
/// println!("{} L2 VMs, module {:?}", info.num_l2_vms, info.version);
/// let vtl = mshv.create_vtl()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Mshv {
    fd: OwnedFd,
}

impl Mshv {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            fd: open(abi::DEV_MSHV)?,
        })
    }

    /// Returns the kernel's answer for `extension`; `None` if the kernel does not know it.
    ///
    /// # Errors
    /// [`Error::CheckExtension`].
    pub fn check_extension(&self, extension: Extension) -> Result<Option<u32>> {
        // CAST: the discriminant.
        let number = extension as u32;
        match sys::check_extension(&self.fd, number) {
            Ok(answer) => Ok(Some(answer)),
            Err(Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::CheckExtension {
                number,
                errno: errno.into(),
            }),
        }
    }

    /// Returns facts about the kernel module and the trust domain.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn info(&self) -> Result<Info> {
        let mut answer = operands::RawInfo::default();
        sys::query::<{ abi::command::VTL_INFO }, _>(&self.fd, 0, &mut answer).map_err(|errno| {
            Error::Query {
                what: "facts",
                errno: errno.into(),
            }
        })?;
        Ok(Info::new(&answer))
    }

    /// Returns the TDCALLs that userspace may execute, one per line.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn policy(&self) -> Result<Vec<PolicyLine>> {
        self.lines(0)
    }

    /// Returns the hypercalls that userspace may make, one per line, with the code in `leaf`. The
    /// list is empty if the kernel module has no such policy.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn hypercall_policy(&self) -> Result<Vec<PolicyLine>> {
        self.lines(abi::POLICY_HVCALLS)
    }

    fn lines(&self, table: u32) -> Result<Vec<PolicyLine>> {
        let mut lines = Vec::new();
        loop {
            let mut answer = operands::Policy::new_zeroed();
            // There are never more lines than fit in a u32.
            let number = u32::try_from(lines.len()).unwrap_or(u32::MAX);
            let selector = number | table;
            match sys::query::<{ abi::command::VTL_POLICY }, _>(&self.fd, selector, &mut answer) {
                Ok(()) => lines.push(PolicyLine::new(&answer)),
                Err(Errno::NXIO) => return Ok(lines),
                Err(errno) => {
                    return Err(Error::Query {
                        what: "the policy",
                        errno: errno.into(),
                    });
                }
            }
        }
    }

    /// Makes a VTL file, with a descriptor of its own.
    ///
    /// # Errors
    /// [`Error::CreateVtl`].
    pub fn create_vtl(&self) -> Result<Vtl> {
        let fd = sys::create_vtl(&self.fd).map_err(|errno| Error::CreateVtl(errno.into()))?;
        Ok(Vtl::new(fd))
    }
}

impl AsFd for Mshv {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a device of the ABI for reading and writing.
pub(crate) fn open(path: &'static str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::Open {
            path,
            errno: errno.into(),
        }
    })
}
