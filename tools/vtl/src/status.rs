// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Completion status of a TDCALL [ABI 1.3]: class, number and details.

use core::fmt;

/// A completion status: RAX as the TDX module returned it.
///
/// ```
/// let status = vtl::Status::from_raw(0xc000_0100_0000_0001);
/// assert_eq!(status.code(), vtl::Status::OPERAND_INVALID);
/// assert_eq!(status.to_string(), "TDX_OPERAND_INVALID (0xc000010000000001)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u64);

/// Statuses this crate acts upon, as their upper 32 bits.
macro_rules! statuses {
    ($($name:ident = $value:literal,)+) => {
        impl Status {
            $(
                #[doc = concat!("Upper half of TDX_", stringify!($name), ".")]
                pub const $name: u32 = $value;
            )+
        }

        const NAMES: &[(u32, &str)] = &[
            $(($value, concat!("TDX_", stringify!($name))),)+
        ];
    };
}

statuses! {
    SUCCESS = 0x0000_0000,
    OPERAND_INVALID = 0xc000_0100,
    OPERAND_ADDR_RANGE_ERROR = 0xc000_0101,
    OPERAND_BUSY = 0x8000_0200,
    TD_VMCS_FIELD_NOT_INITIALIZED = 0xc000_0730,
    TD_VMCS_FIELD_ERROR = 0xc000_0731,
    EPT_WALK_FAILED = 0xc000_0b00,
    EPT_ENTRY_FREE = 0xc000_0b01,
    PAGE_ALREADY_ACCEPTED = 0x0000_0b0a,
    PAGE_SIZE_MISMATCH = 0xc000_0b0b,
    EPT_ENTRY_STATE_INCORRECT = 0xc000_0b0d,
    L2_SEPT_WALK_FAILED = 0xc000_0b0f,
    PAGE_ATTR_INVALID = 0xc000_0b11,
    METADATA_FIELD_ID_INCORRECT = 0xc000_0c00,
    METADATA_FIELD_NOT_WRITABLE = 0xc000_0c01,
    METADATA_FIELD_NOT_READABLE = 0xc000_0c02,
    METADATA_FIELD_VALUE_NOT_VALID = 0xc000_0c03,
    METADATA_FIELD_CURRENTLY_NOT_WRITABLE = 0xc000_0c09,
    METADATA_WR_MASK_NOT_VALID = 0xc000_0c0a,
    L2_EXIT_HOST_ROUTED_ASYNC = 0x0000_1100,
    L2_EXIT_HOST_ROUTED_TDVMCALL = 0x0000_1101,
    L2_EXIT_PENDING_INTERRUPT = 0x0000_1102,
    PENDING_INTERRUPT = 0x0000_1120,
    TD_EXIT_BEFORE_L2_ENTRY = 0x0000_1140,
    L2_VM_ENTRY_FAILED = 0x8000_1103,
    GLA_NOT_CANONICAL = 0xc000_1160,
}

impl Status {
    /// The status in this value of RAX.
    pub const fn from_raw(rax: u64) -> Self {
        Self(rax)
    }

    /// RAX.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Class, number and flags: everything but the details.
    pub const fn code(self) -> u32 {
        // CAST: exactly the upper half.
        (self.0 >> 32) as u32
    }

    /// Operand id, page level or raw exit reason.
    pub const fn details(self) -> u32 {
        // CAST: exactly the lower half.
        self.0 as u32
    }

    /// Returns true if the TDX module reports an error (bit 63).
    pub const fn is_error(self) -> bool {
        self.0 >> 63 != 0
    }

    /// Name of the code in the specification; `None` if this crate does not know it.
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(code, _)| *code == self.code())
            .map(|(_, name)| *name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("unknown status");
        write!(f, "{name} ({:#018x})", self.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_told_apart() {
        let status = Status::from_raw(0xc000_0100_0000_00aa);
        assert_eq!(status.code(), Status::OPERAND_INVALID);
        assert_eq!(status.details(), 0xaa);
        assert!(status.is_error());
        assert_eq!(
            status.to_string(),
            "TDX_OPERAND_INVALID (0xc0000100000000aa)"
        );
    }

    #[test]
    fn already_accepted_carries_no_error_bit() {
        assert!(!Status::from_raw(0x0000_0b0a_0000_0001).is_error());
    }

    #[test]
    fn unknown_codes_are_shown_raw() {
        let status = Status::from_raw(0xc000_ffff_0000_0000);
        assert_eq!(status.name(), None);
        assert!(status.to_string().contains("0xc000ffff00000000"));
    }
}
