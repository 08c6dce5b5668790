// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What an errno means for a request, and what to do: the end of the messages of
//! [`crate::Error`].

use core::fmt;

use crate::{Errno, tdx_guest};

/// Nothing, or `": "` and a hint.
#[derive(Clone, Copy)]
pub(crate) struct Hint(Option<&'static str>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

const OLD_MODULE: &str = "this kernel module is older than that";
const OTHER_THREAD: &str = "another thread runs this virtual processor";
const NO_VP: &str = "the CPU has no virtual processor, or this thread was moved away from it";

pub(crate) fn open(path: &str, errno: Errno) -> Hint {
    Hint(match errno {
        Errno::ENOENT if path == tdx_guest::DEVICE => {
            Some("is tdx_guest loaded, by a kernel with CONFIG_TDX_GUEST_DRIVER?")
        }
        Errno::ENOENT => Some("is mshv_vtl_tdx loaded, and devtmpfs mounted on /dev?"),
        Errno::EPERM | Errno::EACCES => Some("CAP_SYS_ADMIN is needed"),
        _ => Some("the kernel log may say more"),
    })
}

pub(crate) fn map(errno: Errno) -> Hint {
    Hint(match errno {
        Errno::EINVAL => Some("the CPU has no virtual processor, or this module has no such page"),
        _ => None,
    })
}

pub(crate) fn bind(errno: Errno) -> Hint {
    Hint(match errno {
        Errno::EINVAL => Some("there is no such CPU, or it is offline, or not in this cpuset"),
        Errno::EBUSY => Some("the thread has handles of another CPU's; drop them first"),
        _ => None,
    })
}

pub(crate) fn run(errno: Errno) -> Hint {
    Hint(match errno {
        Errno::EBUSY => Some(OTHER_THREAD),
        Errno::ENXIO => Some(NO_VP),
        Errno::EINVAL => Some("the run page holds a value the kernel does not accept"),
        _ => Some("the kernel log may say more"),
    })
}

pub(crate) fn query(what: &str, errno: Errno) -> Hint {
    Hint(match errno {
        Errno::EIO if what == tdx_guest::QUOTE => Some("the host makes none"),
        Errno::EPERM | Errno::EACCES if what == tdx_guest::QUOTE => Some("CAP_SYS_ADMIN is needed"),
        _ if what == tdx_guest::QUOTE => {
            Some("are tsm_report and tdx_guest loaded, and configfs mounted on /sys/kernel/config?")
        }
        Errno::ENOTTY => Some(OLD_MODULE),
        Errno::EINVAL => Some("this kernel module is older, or the CPU has no virtual processor"),
        _ => Some("the kernel log may say more"),
    })
}

pub(crate) fn xsave(errno: Errno) -> Hint {
    Hint(match errno {
        Errno::ENOTTY => Some(OLD_MODULE),
        Errno::EINVAL => Some("the processor would not take the image"),
        Errno::EBUSY => Some(OTHER_THREAD),
        _ => None,
    })
}

pub(crate) fn command(command: &str, errno: Errno) -> Hint {
    Hint(match (command, errno) {
        (_, Errno::ENOTTY) => Some(OLD_MODULE),
        ("VTL_AUDIT_CHECKPOINT", Errno::EIO) => {
            Some("attestation is broken until the module is loaded anew; the kernel log says why")
        }
        ("VTL_AUDIT_CHECKPOINT", Errno::ENXIO) => Some("the last event is made"),
        ("VTL_AUDIT_CHECKPOINT", Errno::EOPNOTSUPP) => {
            Some("the module was loaded without attestation")
        }
        ("VTL_RESET", Errno::EBUSY) => Some(OTHER_THREAD),
        (_, Errno::ENXIO) => Some(NO_VP),
        ("ADD_VTL0_MEMORY", Errno::EINVAL) => {
            Some("it must be whole pieces of 2 MiB of the lower VTLs' memory")
        }
        ("HVCALL", Errno::EPERM) => Some("the call is not in the list, or the policy refuses it"),
        _ => None,
    })
}

/// Which register was refused.
pub(crate) struct Refused(Option<u32>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(
                f,
                ": register {name:#x} is not known or does not take the value"
            ),
            None => Ok(()),
        }
    }
}

pub(crate) fn registers(refused: Option<u32>) -> Refused {
    Refused(refused)
}
