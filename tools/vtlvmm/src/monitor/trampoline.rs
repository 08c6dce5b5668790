// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Copies of the tracer's entry that the kernel makes for each user of the tracer, outside of its text.

use super::sites::{NOP_2, TextMap};
use super::symbols::Symbols;

/// An entry of the tracer, of which copies are made. All are offsets in the text.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    start: usize,
    end: usize,
    /// The instruction that loads who traces.
    operand: usize,
    /// The call of the function that traces.
    call: usize,
    /// A jump that copies do not have.
    jump: Option<usize>,
}

/// `mov ...(%rip), %rdx`: three bytes, then the distance.
const OPERAND_LEN: usize = 3;
const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;
const RET: u8 = 0xc3;
/// What follows the copy: a return, or a jump to one.
const RETURN_LEN: usize = 5;

impl Template {
    /// Both that a kernel has.
    pub(super) fn both(text: &[u8], symbols: &Symbols) -> Vec<Self> {
        let of = |names: [&str; 4], jump: Option<&str>| {
            let [start, end, operand, call] =
                names.map(|name| usize::try_from(symbols.offset_of(name)?).ok());
            let template = Self {
                start: start?,
                end: end?,
                operand: operand?,
                call: call?,
                jump: match jump {
                    Some(name) => Some(usize::try_from(symbols.offset_of(name)?).ok()?),
                    None => None,
                },
            };
            let inside = template.start..template.end;
            let has = |at: usize, len: usize| inside.contains(&at) && at + len <= template.end;
            let is_whole = template.end <= text.len()
                && has(template.operand, OPERAND_LEN + 4)
                && has(template.call, 5)
                && template.jump.is_none_or(|jump| has(jump, 2));
            is_whole.then_some(template)
        };
        let plain = [
            "ftrace_caller",
            "ftrace_caller_end",
            "ftrace_caller_op_ptr",
            "ftrace_call",
        ];
        let full = [
            "ftrace_regs_caller",
            "ftrace_regs_caller_end",
            "ftrace_regs_caller_op_ptr",
            "ftrace_regs_call",
        ];
        let both = [of(plain, None), of(full, Some("ftrace_regs_caller_jmp"))];
        both.into_iter().flatten().collect()
    }

    /// As many bytes as [`Self::is_copy`] needs.
    pub const fn len(&self) -> usize {
        self.end - self.start + RETURN_LEN
    }

    /// It has some.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Returns true if `copy`, which begins at `distance` from the text, is one of this entry as it is in
    /// `text`, and calls a function of the text.
    pub fn is_copy(&self, copy: &[u8], distance: i64, text: &[u8], map: &TextMap<'_>) -> bool {
        let len = self.end - self.start;
        let (Some(original), true) = (text.get(self.start..self.end), copy.len() >= self.len())
        else {
            return false;
        };
        // CAST: offsets in the text.
        let moved = distance.wrapping_sub(self.start as i64);
        let mut at = 0;
        while at < len {
            let here = self.start + at;
            let is_same = copy[at] == original[at];
            at += if here == self.operand + OPERAND_LEN {
                4
            } else if here == self.call {
                if copy[at] != CALL || !is_function_of(copy, at, distance, map) {
                    return false;
                }
                5
            } else if Some(here) == self.jump && copy[at..at + 2] == NOP_2 {
                2
            } else if is_same && !is_moved(copy, original, at, moved) {
                1
            } else if is_moved(copy, original, at, moved) {
                4
            } else {
                return false;
            };
        }
        match copy[len] {
            RET => true,
            JMP => is_function_of(copy, len, distance, map),
            _ => false,
        }
    }
}

/// Returns true if the instruction with a distance at `at` leads to a function of the text.
fn is_function_of(copy: &[u8], at: usize, distance: i64, map: &TextMap<'_>) -> bool {
    let Some(stored) = copy.get(at + 1..at + 5).and_then(|it| it.first_chunk()) else {
        return false;
    };
    // CAST: a handful.
    let end = distance.wrapping_add(at as i64 + 5);
    map.is_function(end.wrapping_add(i64::from(i32::from_le_bytes(*stored))))
}

/// Returns true if at `at` there is a distance to what did not move.
fn is_moved(copy: &[u8], original: &[u8], at: usize, moved: i64) -> bool {
    let number = |bytes: &[u8]| {
        let stored = bytes.get(at..at + 4).and_then(|it| it.first_chunk())?;
        Some(i64::from(i32::from_le_bytes(*stored)))
    };
    match (number(copy), number(original)) {
        (Some(new), Some(old)) => moved != 0 && new == old.wrapping_sub(moved),
        _ => false,
    }
}
