// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Copies of the tracer's entry that the kernel makes for each user of the tracer, outside of its text.

use iced_x86::{Decoder, DecoderOptions};

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
        // CAST: offsets in the text.
        let moved = distance.wrapping_sub(self.start as i64);
        let (Some(mut expected), true) = (self.moved(text, moved), copy.len() >= self.len()) else {
            return false;
        };
        let (operand, call) = (self.operand - self.start, self.call - self.start);
        // Who traces, and what is called: another one in each copy.
        for own in [
            operand + OPERAND_LEN..operand + OPERAND_LEN + 4,
            call + 1..call + 5,
        ] {
            expected[own.clone()].copy_from_slice(&copy[own]);
        }
        expected[call] = CALL;
        copy[..len] == expected
            && is_function_of(copy, call, distance, map)
            && match copy[len] {
                RET => true,
                JMP => is_function_of(copy, len, distance, map),
                _ => false,
            }
    }

    /// The entry as it is in `text`, `by` bytes further on: distances to what did not move are adjusted. `None` if
    /// that can't be.
    fn moved(&self, text: &[u8], by: i64) -> Option<Vec<u8>> {
        let original = text.get(self.start..self.end)?;
        // CAST: widening.
        let inside = self.start as u64..self.end as u64;
        let mut bytes = original.to_vec();
        let mut decoder = Decoder::with_ip(64, original, inside.start, DecoderOptions::NONE);
        while decoder.can_decode() {
            let at = decoder.position();
            let instruction = decoder.decode();
            let parts = decoder.get_constant_offsets(&instruction);
            let (target, offset, size) = if instruction.is_invalid() {
                return None;
            } else if self.jump == Some(self.start + at) {
                bytes.get_mut(at..at + NOP_2.len())?.copy_from_slice(&NOP_2);
                continue;
            } else if instruction.is_ip_rel_memory_operand() {
                let target = instruction.ip_rel_memory_address();
                (
                    target,
                    parts.displacement_offset(),
                    parts.displacement_size(),
                )
            } else if instruction.near_branch_target() != 0 {
                let target = instruction.near_branch_target();
                (target, parts.immediate_offset(), parts.immediate_size())
            } else {
                continue;
            };
            if inside.contains(&target) {
                continue;
            }
            let stored = bytes.get_mut(at + offset..)?.first_chunk_mut::<4>()?;
            if size != stored.len() {
                return None;
            }
            let distance = i64::from(i32::from_le_bytes(*stored)).checked_sub(by)?;
            *stored = i32::try_from(distance).ok()?.to_le_bytes();
        }
        Some(bytes)
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

#[cfg(test)]
mod tests;
