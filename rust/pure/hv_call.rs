// SPDX-License-Identifier: GPL-2.0
//! A hypercall as a caller makes it, and the part of the host's answer that the caller may rely on.
//! [TLFS]
//!
//! Callers assert what Hyper-V promises about an answer. The host below a TD is not trusted, so
//! [`Control::settle`] makes those promises true, whatever the host answers.

use super::lower::LowerRange;

/// Largest input, and largest output: a page each.
pub const MAX_BYTES: u64 = 4096;
/// Largest list of allowed codes: a bit for each of the 16-bit codes.
pub const MAX_LIST_BYTES: u64 = 8192;

/// HV_STATUS_OPERATION_FAILED, for a failure without a reason.
const OPERATION_FAILED: u16 = 0x71;

const FAST: u64 = 1 << 16;
const VARIABLE_HEADER: u64 = 0x3ff << 17;
const NESTED: u64 = 1 << 31;
const RESERVED: u64 = (0xf << 27) | (0xf << 44) | (0xf << 60);

/// A valid control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control(u64);

impl Control {
    /// Returns `None` if reserved bits are set, if the parameters are in registers or the call is
    /// for a nested hypervisor (neither is supported), or if more elements are done than there are.
    pub const fn new(word: u64) -> Option<Self> {
        let control = Self(word);
        let is_simple = control.rep_count() == 0 && control.rep_start() == 0;
        if word & (RESERVED | FAST | NESTED) != 0
            || !(is_simple || control.rep_start() < control.rep_count())
        {
            return None;
        }
        Some(control)
    }

    /// The raw control word.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The call code.
    pub const fn code(self) -> u16 {
        code(self.0)
    }

    /// Returns true if a variable-size header precedes the elements.
    pub const fn has_variable_header(self) -> bool {
        self.0 & VARIABLE_HEADER != 0
    }

    /// Number of elements of a rep call; zero for a simple call.
    pub const fn rep_count(self) -> u16 {
        ((self.0 >> 32) & 0xfff) as u16 // CAST: 12 bits
    }

    /// Number of elements that are already done.
    pub const fn rep_start(self) -> u16 {
        ((self.0 >> 48) & 0xfff) as u16 // CAST: 12 bits
    }

    /// Returns the status word for the caller: result in bits 15:0, elements done in bits 43:32,
    /// other bits zero. All elements are done if and only if the result is success; what was done
    /// stays done; a simple call has no elements.
    pub fn settle(self, answer: u64) -> u64 {
        let result = answer as u16; // CAST: the result is the low 16 bits
        let done = ((answer >> 32) & 0xfff) as u16; // CAST: 12 bits
        let count = self.rep_count();
        let (result, done) = match (count.checked_sub(1), result) {
            (None, result) => (result, 0),
            (Some(_), 0) if done == count => (0, count),
            (Some(most), 0) => (OPERATION_FAILED, done.clamp(self.rep_start(), most)),
            (Some(most), result) => (result, done.clamp(self.rep_start(), most)),
        };
        u64::from(result) | (u64::from(done) << 32)
    }
}

/// Returns the call that asks the host to make a page private again, and its input. [TLFS]
pub fn make_private(page: LowerRange) -> (Control, [u8; 24]) {
    const MODIFY_HOST_VISIBILITY: u64 = 0xdb;
    const ONE_ELEMENT: u64 = 1 << 32;
    const THIS_PARTITION: u64 = u64::MAX;
    const PRIVATE: u64 = 0;
    let words = [THIS_PARTITION, PRIVATE, page.start_gpa() >> 12];
    let mut input = [0; 24];
    for (to, word) in input.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    (Control(MODIFY_HOST_VISIBILITY | ONE_ELEMENT), input)
}

/// Number of elements done, in a status word from [`Control::settle`].
pub const fn done(status: u64) -> u16 {
    ((status >> 32) & 0xfff) as u16 // CAST: 12 bits
}

/// Call code of a control word.
pub const fn code(control: u64) -> u16 {
    control as u16 // CAST: the low 16 bits
}

/// Returns true if a list allows a code: one bit per code, lowest first. Codes after its end are
/// not allowed.
pub fn is_allowed(list: &[u8], code: u16) -> bool {
    let byte = list.get(usize::from(code / 8)).copied().unwrap_or(0);
    (byte >> (code % 8)) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const REP: u64 = 0xdb | (5 << 32) | (2 << 48);

    fn settle(word: u64, answer: u64) -> (u64, u64) {
        let status = Control::new(word).unwrap().settle(answer);
        assert_eq!(status & !0x0fff_0000_ffff, 0);
        (status & 0xffff, status >> 32)
    }

    #[test]
    fn reserved_fast_and_nested_control_words_are_refused() {
        assert_eq!(Control::new(REP).map(Control::word), Some(REP));
        for bit in (16..17).chain(27..32).chain(44..48).chain(60..64) {
            assert_eq!(Control::new(REP | (1 << bit)), None, "{bit}");
        }
        // The size of a variable header is the caller's business.
        assert!(Control::new(REP | (0x3ff << 17)).is_some());
    }

    #[test]
    fn no_more_elements_can_be_done_than_there_are() {
        let word = |count: u64, start: u64| 0x50 | (count << 32) | (start << 48);
        assert!(Control::new(word(0, 0)).is_some());
        assert!(Control::new(word(1, 0)).is_some());
        assert!(Control::new(word(0xfff, 0xffe)).is_some());
        for (count, start) in [(0, 1), (1, 1), (3, 4), (0xfff, 0xfff)] {
            assert_eq!(Control::new(word(count, start)), None, "{count} {start}");
        }
    }

    #[test]
    fn honest_answers_pass() {
        assert_eq!(settle(0x0d, 0), (0, 0));
        assert_eq!(settle(0x0d, 5), (5, 0));
        assert_eq!(settle(REP, 5 << 32), (0, 5));
        assert_eq!(settle(REP, (3 << 32) | 5), (5, 3));
        // HV_STATUS_TIMEOUT: "call again for the rest".
        assert_eq!(settle(REP, (4 << 32) | 0x78), (0x78, 4));
    }

    #[test]
    fn success_means_all_elements_and_failure_not_all() {
        assert_eq!(settle(REP, 0), (0x71, 2));
        assert_eq!(settle(REP, 4 << 32), (0x71, 4));
        assert_eq!(settle(REP, 6 << 32), (0x71, 4));
        assert_eq!(settle(REP, (5 << 32) | 5), (5, 4));
        assert_eq!(settle(REP, (0xfff << 32) | 5), (5, 4));
        // Elements that were done stay done.
        assert_eq!(settle(REP, (1 << 32) | 5), (5, 2));
    }

    #[test]
    fn simple_calls_have_no_elements_and_reserved_bits_are_cleared() {
        assert_eq!(settle(0x5c, u64::MAX), (0xffff, 0));
        assert_eq!(settle(REP, u64::MAX), (0xffff, 4));
        assert_eq!(settle(REP, 0xf000_f005_ffff_0000), (0, 5));
    }

    #[test]
    fn list_allows_what_its_bits_say_and_nothing_behind_its_end() {
        let list = [0, 0b0000_0100, 0, 0x80];
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&c| is_allowed(&list, c)).collect();
        assert_eq!(allowed, [10, 31]);
        assert!(!is_allowed(&[], 0));
        let all = vec![0xff; 8192];
        assert!(is_allowed(&all, 0xffff));
    }
}
