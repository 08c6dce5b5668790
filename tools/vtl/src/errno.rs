// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel's error numbers, with their names.

use core::fmt;

/// A Linux error number, from [`Error::errno`](crate::Error::errno).
///
/// ```
/// use vtl::Errno;
///
/// let errno = Errno::from_raw(16);
/// assert_eq!(errno, Errno::EBUSY);
/// assert_eq!(errno.name(), Some("EBUSY"));
/// assert!(errno.to_string().starts_with("EBUSY ("));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $number:literal: $doc:literal,)+) => {
        impl Errno {
            $(
                #[doc = $doc]
                pub const $name: Self = Self($number);
            )+

            /// Name of the number, for those that the devices give.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1: "CAP_SYS_ADMIN is missing, or a policy refuses.",
    ENOENT = 2: "No such file.",
    EINTR = 4: "A signal came, or a run was cancelled.",
    EIO = 5: "The TDX module refused.",
    ENXIO = 6: "No such virtual processor.",
    E2BIG = 7: "A structure has something set that the kernel does not know.",
    EBADF = 9: "No such file descriptor.",
    EAGAIN = 11: "Nothing there now.",
    ENOMEM = 12: "No memory.",
    EACCES = 13: "No permission.",
    EFAULT = 14: "Memory given by pointer can't be read or written.",
    EBUSY = 16: "In use by somebody else.",
    ENODEV = 19: "No such device.",
    EINVAL = 22: "A field has a value that the interface does not allow.",
    ENFILE = 23: "The system has no room for another file.",
    EMFILE = 24: "The process has no room for another file.",
    ENOTTY = 25: "The file does not know the command.",
    ENOSPC = 28: "No room left.",
    EOPNOTSUPP = 95: "A known field has a value that is not served.",
}

impl Errno {
    /// The error of this number.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(*self).to_string();
        let words = text.split(" (os error").next().unwrap_or_default();
        match self.name() {
            Some(name) => write!(f, "{name} ({words})"),
            None => write!(f, "errno {} ({words})", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_c_library() {
        use rustix::io::Errno as Of;
        for (ours, theirs) in [
            (Errno::EPERM, Of::PERM),
            (Errno::EIO, Of::IO),
            (Errno::E2BIG, Of::TOOBIG),
            (Errno::EBADF, Of::BADF),
            (Errno::EFAULT, Of::FAULT),
            (Errno::EMFILE, Of::MFILE),
            (Errno::ENOTTY, Of::NOTTY),
            (Errno::ENOSPC, Of::NOSPC),
            (Errno::EOPNOTSUPP, Of::OPNOTSUPP),
        ] {
            assert_eq!(ours, theirs.into());
        }
    }

    #[test]
    fn a_number_without_name_is_shown() {
        assert_eq!(Errno::from_raw(71).name(), None);
        assert!(Errno::from_raw(71).to_string().starts_with("errno 71 ("));
    }
}
