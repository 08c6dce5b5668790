// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The gates of the interrupt descriptor table. [SDM3 6.14.1]

use super::finding::{Finding, Key, Kind, hex};
use super::text::Text;
use super::view::{Physical, Root, Table, read_linear};

const GATES: usize = 256;
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
        },
        place,
        expected,
        found,
    }
}
