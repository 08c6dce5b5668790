// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Values of JSON objects.

use serde_json::Value;

/// A value that may need more than the 53 bits that JSON numbers keep: an address, a register, a
/// time. It becomes a string of hexadecimal digits.
pub(crate) fn word(value: u64) -> Value {
    format!("{value:#x}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_of_a_word_is_lost() {
        assert_eq!(word(u64::MAX), "0xffffffffffffffff");
        assert_eq!(word(0), "0x0");
    }
}
