// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `/dev/mshv_hvcall`: hypercalls, if the host is Hyper-V.

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{Error, Result, abi, device, sys};

/// A file for hypercalls with the codes that it was opened for. Which of them the kernel allows is
/// up to its policy: [`crate::Mshv::hypercall_policy`].
///
/// ```no_run
/// use vtl::hvcall::{Control, HypercallFile};
///
/// # fn main() -> Result<(), vtl::Error> {
/// const SIGNAL_EVENT: u16 = 0x5d;
/// let file = HypercallFile::open([SIGNAL_EVENT])?;
/// let input = [4, 0, 0, 0, 0, 0, 0, 0];
/// let status = file.call(Control::of(SIGNAL_EVENT), &input, &mut [])?;
/// println!("the host says {status}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HypercallFile {
    fd: OwnedFd,
}

/// Control word of a hypercall [TLFS 3.7].
#[bitfield_struct::bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Control {
    /// Code of the call.
    pub code: u16,
    _fast: bool,
    /// Size of a variable-size header, in units of 8 bytes.
    #[bits(10)]
    pub variable_header: u16,
    #[bits(5)]
    _reserved27: u8,
    /// Number of elements of a rep call.
    #[bits(12)]
    pub elements: u16,
    #[bits(4)]
    _reserved44: u8,
    /// Number of elements that are already done.
    #[bits(12)]
    pub elements_done: u16,
    #[bits(4)]
    _reserved60: u8,
}

impl Control {
    /// A simple call.
    pub const fn of(code: u16) -> Self {
        Self::new().with_code(code)
    }
}

/// The host's answer.
#[bitfield_struct::bitfield(u64, debug = false)]
#[derive(PartialEq, Eq)]
pub struct HypercallStatus {
    /// 0, or the reason of the failure (HV_STATUS).
    pub result: u16,
    _reserved16: u16,
    /// Number of elements that are done.
    #[bits(12)]
    pub elements_done: u16,
    #[bits(20)]
    _reserved44: u32,
}

impl HypercallStatus {
    /// HV_STATUS_TIMEOUT: the call was interrupted; call again from [`Self::elements_done`].
    pub const TIMEOUT: u16 = 0x78;

    /// Returns true if the call succeeded.
    pub const fn is_success(self) -> bool {
        self.result() == 0
    }
}

impl fmt::Display for HypercallStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (result, done) = (self.result(), self.elements_done());
        match result {
            0 => write!(f, "success, {done} elements done"),
            _ => write!(f, "status {result:#x}, {done} elements done"),
        }
    }
}

impl fmt::Debug for HypercallStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl HypercallFile {
    /// Opens the device for calls of these codes.
    ///
    /// # Errors
    /// [`Error::Open`], with ENOENT if the host is not Hyper-V; [`Error::Command`].
    pub fn open(codes: impl IntoIterator<Item = u16>) -> Result<Self> {
        let fd = device::open(abi::DEV_MSHV_HVCALL)?;
        sys::hvcall_setup(&fd, &list(codes)).map_err(Error::command("HVCALL_SETUP"))?;
        Ok(Self { fd })
    }

    /// Makes a hypercall. Bytes of `output` that the host does not write are zero.
    ///
    /// # Errors
    /// [`Error::Command`]: EPERM if the code is not in the file's list or not in the policy. A
    /// failure reported by the host is no error here, but the returned status.
    pub fn call(
        &self,
        control: Control,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<HypercallStatus> {
        let status = sys::hvcall(&self.fd, control.into_bits(), input, output)
            .map_err(Error::command("HVCALL"))?;
        Ok(HypercallStatus::from_bits(status))
    }

    /// Makes a rep hypercall, and continues it as long as the host interrupts it with
    /// [`HypercallStatus::TIMEOUT`].
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_elements(
        &self,
        control: Control,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<HypercallStatus> {
        let mut control = control;
        loop {
            let status = self.call(control, input, output)?;
            let has_progress = status.elements_done() > control.elements_done();
            if status.result() != HypercallStatus::TIMEOUT || !has_progress {
                return Ok(status);
            }
            control.set_elements_done(status.elements_done());
        }
    }
}

impl AsFd for HypercallFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Bit n of byte m stands for code 8 m + n.
fn list(codes: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut list = Vec::new();
    for code in codes {
        let byte = usize::from(code / 8);
        if list.len() <= byte {
            list.resize(byte + 1, 0);
        }
        list[byte] |= 1 << (code % 8);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_words_are_those_of_the_specification() {
        let control = Control::of(0xdb)
            .with_elements(0xabc)
            .with_elements_done(1)
            .with_variable_header(2);
        assert_eq!(control.into_bits(), 0x0001_0abc_0004_00db);
        let status = HypercallStatus::from_bits(0x0000_0003_0000_0078);
        assert_eq!((status.result(), status.elements_done()), (0x78, 3));
        assert_eq!(status.to_string(), "status 0x78, 3 elements done");
    }

    proptest! {
        #[test]
        fn a_list_has_its_codes_and_fits(codes in proptest::collection::btree_set(any::<u16>(), 1..20)) {
            let list = list(codes.iter().copied());
            prop_assert!(list.len() <= 8192);
            for code in codes.iter().flat_map(|code| [*code, code.wrapping_add(1)]) {
                let byte = list.get(usize::from(code / 8)).copied().unwrap_or(0);
                prop_assert_eq!((byte >> (code % 8)) & 1 != 0, codes.contains(&code));
            }
        }
    }
}
