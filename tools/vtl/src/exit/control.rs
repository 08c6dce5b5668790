// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Accesses to control and debug registers, and exceptions. Part of [`crate::exit`].

use super::instruction::Instruction;
use crate::Result;
use crate::abi::ExitInfo;
use crate::run_page::Gpr;
use crate::vp::{Exception, Vp};

/// What an instruction does with a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrOperation {
    /// MOV to CRn from this register.
    Write(Gpr),
    /// MOV from CRn to this register.
    Read(Gpr),
    /// CLTS.
    Clts,
    /// LMSW with this value.
    Lmsw(u16),
}

/// A decoded access to a control register [SDM3 29.2.1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cr {
    /// Number of the register.
    pub number: u8,
    /// What the instruction does.
    pub operation: CrOperation,
}

/// A decoded MOV to or from a debug register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dr {
    /// Number of the register.
    pub number: u8,
    /// The general register.
    pub gpr: Gpr,
    /// True if the debug register is read.
    pub is_read: bool,
}

impl Cr {
    pub(super) fn from_qualification(qualification: u64) -> Self {
        let gpr = gpr(qualification);
        Self {
            // CAST: four bits.
            number: (qualification & 0xf) as u8,
            operation: match (qualification >> 4) & 3 {
                0 => CrOperation::Write(gpr),
                1 => CrOperation::Read(gpr),
                2 => CrOperation::Clts,
                // CAST: bits 31:16.
                _ => CrOperation::Lmsw((qualification >> 16) as u16),
            },
        }
    }
}

impl Dr {
    pub(super) fn from_qualification(qualification: u64) -> Self {
        Self {
            // CAST: three bits.
            number: (qualification & 7) as u8,
            gpr: gpr(qualification),
            is_read: qualification & (1 << 4) != 0,
        }
    }
}

/// The general register in bits 11:8.
fn gpr(qualification: u64) -> Gpr {
    // CAST: four bits, and every number of four bits is a register.
    Gpr::from_number((qualification >> 8) as usize & 0xf).unwrap_or(Gpr::Rax)
}

macro_rules! access {
    ($(#[$doc:meta])* $name:ident, $decoded:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<'a> {
            pub(super) instruction: Instruction<'a>,
            pub(super) access: $decoded,
        }

        impl<'a> $name<'a> {
            /// The register, and what the instruction does.
            pub fn access(&self) -> $decoded {
                self.access
            }

            /// The processor, for registers and fields of the L2 VMCS.
            pub fn vp(&self) -> &'a Vp {
                self.instruction.vp()
            }

            /// Steps over the instruction, after the caller has carried it out.
            pub fn complete(self) {
                self.instruction.complete();
            }

            /// Raises `exception` instead.
            ///
            /// # Errors
            /// [`crate::Error::Tdcall`].
            pub fn fault(self, exception: Exception) -> Result<()> {
                self.instruction.fault(exception)
            }
        }
    };
}

access!(
    /// An access to a control register.
    CrAccess, Cr
);
access!(
    /// An access to a debug register.
    DrAccess, Dr
);

/// An exception that the exception bitmap intercepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionExit {
    /// Its vector.
    pub vector: u8,
    /// Error code of the event, if it has one.
    pub error_code: Option<u32>,
    /// Exit qualification: for #PF the linear address, for #DB its cause.
    pub qualification: u64,
}

impl ExceptionExit {
    /// `None` for an NMI, and if the information is not valid.
    pub(super) fn new(info: &ExitInfo) -> Option<Self> {
        const VALID: u64 = 1 << 31;
        const HAS_ERROR_CODE: u64 = 1 << 11;
        const NMI: u64 = 2;
        let interruption = info.r9 & 0xffff_ffff;
        if interruption & VALID == 0 || (interruption >> 8) & 7 == NMI {
            return None;
        }
        // CAST: the code is the high half.
        let error_code = (info.r9 >> 32) as u32;
        Some(Self {
            // CAST: bits 7:0.
            vector: interruption as u8,
            error_code: (interruption & HAS_ERROR_CODE != 0).then_some(error_code),
            qualification: info.rcx,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accesses_to_control_registers_are_decoded() {
        let cr = |qualification| {
            let Cr { number, operation } = Cr::from_qualification(qualification);
            (number, operation)
        };
        assert_eq!(cr(0x503), (3, CrOperation::Write(Gpr::Rbp)));
        assert_eq!(cr(0xf18), (8, CrOperation::Read(Gpr::R15)));
        assert_eq!(cr(0x20), (0, CrOperation::Clts));
        assert_eq!(cr(0xabcd_0030), (0, CrOperation::Lmsw(0xabcd)));
    }

    #[test]
    fn accesses_to_debug_registers_are_decoded() {
        let expected = Dr {
            number: 7,
            gpr: Gpr::Rcx,
            is_read: true,
        };
        assert_eq!(Dr::from_qualification(0x117), expected);
        assert!(!Dr::from_qualification(0x107).is_read);
    }

    proptest! {
        #[test]
        fn every_qualification_names_the_register_of_its_bits(qualification: u64) {
            let number = (qualification >> 8) as usize & 0xf;
            prop_assert_eq!(gpr(qualification) as usize, number);
            prop_assert!(Cr::from_qualification(qualification).number < 16);
            prop_assert!(Dr::from_qualification(qualification).number < 8);
        }
    }
}
