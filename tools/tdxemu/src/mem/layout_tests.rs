// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of the layout.

use super::*;
use crate::loader::{MAX_PIECES, Piece};

const IMAGE: Range = Range::new(0x2fe0_0000, 0x2fe7_2000);
const KERNEL: Kernel = Kernel {
    pieces: [Piece::NONE; MAX_PIECES],
    entry: 0x200,
    preferred_pa: 16 * MIB,
    is_relocatable: true,
    can_be_above_4g: true,
    alignment: 2 * MIB,
    init_bytes: 64 * MIB,
    cmdline_bytes: 2047,
};

/// What QEMU reports, with RAM below and above 4 GiB.
fn machine(low_mib: u64, high_mib: u64) -> MemoryMap {
    let low_end = low_mib * MIB;
    let mut map = MemoryMap::new();
    map.add(Range::new(0, 0x9fc00), Kind::Ram);
    map.add(Range::new(0x9fc00, 0xa0000), Kind::Reserved);
    map.add(Range::new(0xf0000, 0x10_0000), Kind::Reserved);
    map.add(Range::new(0x10_0000, low_end - 0x2_1000), Kind::Ram);
    map.add(Range::new(low_end - 0x2_1000, low_end), Kind::Reserved);
    map.add(Range::new(0xb000_0000, 0xc000_0000), Kind::Reserved);
    let high = Range::new(FOUR_GIB, FOUR_GIB + high_mib * MIB);
    map.add(high, Kind::Ram);
    map
}

fn planned(
    map: &MemoryMap,
    initrd_mib: u64,
    len_mib: u64,
    place: Place,
    kernel: &Kernel,
) -> Result<Layout, &'static str> {
    let len_bytes = len_mib * MIB;
    planned_pieces(
        map,
        initrd_mib,
        &[Some(Wanted { len_bytes, place })],
        kernel,
    )
}

fn planned_pieces(
    map: &MemoryMap,
    initrd_mib: u64,
    wanted: &[Option<Wanted>],
    kernel: &Kernel,
) -> Result<Layout, &'static str> {
    let end = map.ram_end_below(FOUR_GIB).unwrap_or_default();
    let taken = Taken {
        image: IMAGE,
        initrd: Range::new(end - initrd_mib * MIB, end),
        cpus: 2,
    };
    let layout = plan(map, &taken, wanted, kernel)?;
    check(map, &layout);
    Ok(layout)
}

/// What holds for each layout.
fn check(map: &MemoryMap, layout: &Layout) {
    let mut parts = vec![
        IMAGE,
        layout.kernel,
        layout.firmware,
        layout.pool,
        layout.initrd,
        L1_WINDOW,
    ];
    parts.extend(layout.vtl0.iter().map(|(range, _)| range));
    for (index, part) in parts.iter().enumerate() {
        assert!(
            parts[..index].iter().all(|other| !other.overlaps(part)),
            "{part:x?}"
        );
        assert_eq!((part.start % PAGE, part.end % PAGE), (0, 0));
    }
    // A page is the TD's from the build on, or it is pending, or it is ours. Nothing changes but where
    // a part begins or ends.
    let (built, pending, l1) = (layout.built(), layout.pending(), layout.l1_map(map));
    let sets = [&built, &pending, &l1, map];
    let edges = sets.iter().flat_map(|set| set.iter());
    let edges = edges.flat_map(|(range, _)| [range.start, range.end]);
    let around = edges.flat_map(|edge| [edge.saturating_sub(PAGE), edge]);
    for page in around.map(|page| page & !(PAGE - 1)) {
        let is_ours = IMAGE.contains(page, 1) || layout.pool.contains(page, 1);
        let (is_built, is_pending) = (
            built.kind_at(page).is_some(),
            pending.kind_at(page).is_some(),
        );
        let owners = u32::from(is_ours) + u32::from(is_built) + u32::from(is_pending);
        assert_eq!(owners, u32::from(layout.ram.contains(page)), "{page:#x}");
        if l1.kind_at(page) == Some(Kind::Ram) {
            assert!(is_built && layout.vtl0.kind_at(page).is_none(), "{page:#x}");
        }
    }
}

fn pieces(layout: &Layout) -> Vec<(u64, u64)> {
    let ends = |(range, _): (Range, Kind)| (range.start, range.end);
    layout.vtl0.iter().map(ends).collect()
}

#[test]
fn vtl0_at_the_top_leaves_the_rest_as_it_was() {
    let layout = planned(&machine(1024, 0), 5, 64, Place::Top, &KERNEL).unwrap();
    assert_eq!(pieces(&layout), [(0x3be0_0000, 0x3fe0_0000)]);
    assert_eq!(layout.kernel.start, 16 * MIB);
    assert!(layout.pool.end <= 0x3be0_0000 && layout.initrd.end <= layout.pool.start);
    assert_eq!(layout.ram.end(), 0x4000_0000);
    assert!(!layout.is_vtl0_low());
}

#[test]
fn vtl0_has_several_pieces_below_and_above_4_gib() {
    let map = machine(2048, 1152);
    let piece = |len_mib, place| {
        let len_bytes = len_mib * MIB;
        Some(Wanted { len_bytes, place })
    };
    let get = |wanted: &[_]| planned_pieces(&map, 5, wanted, &KERNEL);
    let at = |gib: u64| Place::At(gib << 30);
    let two = [piece(64, Place::Top), piece(1100, at(4)), None];
    let layout = get(&two).unwrap();
    let high = (FOUR_GIB, FOUR_GIB + 1100 * MIB);
    assert_eq!(pieces(&layout), [(0x7be0_0000, 0x7fe0_0000), high]);
    // The second one at the top is below the first.
    let layout = get(&[piece(64, Place::Top), piece(64, Place::Top)]).unwrap();
    assert_eq!(pieces(&layout), [(0x77e0_0000, 0x7fe0_0000)]);
    let layout = get(&[piece(16, at(1)), piece(2, at(0)), piece(4, at(4))]).unwrap();
    assert!(layout.is_vtl0_low() && pieces(&layout).len() == 6);
    let refused = get(&[piece(64, at(1)), piece(2048, at(0))]).unwrap_err();
    assert!(refused.contains("overlap"), "{refused}");
    let refused = get(&[piece(64, at(1)), piece(64, at(3))]).unwrap_err();
    assert!(refused.contains("no such memory"), "{refused}");
}

#[test]
fn vtl0_at_0_has_all_but_what_l1_needs_below_1_mib() {
    let map = machine(1536, 0);
    let layout = planned(&map, 5, 512, Place::At(0), &KERNEL).unwrap();
    let expected = [
        (0, 0x7_0000),
        (0x8_0000, 0xa_0000),
        (0xc_0000, 0xf_0000),
        (0x10_0000, 0x2000_0000),
    ];
    assert_eq!(pieces(&layout), expected);
    assert_eq!(layout.kernel.start, 512 * MIB);
    assert!(layout.is_vtl0_low());
    let l1 = layout.l1_map(&map);
    let kinds: Vec<_> = l1.iter().take(6).map(|(r, kind)| (r.start, kind)).collect();
    let expected = [
        (0, Kind::Reserved),
        (0x7_0000, Kind::Ram),
        (0x8_0000, Kind::Reserved),
        (0xc_0000, Kind::Reserved),
        (0x10_0000, Kind::Reserved),
        (0x2000_0000, Kind::Ram),
    ];
    assert_eq!(kinds, expected);
    // Linux merges adjacent entries of the same kind.
    assert!(!l1.is_all(Range::new(0xe_0000, 0x20_0000), Kind::Reserved));
}

#[test]
fn l1_reads_below_1_mib_what_it_has_to_and_the_rest_is_pending() {
    let layout = planned(&machine(1536, 0), 5, 512, Place::At(0), &KERNEL).unwrap();
    let (built, pending) = (layout.built(), layout.pending());
    for page in [
        0, 0x7_0000, 0x8_0000, 0x9_f000, 0xc_0000, 0xe_f000, 0xf_0000,
    ] {
        assert!(built.kind_at(page).is_some(), "{page:#x}");
    }
    for page in [0x1000, 0x6_f000, 0x10_0000, 0x1fff_f000] {
        assert!(pending.kind_at(page).is_some(), "{page:#x}");
    }
    assert_eq!(built.kind_at(0xb_8000), None);
}

#[test]
fn a_large_vtl0_has_a_hole_where_the_emulator_is() {
    let layout = planned(&machine(2048, 0), 5, 1024, Place::At(0), &KERNEL).unwrap();
    let found = pieces(&layout);
    assert_eq!(
        found[3..],
        [(0x10_0000, IMAGE.start), (IMAGE.end, 0x4000_0000)]
    );
    assert_eq!(layout.kernel.start, 1024 * MIB);
}

#[test]
fn memory_above_4_gib_is_used_when_there_is_none_below() {
    let layout = planned(&machine(2048, 1024), 5, 1920, Place::At(0), &KERNEL).unwrap();
    assert_eq!(layout.ram.end(), 5 * 1024 * MIB);
    assert!(layout.built().is_all(layout.ram.high, Kind::Ram));
    assert!(!layout.ram.contains(0xfec0_0000));
    let overlaps = |start, end| layout.ram.overlaps(&Range::new(start, end));
    assert!(overlaps(0xf000_0000, FOUR_GIB + 1) && overlaps(0, 1) && overlaps(0xb_f000, 0xc_1000));
    assert!(!overlaps(0xf000_0000, FOUR_GIB) && !overlaps(0xa_0000, 0xc_0000));
    let is_all = |start, end| layout.ram.is_all(&Range::new(start, end));
    assert!(is_all(0, 0xa_0000) && is_all(0xc_0000, 0x10_0000) && is_all(FOUR_GIB, FOUR_GIB + 1));
    assert!(!is_all(0x9_f000, 0xa_1000) && !is_all(0xb_f000, 0xc_1000) && !is_all(0, 0xc_1000));
    let kernel = Kernel {
        init_bytes: 200 * MIB,
        ..KERNEL
    };
    let layout = planned(&machine(2048, 1024), 5, 1920, Place::At(0), &kernel).unwrap();
    assert_eq!(layout.kernel.start, FOUR_GIB);
    let bound = Kernel {
        can_be_above_4g: false,
        ..kernel
    };
    assert!(planned(&machine(2048, 1024), 5, 1920, Place::At(0), &bound).is_err());
    let layout = planned(&machine(2048, 1024), 5, 512, Place::At(FOUR_GIB), &KERNEL).unwrap();
    assert_eq!(pieces(&layout), [(FOUR_GIB, FOUR_GIB + 512 * MIB)]);
    assert_eq!(layout.kernel.start, 16 * MIB);
}

#[test]
fn a_kernel_gets_the_alignment_that_it_wants() {
    let kernel = Kernel {
        alignment: 16 * MIB,
        ..KERNEL
    };
    let layout = planned(&machine(1536, 0), 5, 514, Place::At(0), &kernel).unwrap();
    assert_eq!(layout.kernel.start, 528 * MIB);
}

#[test]
fn a_kernel_that_cannot_move_needs_its_place() {
    let kernel = Kernel {
        is_relocatable: false,
        ..KERNEL
    };
    let map = machine(1536, 0);
    let refused = planned(&map, 5, 64, Place::At(0), &kernel).unwrap_err();
    assert!(refused.contains("not relocatable"), "{refused}");
    assert!(planned(&map, 5, 64, Place::Top, &kernel).is_ok());
    assert!(planned(&map, 5, 64, Place::At(128 * MIB), &kernel).is_ok());
}

#[test]
fn a_machine_that_is_too_small_is_refused() {
    let refused = |map, initrd, vtl0, place| planned(&map, initrd, vtl0, place, &KERNEL).err();
    for place in [Place::Top, Place::At(0)] {
        let none = refused(machine(1024, 0), 5, 2048, place).unwrap();
        assert!(none.contains("no such memory"), "{none}");
        let little = refused(machine(1024, 0), 200, 700, place).unwrap();
        assert!(little.contains("not enough memory for L1"), "{little}");
    }
    let beyond = refused(machine(1024, 0), 5, 64, Place::At(992 * MIB)).unwrap();
    assert!(beyond.contains("no such memory"), "{beyond}");
    assert!(
        refused(
            machine(1024, 0),
            5,
            64,
            Place::At(u64::MAX & !(2 * MIB - 1))
        )
        .is_some()
    );
}
