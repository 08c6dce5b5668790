// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The gates of the interrupt descriptor table. [SDM3 6.14.1]

use super::finding::{Finding, Key, Kind, hex};
use super::text::Text;
use super::view::{Physical, Root, Table, read_linear};

/// Gates of a table.
pub(super) const GATES: usize = 256;
const GATE_LEN: usize = 16;
const LEN: usize = GATES * GATE_LEN;

/// The table as it ought to be.
#[derive(Debug)]
pub struct Gates {
    expected: Option<Vec<u8>>,
}

impl Gates {
    /// Takes the table as it is.
    pub fn baseline<P: Physical>(memory: &P, root: Root, table: Table) -> Self {
        Self {
            expected: read(memory, root, table),
        }
    }

    /// Takes those of a trusted start, of a kernel whose text is at `text` now.
    pub fn trusted(gates: &[[u8; GATE_LEN]], text: u64) -> Self {
        let moved = gates.iter().map(|gate| moved(*gate, text));
        Self {
            expected: Some(moved.flatten().collect()),
        }
    }

    /// For a later start, if the text is at `text` now.
    pub fn relative(&self, text: u64) -> Vec<[u8; GATE_LEN]> {
        let gates = self.expected.as_deref().unwrap_or_default();
        let gates = gates
            .chunks_exact(GATE_LEN)
            .filter_map(|gate| gate.first_chunk());
        gates
            .map(|gate| moved(*gate, text.wrapping_neg()))
            .collect()
    }

    /// Compares the table with the baseline, and where its gates lead to with the text.
    pub fn check<P: Physical>(
        &self,
        memory: &P,
        root: Root,
        table: Table,
        text: &Text,
        processor: usize,
    ) -> Vec<Finding> {
        let Some(now) = read(memory, root, table) else {
            let place = format!("the table at {:#x}", table.base);
            return vec![finding(
                0,
                processor,
                "table",
                place,
                "memory".into(),
                "none".into(),
            )];
        };
        let none = Vec::new();
        let expected = self.expected.as_ref().unwrap_or(&none);
        let mut expected = expected.chunks_exact(GATE_LEN);
        let all = now.chunks_exact(GATE_LEN).enumerate();
        let found = all.filter_map(|(vector, gate)| {
            let before = expected.next();
            let place = || format!("gate {vector}");
            let show = |gate: &[u8]| match target(gate) {
                Some(target) => format!("{} [{}]", text.show(target), hex(gate)),
                None => format!("[{}]", hex(gate)),
            };
            if before.is_some_and(|before| before != gate) {
                let expected = before.map(show).unwrap_or_default();
                return Some(finding(
                    vector,
                    processor,
                    "gate",
                    place(),
                    expected,
                    show(gate),
                ));
            }
            // Those that the kernel has never set are as they were before the baseline.
            let is_outside =
                target(gate).is_some_and(|to| !text.contains(to) && !text.was_init(to));
            is_outside.then(|| {
                let expected = "an address in the kernel's text".to_owned();
                finding(vector, processor, "gate", place(), expected, show(gate))
            })
        });
        found.collect()
    }
}

fn read<P: Physical>(memory: &P, root: Root, table: Table) -> Option<Vec<u8>> {
    // CAST: at most `LEN`.
    let len = (table.limit.saturating_add(1).min(LEN as u64)) as usize;
    let mut bytes = vec![0; len];
    read_linear(memory, root, table.base, &mut bytes).then_some(bytes)
}

/// Where a gate leads to; `None` if it is not present.
fn target(gate: &[u8]) -> Option<u64> {
    const PRESENT: u64 = 1 << 47;
    let (low, high) = gate.split_first_chunk::<8>()?;
    let low = u64::from_le_bytes(*low);
    let high = u64::from_le_bytes(*high.first_chunk()?);
    let middle = (low >> 48) << 16;
    (low & PRESENT != 0).then_some((high << 32) | middle | (low & 0xffff))
}

/// The gate of a kernel that is `delta` further on.
fn moved(mut gate: [u8; GATE_LEN], delta: u64) -> [u8; GATE_LEN] {
    if let Some(target) = target(&gate) {
        let [a, b, rest @ ..] = target.wrapping_add(delta).to_le_bytes();
        gate[..2].copy_from_slice(&[a, b]);
        gate[6..12].copy_from_slice(&rest);
    }
    gate
}

fn finding(
    vector: usize,
    processor: usize,
    name: &'static str,
    place: String,
    expected: String,
    found: String,
) -> Finding {
    Finding {
        key: Key {
            kind: Kind::Gate,
            // CAST: below 256.
            place: vector as u64,
            processor: Some(processor),
            name,
            gpa: None,
        },
        place,
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_moves_with_the_kernel_and_keeps_everything_else() {
        const TEXT: u64 = 0xffff_ffff_9f20_0000;
        let mut gate: [u8; GATE_LEN] = core::array::from_fn(|at| 0x80 + at as u8); // CAST: below 16
        gate[0..2].copy_from_slice(&[0x34, 0x12]);
        gate[6..12].copy_from_slice(&[0x21, 0x9f, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(target(&gate), Some(TEXT + 0x1_1234));
        let gates = Gates {
            expected: Some(gate.to_vec()),
        };
        let relative = gates.relative(TEXT);
        assert_eq!(target(&relative[0]), Some(0x1_1234));
        assert_eq!(relative[0][2..6], gate[2..6]);
        assert_eq!(relative[0][12..], gate[12..]);
        let later = Gates::trusted(&relative, TEXT + 0x40_0000);
        let later = later.expected.expect("gates");
        assert_eq!(target(&later), Some(TEXT + 0x41_1234));
        assert_eq!(Gates::trusted(&relative, TEXT).expected, gates.expected);
        // One that is not present leads nowhere.
        let absent = [7; GATE_LEN].map(|byte| byte & 0x7f);
        assert_eq!(moved(absent, 1), absent);
    }
}
