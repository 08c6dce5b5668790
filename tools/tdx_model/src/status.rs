// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Completion status codes of TDCALL, as returned in RAX [ABI completion status].
//!
//! Written from the specification independently: the kernel module has its own list, and a test
//! compares the two.

/// A completion status: class and number in the upper half, details in the lower.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u64);

/// Numbers that name the operand a status complains about [ABI operand ids].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Operand {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    R8 = 8,
    KeyName = 100,
    KeySizeBitmap = 108,
    Rtmr = 168,
    L2VapicGpa = 170,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $upper:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($upper << 32);)*

            /// The name of this status without its details; `None` if the model has no such status.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 >> 32 {
                    $($upper => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Done. For TDG.VP.ENTER the details are the raw exit reason.
    SUCCESS = 0x0000_0000;
    /// An operand is not acceptable; details name it.
    OPERAND_INVALID = 0xc000_0100;
    /// Another processor holds the operand; retry.
    OPERAND_BUSY = 0x8000_0200;
    /// TDG.VP.VEINFO.GET, but no #VE is pending.
    NO_VALID_VE_INFO = 0xc000_0704;
    /// A VMCS field could not be used; details are its encoding.
    TD_VMCS_FIELD_ERROR = 0xc000_0731;
    /// No page at this address; later modules only.
    EPT_ENTRY_FREE = 0xc000_0b01;
    /// The page is not in the state the call needs; later modules only.
    EPT_ENTRY_STATE_INCORRECT = 0xc000_0b0d;
    /// The page had been accepted before; not an error, but its content was kept.
    PAGE_ALREADY_ACCEPTED = 0x0000_0b0a;
    /// The page is mapped smaller; the details are the requested level. For TDG.MEM.PAGE.RELEASE
    /// they are the level at which it is mapped.
    PAGE_SIZE_MISMATCH = 0xc000_0b0b;
    /// The L2 secure EPT has no table for the page.
    L2_SEPT_WALK_FAILED = 0xc000_0b0f;
    /// The requested attributes are not a legal combination.
    PAGE_ATTR_INVALID = 0xc000_0b11;
    /// The list has no room for all fields; the next id is returned.
    METADATA_LIST_OVERFLOW = 0xc000_0c04;
    /// No such metadata field.
    METADATA_FIELD_ID_INCORRECT = 0xc000_0c00;
    /// The field can not be written by this caller with this mask.
    METADATA_FIELD_NOT_WRITABLE = 0xc000_0c01;
    /// The field can not be read by this caller.
    METADATA_FIELD_NOT_READABLE = 0xc000_0c02;
    /// The field can not take this value.
    METADATA_FIELD_VALUE_NOT_VALID = 0xc000_0c03;
    /// The null id was read: the first id of the context is returned. Not an error.
    METADATA_FIRST_FIELD_ID_IN_CONTEXT = 0x0000_0c0b;
    /// The TD has no keys for sealing; later modules only.
    MR_KEY_GET_NOT_SUPPORTED = 0xc000_1004;
    /// A key for a platform later than this one; later modules only.
    SVN_INVALID = 0xc000_1006;
    /// The host handed control back to L1 after an asynchronous exit of the L2.
    L2_EXIT_HOST_ROUTED_ASYNC = 0x0000_1100;
    /// The host handed control back to L1 after a TDG.VP.VMCALL of the L2.
    L2_EXIT_HOST_ROUTED_TDVMCALL = 0x0000_1101;
    /// The L2 was left because L1 has an interrupt to take.
    L2_EXIT_PENDING_INTERRUPT = 0x0000_1102;
    /// The L2 could not be entered because of its control fields; later modules only.
    L2_VM_ENTRY_FAILED = 0x8000_1103;
    /// The L2 was not entered because L1 has an interrupt to take.
    PENDING_INTERRUPT = 0x0000_1120;
    /// An address to invalidate is not canonical.
    GLA_NOT_CANONICAL = 0xc000_1160;
}

impl Status {
    /// This status with other details.
    #[must_use]
    pub const fn with(self, details: u32) -> Self {
        Self((self.0 & !0xffff_ffff) | details as u64)
    }

    /// OPERAND_INVALID naming `operand`.
    #[must_use]
    pub const fn invalid(operand: Operand) -> Self {
        Self::OPERAND_INVALID.with(operand as u32)
    }

    /// The details, bits 31:0.
    #[must_use]
    pub const fn details(self) -> u32 {
        // CAST: the lower half is meant.
        self.0 as u32
    }

    /// The status without its details.
    #[must_use]
    pub const fn without_details(self) -> Self {
        self.with(0)
    }

    /// Bit 63.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >> 63 != 0
    }
}

impl core::fmt::Debug for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}|{:#x}", self.details()),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_specification() {
        assert_eq!(Status::invalid(Operand::Rdx).0, 0xc000_0100_0000_0002);
        assert_eq!(Status::PENDING_INTERRUPT.0, 0x0000_1120_0000_0000);
        assert_eq!(
            Status::L2_EXIT_PENDING_INTERRUPT.with(1).0,
            0x0000_1102_0000_0001
        );
        assert!(!Status::PAGE_ALREADY_ACCEPTED.is_error());
        assert!(Status::PAGE_SIZE_MISMATCH.is_error());
    }
}
