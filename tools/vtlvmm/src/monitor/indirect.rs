// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Indirect branches. The compiler has made them calls of thunks of the text; Linux patches them at boot. On some
//! processors it makes thunks of its own for them, outside of its text, where there is room.

use super::image::KernelImage;
use super::text::Place;
use super::view::{Physical, Root, read_linear};

/// Bytes of a place with an indirect branch, at most.
pub(super) const LONGEST: usize = 6;

/// Registers, in the order of their numbers.
const REGISTERS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// A call or jump with a distance of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// What is before the distance: a prefix or a condition, and the opcode.
    form: [Option<u8>; 2],
    /// Its bytes.
    pub(super) len: usize,
    /// From its first byte to its target.
    distance: i64,
}

impl Branch {
    /// What `bytes` begin with, if that is one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (len, form) = match *bytes {
            [opcode @ (0xe8 | 0xe9), ..] => (5, [None, Some(opcode)]),
            [0x2e, opcode @ (0xe8 | 0xe9), ..] => (6, [Some(0x2e), Some(opcode)]),
            [0x0f, opcode @ 0x80..=0x8f, ..] => (6, [Some(0x0f), Some(opcode)]),
            _ => return None,
        };
        let stored = bytes.get(len - 4..)?.first_chunk()?;
        Some(Self {
            form,
            len,
            // CAST: a handful.
            distance: len as i64 + i64::from(i32::from_le_bytes(*stored)),
        })
    }

    /// Where it leads to if it is at `at`, as an offset in the text.
    fn target(&self, at: u32) -> i64 {
        i64::from(at) + self.distance
    }

    /// Where it leads to if that is outside of the text.
    fn target_outside(&self, at: u32, text_len: usize) -> Option<i64> {
        let target = self.target(at);
        // CAST: the text is shorter than 4 GiB.
        (!(0..text_len as i64).contains(&target)).then_some(target)
    }
}

/// The number of the register that a symbol is the thunk of.
pub(super) fn thunk_of(symbol: &str) -> Option<u8> {
    let register = symbol.strip_prefix("__x86_indirect_thunk_")?;
    let number = REGISTERS.iter().position(|it| *it == register)?;
    u8::try_from(number).ok()
}

/// The branch at a place of `text`, if it is one of those that lead to outside of it.
pub(super) fn elsewhere(text: &[u8], at: u32) -> Option<Branch> {
    // CAST: u32 fits.
    let branch = Branch::read(text.get(at as usize..)?)?;
    branch.target_outside(at, text.len()).map(|_| branch)
}

/// How many bytes of `now`, which a place has in memory, are the branch of the image with another thunk of
/// the same register. `expected` is what the image has there.
pub(super) fn to_same_register<P: Physical>(
    image: &KernelImage,
    memory: &P,
    root: Root,
    place: Place,
    (at, expected, now): (u32, &[u8], &[u8]),
) -> Option<usize> {
    let (before, after) = (Branch::read(expected)?, Branch::read(now)?);
    let old = u32::try_from(before.target(at)).ok()?;
    let register = *image.thunks.get(&old)?;
    let target = after.target_outside(at, image.text.len())?;
    if before.form != after.form {
        return None;
    }
    let code = jump(register);
    let mut bytes = [0; 4];
    let found = bytes.get_mut(..code.len())?;
    let is_read = read_linear(
        memory,
        root,
        place.linear.wrapping_add_signed(target),
        found,
    );
    (is_read && *found == *code).then_some(after.len)
}

/// `jmp *register; int3`.
fn jump(register: u8) -> Vec<u8> {
    let prefix: &[u8] = if register < 8 { &[] } else { &[0x41] };
    [prefix, &[0xff, 0xe0 | (register & 7), 0xcc]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_something_else_is_no_branch() {
        for bytes in [
            [0xff, 0xd0, 0x90, 0x90, 0x90, 0x90],
            [0x0f, 0xae, 0xe8, 0xff, 0xd0, 0x90],
            [0x2e, 0xff, 0xd0, 0, 0, 0x70],
        ] {
            assert_eq!(Branch::read(&bytes), None, "{bytes:x?}");
        }
        assert_eq!(Branch::read(&[0xe8, 0, 0, 0]), None);
        assert_eq!(Branch::read(&[]), None);
    }

    #[test]
    fn a_thunk_is_of_the_register_in_its_name() {
        assert_eq!(thunk_of("__x86_indirect_thunk_rax"), Some(0));
        assert_eq!(thunk_of("__x86_indirect_thunk_r11"), Some(11));
        for other in [
            "__x86_indirect_thunk_array",
            "__x86_indirect_call_thunk_rax",
            "called",
        ] {
            assert_eq!(thunk_of(other), None, "{other}");
        }
        assert_eq!(jump(0), [0xff, 0xe0, 0xcc]);
        assert_eq!(jump(11), [0x41, 0xff, 0xe3, 0xcc]);
    }
}
