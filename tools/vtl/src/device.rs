// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The devices: `/dev/mshv` says what is offered and makes VTL files, a VTL
//! file runs virtual processors ([`crate::vp`]) and executes TDCALLs
//! ([`crate::tdcall`]).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::audit::Ring;
use crate::stats::{Info, PolicyLine, Stats};
use crate::vp::{Vm, Vp};
use crate::{Error, Result, RunPage, abi, sys};

/// A capability of CHECK_EXTENSION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Extension {
    /// The core ABI is frozen.
    CoreApiStable = 0,
    /// Register page (not on TDX).
    RegisterPage = 1,
    /// VTL return actions (not on TDX).
    VtlReturnAction = 2,
    /// DR6 is shared between VTLs.
    Dr6Shared = 3,
    /// The kernel serves the lower VTL's TSC deadline.
    LowerVtlTimerVirt = 4,
    /// [`Mshv::info`] is served.
    Info = 0x100,
    /// [`Vtl::stats`] is served.
    Stats = 0x101,
    /// [`Vtl::map_audit_ring`] is served.
    AuditRing = 0x102,
    /// [`Mshv::policy`] is served.
    Policy = 0x103,
    /// The XSAVE image can be read and written.
    Xsave = 0x104,
    /// [`crate::Vp::renew`] is served.
    Reset = 0x108,
}

impl Extension {
    /// All capabilities this crate knows.
    pub const ALL: [Self; 11] = [
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
        Self::Reset,
    ];

    /// Name as the header spells it, without prefix.
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
            Self::Reset => "RESET",
        }
    }
}

/// `/dev/mshv`.
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

    /// What the kernel answers for `extension`; `None` if it does not know it.
    ///
    /// # Errors
    /// [`Error::CheckExtension`].
    pub fn check_extension(&self, extension: Extension) -> Result<Option<u32>> {
        // CAST: the discriminant.
        let number = extension as u32;
        match sys::check_extension(&self.fd, number) {
            Ok(answer) => Ok(Some(answer)),
            Err(Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::CheckExtension { number, errno }),
        }
    }

    /// Facts about module and trust domain.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn info(&self) -> Result<Info> {
        let mut words = [0; Info::WORDS];
        sys::query::<{ abi::command::VTL_INFO }>(&self.fd, 0, &mut words).map_err(|errno| {
            Error::Query {
                what: "facts",
                errno,
            }
        })?;
        Ok(Info::from_words(&words))
    }

    /// The TDCALLs that userspace may execute, one line each.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn policy(&self) -> Result<Vec<PolicyLine>> {
        self.lines(0)
    }

    /// The hypercalls that userspace may make, one line each, the code in
    /// `leaf`. None with a module that has no policy for them.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn hypercall_policy(&self) -> Result<Vec<PolicyLine>> {
        const HVCALLS: u32 = 1 << 31;
        self.lines(HVCALLS)
    }

    fn lines(&self, table: u32) -> Result<Vec<PolicyLine>> {
        let mut lines = Vec::new();
        loop {
            let mut words = [0; PolicyLine::WORDS];
            // More lines than a u32 counts there are not.
            let number = u32::try_from(lines.len()).unwrap_or(u32::MAX);
            let selector = number | table;
            match sys::query::<{ abi::command::VTL_POLICY }>(&self.fd, selector, &mut words) {
                Ok(()) => lines.push(PolicyLine::from_words(&words)),
                Err(Errno::NXIO) => return Ok(lines),
                Err(errno) => {
                    return Err(Error::Query {
                        what: "the policy",
                        errno,
                    });
                }
            }
        }
    }

    /// Makes a VTL file.
    ///
    /// # Errors
    /// [`Error::CreateVtl`].
    pub fn create_vtl(&self) -> Result<Vtl> {
        let fd = sys::create_vtl(&self.fd).map_err(Error::CreateVtl)?;
        Ok(Vtl { fd: Arc::new(fd) })
    }
}

/// A VTL file. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct Vtl {
    fd: Arc<OwnedFd>,
}

impl Vtl {
    /// Opens `/dev/mshv_vtl`, the same object [`Mshv::create_vtl`] makes.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            fd: Arc::new(open(abi::DEV_MSHV_VTL)?),
        })
    }

    /// Binds this thread to `cpu` and takes that CPU's virtual processor to
    /// run `vm` on it.
    ///
    /// # Errors
    /// [`Error::Bind`] or [`Error::MapRunPage`].
    pub fn bind(&self, cpu: u32, vm: Vm) -> Result<Vp> {
        Vp::bind(self.clone(), cpu, vm)
    }

    /// Maps the run page of `cpu`.
    ///
    /// # Errors
    /// [`Error::MapRunPage`].
    pub fn map_run_page(&self, cpu: u32) -> Result<RunPage> {
        RunPage::map(self.fd(), cpu).map_err(|errno| Error::MapRunPage { cpu, errno })
    }

    /// Reads the counters of the virtual processor of `cpu`; `None` without one.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn stats(&self, cpu: u32) -> Result<Option<Stats>> {
        let mut words = [0; Stats::WORDS];
        match sys::query::<{ abi::command::VTL_STATS }>(self.fd(), cpu, &mut words) {
            Ok(()) => Ok(Some(Stats::from_words(&words))),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(Error::Query {
                what: "counters",
                errno,
            }),
        }
    }

    /// Maps the audit ring of `cpu`; [`Info::audit_records`] is its length.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub fn map_audit_ring(&self, cpu: u32, info: &Info) -> Result<Ring> {
        Ring::map(self.fd(), cpu, info.audit_records).map_err(|errno| Error::Query {
            what: "the audit ring",
            errno,
        })
    }

    /// Executes one TDCALL leaf with exactly these registers.
    ///
    /// The outputs, status included, are in `call` afterwards: a refusal by
    /// the TDX module or by the kernel's policy is a status, not an error.
    ///
    /// # Errors
    /// [`Error::TdcallIoctl`].
    pub fn tdcall(&self, call: &mut abi::Tdcall) -> Result<()> {
        sys::tdcall(self.fd(), call).map_err(Error::TdcallIoctl)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        self.fd.as_fd()
    }
}

/// Opens a device of the ABI for reading and writing.
pub(crate) fn open(path: &'static str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Open { path, errno })
}
