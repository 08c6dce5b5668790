// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The request of a VTL call: 64 bytes that VTL0 has written to its memory, and the status that it
//! gets in RAX.

use crate::ranges::Range;

/// Length of a request in bytes; its address is a multiple of it.
pub const REQUEST_LEN: usize = 64;
/// "VTL1", the first word of a request.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VTL1");
/// Most bytes of an input.
pub const MAX_INPUT: usize = 16 << 10;
/// Most bytes of an output: those of a sealed input.
pub const MAX_OUTPUT: usize = MAX_INPUT + crate::keys::SEAL_OVERHEAD;

/// Defines a field by its offset.
macro_rules! fields {
    ($($name:ident: $at:expr;)*) => {
        $(const $name: usize = $at;)*
    };
}
fields! {
    AT_MAGIC: 0;
    AT_COMMAND: 4;
    AT_INPUT: 8;
    AT_INPUT_LEN: 16;
    AT_OUTPUT: 24;
    AT_OUTPUT_LEN: 32;
    AT_ZERO: 40;
}

/// Service that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Command {
    /// Returns [`crate::kernel::Identity`].
    Identify = 1,
    /// Returns the HMAC-SHA-256 of the input.
    Sign = 2,
    /// Increments the counter and returns it, 8 bytes.
    Count = 3,
    /// Encrypts and authenticates the input.
    Seal = 4,
    /// Decrypts what Seal has returned.
    Unseal = 5,
    /// Takes VTL0's right to write from pages, for good. The input is a list of
    /// [`crate::kernel::PROTECT_ENTRY`]-byte entries: address and number of pages.
    Protect = 6,
}

impl Command {
    /// All commands.
    pub const ALL: [Self; 6] = [
        Self::Identify,
        Self::Sign,
        Self::Count,
        Self::Seal,
        Self::Unseal,
        Self::Protect,
    ];

    fn from_number(number: u32) -> Option<Self> {
        // CAST: the numbers of the enum.
        Self::ALL
            .into_iter()
            .find(|&command| command as u32 == number)
    }

    /// Returns true if the command takes an input of this many bytes.
    pub const fn takes(self, input_len: usize) -> bool {
        match self {
            Self::Identify | Self::Count => input_len == 0,
            Self::Sign | Self::Seal => input_len <= MAX_INPUT,
            Self::Unseal => input_len >= crate::keys::SEAL_OVERHEAD && input_len <= MAX_OUTPUT,
            Self::Protect => crate::kernel::is_protect_len(input_len),
        }
    }

    /// Bytes of its output for an input that it takes.
    pub const fn output_len(self, input_len: usize) -> usize {
        match self {
            Self::Identify => crate::kernel::IDENTITY_LEN,
            Self::Sign => crate::keys::TAG_LEN,
            Self::Count => 8,
            Self::Seal => input_len + crate::keys::SEAL_OVERHEAD,
            Self::Unseal => input_len.saturating_sub(crate::keys::SEAL_OVERHEAD),
            Self::Protect => 0,
        }
    }
}

/// Outcome of a request, RAX of VTL0 after the return. All but [`Self::Done`] have changed nothing,
/// unless [`Self::Refused`] says how many pages were protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    /// Carried out. RCX has the number of bytes written to the output.
    Done = 0,
    /// The request's address is no multiple of 64, or is not in VTL0's memory.
    BadAddress = 1,
    /// Magic, reserved bytes, or a length that the command does not take.
    Malformed = 2,
    /// No such command.
    UnknownCommand = 3,
    /// Input or output is not entirely in VTL0's memory.
    BadRange = 4,
    /// Input, output and request overlap.
    Overlap = 5,
    /// The output has not enough room. RCX has the number of bytes needed.
    NoRoom = 6,
    /// The input was not sealed here, or was changed.
    NotSealed = 7,
    /// The counter is at its end.
    CounterEnd = 8,
    /// VTL2 refused to protect. RCX has the number of pages that it did protect.
    Refused = 9,
}

/// A request whose form is valid; its ranges are not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Requested service.
    pub command: Command,
    /// Where the input is.
    pub input: Range,
    /// Where the output is to be written. Its length is that of the room.
    pub output: Range,
}

impl Request {
    /// Decodes the copy of a request.
    ///
    /// # Errors
    /// [`Status::Malformed`], [`Status::UnknownCommand`], or [`Status::BadRange`] for a range that
    /// does not fit the address space.
    pub fn decode(bytes: &[u8; REQUEST_LEN]) -> Result<Self, Status> {
        if word32(bytes, AT_MAGIC) != MAGIC || bytes[AT_ZERO..].iter().any(|&byte| byte != 0) {
            return Err(Status::Malformed);
        }
        let command =
            Command::from_number(word32(bytes, AT_COMMAND)).ok_or(Status::UnknownCommand)?;
        let input_len = word64(bytes, AT_INPUT_LEN);
        if !usize::try_from(input_len).is_ok_and(|len| command.takes(len)) {
            return Err(Status::Malformed);
        }
        let range = |at, len| Range::new(word64(bytes, at), len).ok_or(Status::BadRange);
        Ok(Self {
            command,
            input: range(AT_INPUT, input_len)?,
            output: range(AT_OUTPUT, word64(bytes, AT_OUTPUT_LEN))?,
        })
    }

    /// Encodes it, for a caller.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(AT_MAGIC, &MAGIC.to_le_bytes());
        // CAST: the numbers of the enum.
        put(AT_COMMAND, &(self.command as u32).to_le_bytes());
        put(AT_INPUT, &self.input.base().to_le_bytes());
        put(AT_INPUT_LEN, &self.input.len().to_le_bytes());
        put(AT_OUTPUT, &self.output.base().to_le_bytes());
        put(AT_OUTPUT_LEN, &self.output.len().to_le_bytes());
        bytes
    }
}

fn word32(bytes: &[u8; REQUEST_LEN], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn word64(bytes: &[u8; REQUEST_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Request {
        Request {
            command: Command::Sign,
            input: Range::new(0x1000, 100).unwrap_or_default(),
            output: Range::new(0x2000, 32).unwrap_or_default(),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for command in Command::ALL {
            let input_len = (0..=MAX_OUTPUT).rev().find(|&len| command.takes(len));
            let request = Request {
                command,
                input: Range::new(0x1000, input_len.unwrap_or_default() as u64).unwrap_or_default(),
                ..valid()
            };
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
    }

    #[test]
    fn magic_and_reserved_bytes_count_bit_by_bit() {
        for at in (0..4).chain(AT_ZERO..REQUEST_LEN) {
            for bit in 0..8 {
                let mut bytes = valid().encode();
                bytes[at] ^= 1 << bit;
                assert_eq!(Request::decode(&bytes), Err(Status::Malformed), "byte {at}");
            }
        }
    }

    #[test]
    fn unknown_commands_are_named_so() {
        for number in [0, 7, 8, 0x100, 0x8000_0002, u32::MAX] {
            let mut bytes = valid().encode();
            bytes[4..8].copy_from_slice(&number.to_le_bytes());
            assert_eq!(Request::decode(&bytes), Err(Status::UnknownCommand));
        }
    }

    #[test]
    fn each_command_takes_its_lengths_only() {
        let max = MAX_INPUT as u64;
        let sealed = MAX_OUTPUT as u64;
        for (command, taken, refused) in [
            (Command::Identify, &[0][..], &[1, max, u64::MAX][..]),
            (Command::Count, &[0], &[1, 8, u64::MAX]),
            (Command::Sign, &[0, 1, max], &[max + 1, 1 << 32, u64::MAX]),
            (Command::Seal, &[0, 1, max], &[max + 1, 1 << 32, u64::MAX]),
            (
                Command::Unseal,
                &[44, 45, sealed],
                &[0, 43, sealed + 1, u64::MAX],
            ),
            (Command::Protect, &[16, 32, 256], &[0, 8, 17, 272, 1 << 33]),
        ] {
            for &len in taken.iter().chain(refused) {
                let mut bytes = valid().encode();
                bytes[4..8].copy_from_slice(&(command as u32).to_le_bytes());
                bytes[8..16].copy_from_slice(&0_u64.to_le_bytes());
                bytes[16..24].copy_from_slice(&len.to_le_bytes());
                let expected = if taken.contains(&len) {
                    None
                } else {
                    Some(Status::Malformed)
                };
                assert_eq!(Request::decode(&bytes).err(), expected, "{command:?} {len}");
            }
        }
    }

    #[test]
    fn a_range_does_not_wrap() {
        for (at, len) in [(u64::MAX, 2), (u64::MAX - 99, 101), (1 << 63, u64::MAX)] {
            let mut bytes = valid().encode();
            bytes[24..32].copy_from_slice(&at.to_le_bytes());
            bytes[32..40].copy_from_slice(&len.to_le_bytes());
            assert_eq!(
                Request::decode(&bytes),
                Err(Status::BadRange),
                "{at:#x} {len:#x}"
            );
        }
    }
}
