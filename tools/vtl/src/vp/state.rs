// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that all lower VTLs of a virtual processor share: extended state, XCR0, debug
//! registers, virtual MTRRs.

use super::Vp;
use crate::abi::operands::Register;
use crate::{Errno, Error, Result, XsaveImage, sys};

/// A register that all lower VTLs share and that has no field in the run page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedRegister(u32);

impl SharedRegister {
    /// XCR0: a subset of what VTL2 has enabled.
    pub const XFEM: Self = Self(0x4_0005);
    /// DR0.
    pub const DR0: Self = Self(0x5_0000);
    /// DR1.
    pub const DR1: Self = Self(0x5_0001);
    /// DR2.
    pub const DR2: Self = Self(0x5_0002);
    /// DR3.
    pub const DR3: Self = Self(0x5_0003);
    /// DR6.
    pub const DR6: Self = Self(0x5_0004);
    /// IA32_MTRRCAP.
    pub const MTRR_CAP: Self = Self(0x8_000d);
    /// IA32_MTRR_DEF_TYPE.
    pub const MTRR_DEF_TYPE: Self = Self(0x8_000e);

    /// IA32_MTRR_PHYSBASEn, 0 to 15.
    pub const fn mtrr_phys_base(number: u8) -> Option<Self> {
        Self::numbered(0x8_0010, number, 16)
    }

    /// IA32_MTRR_PHYSMASKn, 0 to 15.
    pub const fn mtrr_phys_mask(number: u8) -> Option<Self> {
        Self::numbered(0x8_0040, number, 16)
    }

    /// Fixed-range MTRRs, 0 to 10: one for pieces of 64 KiB, two for 16 KiB, eight for 4 KiB,
    /// lowest first.
    pub const fn mtrr_fixed(number: u8) -> Option<Self> {
        Self::numbered(0x8_0070, number, 11)
    }

    /// Returns the virtual MTRR of an MSR of the guest; `None` for other MSRs.
    ///
    /// ```
    /// use vtl::SharedRegister;
    ///
    /// assert_eq!(SharedRegister::of_msr(0x2ff), Some(SharedRegister::MTRR_DEF_TYPE));
    /// assert_eq!(SharedRegister::of_msr(0x203), SharedRegister::mtrr_phys_mask(1));
    /// assert_eq!(SharedRegister::of_msr(0x10), None);
    /// ```
    pub const fn of_msr(index: u32) -> Option<Self> {
        // CAST: each arm leaves less than 32.
        match index {
            0xfe => Some(Self::MTRR_CAP),
            0x2ff => Some(Self::MTRR_DEF_TYPE),
            0x200..=0x21f if index % 2 == 0 => Self::mtrr_phys_base(((index - 0x200) / 2) as u8),
            0x200..=0x21f => Self::mtrr_phys_mask(((index - 0x200) / 2) as u8),
            0x250 => Self::mtrr_fixed(0),
            0x258..=0x259 => Self::mtrr_fixed((index - 0x258) as u8 + 1),
            0x268..=0x26f => Self::mtrr_fixed((index - 0x268) as u8 + 3),
            _ => None,
        }
    }

    /// The register with this number in the ABI.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Number of the register in the ABI.
    pub const fn number(self) -> u32 {
        self.0
    }

    const fn numbered(first: u32, number: u8, count: u8) -> Option<Self> {
        if number < count {
            // CAST: widening.
            Some(Self(first + number as u32))
        } else {
            None
        }
    }
}

/// Debug registers of the lower VTLs; DR7 is [`crate::field::L2Field::GUEST_DR7`] of each VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3.
    pub addresses: [u64; 4],
    /// DR6.
    pub dr6: u64,
}

const DEBUG: [SharedRegister; 5] = [
    SharedRegister::DR0,
    SharedRegister::DR1,
    SharedRegister::DR2,
    SharedRegister::DR3,
    SharedRegister::DR6,
];

impl Vp {
    /// Reads several registers by one ioctl.
    ///
    /// ```no_run
    /// # use vtl::SharedRegister;
    /// # fn f(vp: &vtl::Vp) -> vtl::Result<()> {
    /// let [xcr0, dr6] = vp.shared([SharedRegister::XFEM, SharedRegister::DR6])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Registers`].
    pub fn shared<const N: usize>(&self, names: [SharedRegister; N]) -> Result<[u64; N]> {
        let mut list = names.map(|name| register(name, 0));
        sys::get_registers(&self.vtl, &mut list)
            .map_err(|(errno, failed)| refusal(errno.into(), failed, &names))?;
        Ok(list.map(|register| register.value[0]))
    }

    /// Writes several registers by one ioctl: all of them or none.
    ///
    /// # Errors
    /// [`Error::Registers`]; then nothing has changed.
    pub fn set_shared(&self, values: &[(SharedRegister, u64)]) -> Result<()> {
        let list: Vec<_> = values
            .iter()
            .map(|(name, value)| register(*name, *value))
            .collect();
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        sys::set_registers(&self.vtl, &list)
            .map_err(|(errno, failed)| refusal(errno.into(), failed, &names))
    }

    /// Reads the debug registers.
    ///
    /// # Errors
    /// [`Error::Registers`].
    pub fn debug_registers(&self) -> Result<DebugRegisters> {
        let [dr0, dr1, dr2, dr3, dr6] = self.shared(DEBUG)?;
        Ok(DebugRegisters {
            addresses: [dr0, dr1, dr2, dr3],
            dr6,
        })
    }

    /// Writes the debug registers.
    ///
    /// # Errors
    /// [`Error::Registers`]; then nothing has changed.
    pub fn set_debug_registers(&self, registers: &DebugRegisters) -> Result<()> {
        let DebugRegisters { addresses, dr6 } = *registers;
        let [dr0, dr1, dr2, dr3] = addresses;
        let values: Vec<_> = DEBUG.into_iter().zip([dr0, dr1, dr2, dr3, dr6]).collect();
        self.set_shared(&values)
    }

    /// Reads the extended state of the lower VTLs.
    ///
    /// # Errors
    /// [`Error::Xsave`].
    pub fn extended_state(&self) -> Result<XsaveImage> {
        let mut image = self.initial_extended_state()?;
        sys::xsave_get(&self.vtl, Some(&mut image)).map_err(xsave_error)?;
        Ok(image)
    }

    /// Replaces the extended state. An image from [`Self::extended_state`] is accepted on every
    /// virtual processor of a machine with the same components.
    ///
    /// # Errors
    /// [`Error::Xsave`]; then nothing has changed.
    pub fn set_extended_state(&self, image: &XsaveImage) -> Result<()> {
        sys::xsave_set(&self.vtl, image).map_err(xsave_error)
    }

    /// The extended state of a processor after reset.
    ///
    /// # Errors
    /// [`Error::Xsave`].
    pub fn initial_extended_state(&self) -> Result<XsaveImage> {
        let (size, xfeatures) = sys::xsave_get(&self.vtl, None).map_err(xsave_error)?;
        Ok(XsaveImage::initial(size, xfeatures))
    }

    /// Clears what an earlier guest left in the extended state. An older kernel module can't do
    /// that; its guests start with the old contents.
    pub(super) fn reset_extended_state(&self) -> Result<()> {
        match self.initial_extended_state() {
            Ok(image) => self.set_extended_state(&image),
            Err(Error::Xsave {
                errno: Errno::ENOTTY,
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn xsave_error(errno: rustix::io::Errno) -> Error {
    Error::Xsave {
        errno: errno.into(),
    }
}

fn register(name: SharedRegister, value: u64) -> Register {
    Register {
        name: name.0,
        value: [value, 0],
        ..Register::default()
    }
}

/// The kernel reports the refused register only for a list of several; in a list of one it is that
/// one.
fn refusal(errno: Errno, failed: u32, names: &[SharedRegister]) -> Error {
    let refused = match names {
        [only] => Some(only),
        // CAST: widening.
        _ => names.get(failed as usize),
    };
    let refused = refused.filter(|_| errno == Errno::EINVAL);
    Error::Registers {
        refused: refused.map(|name| name.0),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mtrr_of_a_processor_is_a_register_and_no_two_are_one() {
        let msrs = (0x200..=0x21f)
            .chain([0xfe, 0x2ff, 0x250, 0x258, 0x259])
            .chain(0x268..=0x26f);
        let mut numbers: Vec<_> = msrs.map(SharedRegister::of_msr).collect();
        assert!(numbers.iter().all(Option::is_some));
        numbers.sort_by_key(|name| name.map(SharedRegister::number));
        numbers.dedup();
        assert_eq!(numbers.len(), 32 + 5 + 8);
        assert_eq!(
            SharedRegister::of_msr(0x26f),
            SharedRegister::mtrr_fixed(10)
        );
        assert_eq!(
            SharedRegister::mtrr_fixed(10).map(SharedRegister::number),
            Some(0x8_007a)
        );
        assert_eq!(SharedRegister::mtrr_fixed(11), None);
        assert_eq!(SharedRegister::mtrr_phys_base(16), None);
    }

    #[test]
    fn the_register_that_was_refused_is_named() {
        let names = [SharedRegister::XFEM, SharedRegister::DR6];
        let error = refusal(Errno::EINVAL, 1, &names);
        assert!(error.to_string().contains("0x50004"), "{error}");
        let error = refusal(Errno::EINVAL, u32::MAX, &names[..1]);
        assert!(error.to_string().contains("0x40005"), "{error}");
        let other = refusal(Errno::EBUSY, 0, &names);
        let expected = Error::Registers {
            refused: None,
            errno: Errno::EBUSY,
        };
        assert_eq!(other, expected);
    }
}
