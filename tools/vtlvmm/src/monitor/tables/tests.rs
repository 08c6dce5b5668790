// SPDX-License-Identifier: MIT OR GPL-2.0-only

use super::*;
use crate::monitor::fake::{
    DIRECT, Guest, LARGE, MEMORY_LEN, NO_EXECUTE, PRESENT, ROOT, Random, USER, WRITABLE,
};

fn all(guest: &Guest, root: Root, half: Half, budget: usize) -> (Vec<Leaf>, Progress, u32) {
    let mut found = Vec::new();
    let mut pass = Pass::new(half);
    let mut steps = 0;
    loop {
        steps += 1;
        let progress = pass.go(&guest.memory, root, budget, &mut |leaf| {
            found.push(leaf);
            ControlFlow::Continue(())
        });
        if progress != Progress::Unfinished || steps > 1_000_000 {
            // A pass begins anywhere.
            found.sort_by_key(|leaf| leaf.linear);
            return (found, progress, steps);
        }
    }
}

#[test]
fn every_page_has_the_rights_of_all_tables_that_lead_to_it() {
    let mut guest = Guest::new();
    let at = guest.map(0x7000_0000_0000, 0x5000 | PRESENT | WRITABLE | USER, 12);
    guest.map(0x7000_4000_0000, PRESENT | LARGE | USER | NO_EXECUTE, 30);
    let (found, progress, _) = all(&guest, guest.root(), Half::User, 1000);
    assert_eq!(progress, Progress::Finished);
    assert_eq!((found.len(), found[1].len), (2, 1 << 30));
    assert_eq!((found[0].linear, found[0].gpa), (0x7000_0000_0000, 0x5000));
    assert!(found[0].rights.writes && found[0].rights.executes && found[0].rights.is_user);
    assert!(!found[1].rights.executes && !found[1].rights.writes);
    assert_eq!(
        leaf(&guest.memory, guest.root(), 0x7000_0000_0abc),
        Some(found[0])
    );
    // The table above takes the right to write, and forbids execution.
    let directory = (at & !0xfff) - 0x1000;
    guest.write(
        directory,
        &((at & !0xfff) | PRESENT | NO_EXECUTE).to_le_bytes(),
    );
    let (found, ..) = all(&guest, guest.root(), Half::User, 1000);
    let rights = found[0].rights;
    assert!(!rights.writes && !rights.executes && !rights.is_user);
}

#[test]
fn addresses_of_the_upper_half_are_canonical_with_four_and_five_levels() {
    let guest = Guest::new();
    let (found, ..) = all(&guest, guest.root(), Half::Kernel, 1000);
    assert_eq!(found[0].linear, DIRECT);
    // The same tables below a fifth one.
    let top = 0x80_0000;
    guest.write(top + 8 * 511, &(ROOT | PRESENT).to_le_bytes());
    let root = Root {
        cr3: top,
        levels: 5,
    };
    let (five, progress, _) = all(&guest, root, Half::Kernel, 1000);
    assert_eq!(progress, Progress::Finished);
    assert_eq!(five.len(), found.len());
    assert_eq!(five[0].linear, 0xffff_8880_0000_0000);
    assert_eq!(
        leaf(&guest.memory, root, DIRECT).map(|it| it.linear),
        Some(DIRECT)
    );
    let four = guest.root();
    assert_eq!(leaf(&guest.memory, four, 0x0000_8880_0000_0000), None);
}

#[test]
fn a_pass_in_small_steps_sees_what_one_step_sees() {
    let mut random = Random(7);
    for _ in 0..20 {
        let mut guest = Guest::new();
        for _ in 0..30 {
            let (linear, shift) = (random.next() >> 17, [12, 21, 30][random.below(3) as usize]);
            let gpa = random.below(1 << 40) & !((1 << shift) - 1);
            let large = if shift == 12 { 0 } else { LARGE };
            guest.map(linear, gpa | PRESENT | large, shift);
        }
        let (once, ..) = all(&guest, guest.root(), Half::User, 10_000);
        for budget in [1, 2, 7] {
            let (steps, progress, _) = all(&guest, guest.root(), Half::User, budget);
            assert_eq!(progress, Progress::Finished);
            assert_eq!(once, steps, "{budget}");
        }
    }
}

#[test]
fn a_pass_begins_anywhere_and_visits_each_page_once() {
    let mut guest = Guest::new();
    for number in 0..64 {
        guest.map(0x7000_0000_0000 + (number << 30), 0x5000 | PRESENT, 12);
    }
    let mut begins = HashSet::new();
    for budget in [3, 1000] {
        for _ in 0..16 {
            let mut order = Vec::new();
            let mut pass = Pass::new(Half::User);
            let mut visit = |leaf: Leaf| {
                order.push(leaf.linear);
                ControlFlow::Continue(())
            };
            while pass.go(&guest.memory, guest.root(), budget, &mut visit) == Progress::Unfinished {
            }
            begins.insert(order[0]);
            let pages: HashSet<u64> = order.iter().copied().collect();
            assert_eq!((order.len(), pages.len()), (64, 64));
        }
    }
    assert!(begins.len() > 8);
}

#[test]
fn tables_that_lead_to_each_other_are_visited_once() {
    let guest = Guest::new();
    for index in 256..512 {
        guest.write(ROOT + 8 * index, &(ROOT | PRESENT | WRITABLE).to_le_bytes());
    }
    let (found, progress, steps) = all(&guest, guest.root(), Half::Kernel, 16);
    assert_eq!(progress, Progress::Finished);
    assert!(
        steps < 1000 && found.len() < 400_000,
        "{steps} {}",
        found.len()
    );
}

#[test]
fn tables_outside_of_memory_lead_nowhere() {
    let guest = Guest::new();
    let nowhere = Root {
        cr3: 1 << 45,
        levels: 5,
    };
    assert_eq!(all(&guest, nowhere, Half::Kernel, 1).1, Progress::Finished);
    assert_eq!(leaf(&guest.memory, nowhere, 0), None);
    let beyond = Root {
        cr3: 0x000f_ffff_ffff_f000,
        levels: 4,
    };
    assert_eq!(leaf(&guest.memory, beyond, u64::MAX), None);
}

#[test]
fn a_table_outside_of_memory_is_read_once() {
    let mut guest = Guest::new();
    const NOWHERE: u64 = 1 << 40;
    for number in 0..512 {
        guest.map(0xffff_c900_0000_0000 + (number << 21), NOWHERE | 0x7, 21);
    }
    let mut pass = Pass::new(Half::Kernel);
    let progress = pass.go(&guest.memory, guest.root(), 64, &mut |_| {
        ControlFlow::Continue(())
    });
    assert_eq!(progress, Progress::Finished);
}

#[test]
fn random_memory_is_visited_in_bounded_time() {
    let mut random = Random(99);
    for turn in 0..8 {
        let guest = Guest::new();
        // Entries that lead to other tables in memory, mostly.
        let words: Vec<u8> = (0..64 * 512)
            .flat_map(|_| {
                let table = random.below(64) << 12;
                (table | random.below(8) | (random.below(20) << 60)).to_le_bytes()
            })
            .collect();
        guest.write(0, &words);
        for levels in [4, 5] {
            let root = Root {
                cr3: random.below(MEMORY_LEN as u64),
                levels,
            };
            for half in [Half::Kernel, Half::User] {
                let (_, progress, steps) = all(&guest, root, half, 32);
                assert_eq!(progress, Progress::Finished, "{turn}");
                assert!(steps < 10_000);
            }
        }
    }
}
