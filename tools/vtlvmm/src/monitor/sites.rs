// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Places of its text that a running Linux changes, and what each may become. The image lists them: jump
//! labels, static calls, calls of the tracer. A change is made in steps, with INT3 as first byte meanwhile.

use super::symbols::Symbols;

/// What is at a place, as an offset in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its first byte.
    pub at: u32,
    /// What may be there.
    pub kind: SiteKind,
}

/// What may be at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// A jump label of two bytes: a NOP or a jump to this offset.
    ShortJump(u32),
    /// The same, of five bytes.
    LongJump(u32),
    /// A static call: one of a function, or what stands for a function that does nothing.
    StaticCall,
    /// A static call at the end of a function: a jump, or a return.
    StaticTail,
    /// The same if it is conditional, of six bytes, of which this is the second one.
    StaticConditional(u8),
    /// The first instruction of a function that can be traced: a NOP, or a call of the tracer.
    Traced,
    /// The call in the tracer itself.
    Tracer,
}

/// The longest of them.
pub const LONGEST: usize = 6;

const INT3: u8 = 0xcc;
const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;
const JMP_SHORT: u8 = 0xeb;
pub(super) const NOP_2: [u8; 2] = [0x66, 0x90];
const NOP_5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// `xor %eax, %eax` with prefixes: a call of `__static_call_return0`.
const XOR_5: [u8; 5] = [0x2e, 0x2e, 0x2e, 0x31, 0xc0];
/// `ud1 (%edx), %rdi`: a call of `__WARN_trap`.
const WARN_5: [u8; 5] = [0x67, 0x48, 0x0f, 0xb9, 0x3a];
/// `movb $0, (%rdi)` with prefixes: a call of the native unlock.
const UNLOCK_5: [u8; 5] = [0x3e, 0x3e, 0xc6, 0x07, 0x00];
const RET_5: [u8; 5] = [0xc3, INT3, INT3, INT3, INT3];

/// First bytes of all of them.
const FIRSTS: [u8; 9] = [CALL, JMP, JMP_SHORT, 0x66, 0x0f, 0x2e, 0x67, 0x3e, 0xc3];

/// Returns true if the first byte is not the instruction's, because the place is being changed.
pub(super) fn is_in_change(bytes: &[u8]) -> bool {
    bytes.first() == Some(&INT3)
}

/// Whether bytes at a place are one of those that may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are.
    Allowed,
    /// They are not.
    Refused,
    /// They are a call of a function that is traced to this distance from the text's first byte, which is
    /// not in the text: a trampoline of the tracer, perhaps.
    Trampoline(i64),
}

impl Site {
    /// How many bytes it has.
    pub const fn len(&self) -> usize {
        match self.kind {
            SiteKind::ShortJump(_) => 2,
            SiteKind::StaticConditional(_) => 6,
            _ => 5,
        }
    }

    /// It has some.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Judges what is there.
    pub fn judge(&self, bytes: &[u8], text: &TextMap<'_>) -> Verdict {
        let Some(bytes) = bytes.get(..self.len()) else {
            return Verdict::Refused;
        };
        let verdict = self.judge_whole(bytes, text);
        if verdict == Verdict::Allowed || !is_in_change(bytes) {
            return verdict;
        }
        let mut whole = [0; LONGEST];
        let mut best = verdict;
        for first in FIRSTS {
            let Some(whole) = whole.get_mut(..bytes.len()) else {
                break;
            };
            whole.copy_from_slice(bytes);
            whole[0] = first;
            match self.judge_whole(whole, text) {
                Verdict::Allowed => return Verdict::Allowed,
                verdict @ Verdict::Trampoline(_) => best = verdict,
                Verdict::Refused => {}
            }
        }
        best
    }

    fn judge_whole(&self, bytes: &[u8], text: &TextMap<'_>) -> Verdict {
        let is_allowed = match self.kind {
            SiteKind::ShortJump(target) => {
                bytes == NOP_2
                    || (bytes[0] == JMP_SHORT && self.short_target(bytes) == target.into())
            }
            SiteKind::LongJump(target) => {
                bytes == NOP_5 || (bytes[0] == JMP && self.target(bytes) == i64::from(target))
            }
            SiteKind::StaticCall => {
                [NOP_5, XOR_5, WARN_5, UNLOCK_5]
                    .iter()
                    .any(|it| bytes == it)
                    || (bytes[0] == CALL && text.is_function(self.target(bytes)))
            }
            SiteKind::StaticTail => {
                bytes == RET_5 || (bytes[0] == JMP && text.is_function(self.target(bytes)))
            }
            SiteKind::StaticConditional(condition) => {
                bytes[0] == 0x0f && bytes[1] == condition && text.is_function(self.target(bytes))
            }
            SiteKind::Tracer => {
                bytes == NOP_5 || (bytes[0] == CALL && text.is_function(self.target(bytes)))
            }
            SiteKind::Traced => return self.judge_traced(bytes, text),
        };
        if is_allowed {
            Verdict::Allowed
        } else {
            Verdict::Refused
        }
    }

    fn judge_traced(&self, bytes: &[u8], text: &TextMap<'_>) -> Verdict {
        if bytes == NOP_5 {
            return Verdict::Allowed;
        }
        if bytes[0] != CALL {
            return Verdict::Refused;
        }
        let target = self.target(bytes);
        match u32::try_from(target) {
            Ok(offset) if text.tracers.contains(&offset) => Verdict::Allowed,
            Ok(offset) if offset < text.len => Verdict::Refused,
            _ => Verdict::Trampoline(target),
        }
    }

    /// Where the distance in the last four bytes leads to, relative to the text.
    fn target(&self, bytes: &[u8]) -> i64 {
        let distance = bytes.last_chunk().map_or(0, |it| i32::from_le_bytes(*it));
        // CAST: a handful.
        i64::from(self.at) + bytes.len() as i64 + i64::from(distance)
    }

    fn short_target(&self, bytes: &[u8]) -> i64 {
        let distance = bytes.last().map_or(0, |it| i8::from_le_bytes([*it]));
        // CAST: a handful.
        i64::from(self.at) + bytes.len() as i64 + i64::from(distance)
    }
}

/// What rules need to know of the text.
#[derive(Debug)]
pub struct TextMap<'a> {
    /// Bytes of it.
    pub len: u32,
    /// Its symbols.
    pub symbols: &'a Symbols,
    /// Where the tracer begins.
    pub tracers: &'a [u32],
}

impl TextMap<'_> {
    /// Returns true if a function begins there.
    pub(super) fn is_function(&self, offset: i64) -> bool {
        u32::try_from(offset)
            .is_ok_and(|offset| offset < self.len && self.symbols.begins_at(offset))
    }
}

/// The site that has this byte. `sites` are sorted and do not overlap.
pub fn covering(sites: &[Site], offset: u32) -> Option<&Site> {
    let after = sites.partition_point(|site| site.at <= offset);
    let site = sites.get(after.checked_sub(1)?)?;
    // CAST: a handful.
    (offset - site.at < site.len() as u32).then_some(site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::fake::{self, CALLED};

    const AT: u32 = 0x100;

    fn judge(kind: SiteKind, bytes: &[u8]) -> Verdict {
        let image = fake::image();
        Site { at: AT, kind }.judge(bytes, &image.map())
    }

    /// An instruction with a distance at its end, to a place in the text.
    fn to(start: &[u8], target: u64) -> Vec<u8> {
        let len = start.len() as u64 + 4;
        let distance = target.wrapping_sub(u64::from(AT) + len) as u32;
        [start, &distance.to_le_bytes()].concat()
    }

    fn with_int3(bytes: &[u8]) -> Vec<u8> {
        [&[INT3], &bytes[1..]].concat()
    }

    #[test]
    fn each_place_may_become_what_its_kind_says_and_nothing_else() {
        let function = CALLED;
        let cases = [
            (
                SiteKind::ShortJump(0x120),
                vec![vec![0x66, 0x90], vec![0xeb, 0x1e]],
            ),
            (
                SiteKind::LongJump(0x2000),
                vec![NOP_5.to_vec(), to(&[JMP], 0x2000)],
            ),
            (
                SiteKind::StaticCall,
                vec![NOP_5.to_vec(), XOR_5.to_vec(), to(&[CALL], function)],
            ),
            (
                SiteKind::StaticTail,
                vec![RET_5.to_vec(), to(&[JMP], function)],
            ),
            (
                SiteKind::StaticConditional(0x84),
                vec![to(&[0x0f, 0x84], function)],
            ),
            (SiteKind::Traced, vec![NOP_5.to_vec(), to(&[CALL], 0x800)]),
            (
                SiteKind::Tracer,
                vec![NOP_5.to_vec(), to(&[CALL], function)],
            ),
        ];
        for (kind, allowed) in cases {
            for bytes in &allowed {
                assert_eq!(judge(kind, bytes), Verdict::Allowed, "{kind:?} {bytes:x?}");
                let meanwhile = with_int3(bytes);
                assert_eq!(
                    judge(kind, &meanwhile),
                    Verdict::Allowed,
                    "{kind:?} {meanwhile:x?}"
                );
            }
            let refused = [
                to(&[JMP], 0x2004),
                to(&[CALL], function + 1),
                to(&[CALL], fake::TEXT_LEN + 0x10_0000),
                to(&[JMP], 0u64.wrapping_sub(0x1000)),
                to(&[0x0f, 0x84], 0x2004),
                vec![0x91; 6],
                vec![0xff, 0x25, 0, 0, 0, 0],
            ];
            for bytes in refused.iter().filter(|_| kind != SiteKind::Traced) {
                for bytes in [bytes.clone(), with_int3(bytes)] {
                    assert_eq!(judge(kind, &bytes), Verdict::Refused, "{kind:?} {bytes:x?}");
                }
            }
            assert_eq!(judge(kind, &[0x66]), Verdict::Refused);
        }
    }

    #[test]
    fn a_traced_function_calls_the_tracer_or_perhaps_a_copy_of_it() {
        let call = |target| judge(SiteKind::Traced, &to(&[CALL], target));
        assert_eq!(call(CALLED), Verdict::Refused);
        assert_eq!(call(0x10_0000), Verdict::Trampoline(0x10_0000));
        assert_eq!(call(0u64.wrapping_sub(16)), Verdict::Trampoline(-16));
        assert_eq!(
            judge(SiteKind::Traced, &to(&[JMP], 0x800)),
            Verdict::Refused
        );
    }

    #[test]
    fn a_site_covers_its_bytes() {
        let kind = SiteKind::StaticCall;
        let sites = [Site { at: 10, kind }, Site { at: 15, kind }];
        let found = |offset| covering(&sites, offset).map(|site| site.at);
        assert_eq!(found(9), None);
        assert_eq!(
            (found(10), found(14), found(15)),
            (Some(10), Some(10), Some(15))
        );
        assert_eq!(
            (found(19), found(20), found(u32::MAX)),
            (Some(15), None, None)
        );
        assert_eq!(covering(&[], 0), None);
    }
}
