// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Registers that end the machine.

use super::Ports;

/// A power request of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// To be powered off.
    Off,
    /// To start again.
    Reset,
    /// To end with this number.
    Exit(u8),
}

/// What a byte to a port means, if that port ends the machine.
pub const fn written(port: u16, value: u8) -> Option<Power> {
    const SLEEP_ENABLE: u8 = 1 << 5;
    const SOFT_OFF: u8 = (Ports::SOFT_OFF << 2) | SLEEP_ENABLE;
    match (port, value) {
        (Ports::SLEEP_CONTROL, SOFT_OFF) => Some(Power::Off),
        (Ports::RESET, Ports::RESET_VALUE) | (Ports::KEYBOARD, Ports::KEYBOARD_RESET) => {
            Some(Power::Reset)
        }
        (Ports::EXIT, code) => Some(Power::Exit(code)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_values_end_the_machine() {
        assert_eq!(written(0x600, 0x34), Some(Power::Off));
        assert_eq!(written(0x600, 0x14), None);
        assert_eq!(written(0x600, 0x24), None);
        assert_eq!(written(0x602, 1), Some(Power::Reset));
        assert_eq!(written(0x602, 0), None);
        assert_eq!(written(0x64, 0xfe), Some(Power::Reset));
        assert_eq!(written(0x64, 0x20), None);
        assert_eq!(written(0xf4, 0), Some(Power::Exit(0)));
    }
}
