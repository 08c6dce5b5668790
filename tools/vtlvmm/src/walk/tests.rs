// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Tests of translations and rights, with tables in memory of this process.

use super::*;
use crate::memory::tests::ram;

const LONG: Paging = Paging::long(0x1000);

#[test]
fn long_mode_has_pages_of_three_sizes() {
    let memory = ram(&[(0, 0x10_0000)]);
    let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
    put(0x1000, 0x2003);
    put(0x2000, 0x4000_0083);
    put(0x2008, 0x3003);
    put(0x3000, 0x1_2340_0083);
    put(0x3008, 0x4003);
    put(0x4000, 0x8000_0000_5678_9063);
    assert_eq!(LONG.translate(&memory, 0x1234), Some(0x4000_1234));
    assert_eq!(LONG.translate(&memory, 0x4000_1234), Some(0x1_2340_1234));
    assert_eq!(LONG.translate(&memory, 0x4020_0fff), Some(0x5678_9fff));
    assert_eq!(LONG.translate(&memory, 0x4020_1000), None);
    assert_eq!(LONG.translate(&memory, 1 << 39), None);
}

#[test]
fn tables_outside_of_memory_translate_nothing() {
    let memory = ram(&[(0, 0x10_0000)]);
    for cr3 in [0x10_0000, ADDRESS, u64::MAX] {
        assert_eq!(Paging { cr3, ..LONG }.translate(&memory, 0), None);
        let pae = Paging {
            cr3,
            efer: 0,
            ..LONG
        };
        assert_eq!(pae.translate(&memory, u64::MAX), None);
        let old = Paging {
            cr3,
            efer: 0,
            cr4: 0,
            ..LONG
        };
        assert_eq!(old.translate(&memory, u64::MAX), None);
    }
    memory
        .write_obj(ADDRESS | 1, GuestAddress(0x1000))
        .expect("RAM");
    assert_eq!(LONG.translate(&memory, 0), None);
}

#[test]
fn without_paging_addresses_are_32_bits() {
    let memory = ram(&[(0, 0x1000)]);
    let flat = Paging { cr0: 1, ..LONG };
    assert_eq!(flat.translate(&memory, 0x1_0000_1234), Some(0x1234));
}

#[test]
fn a_page_directory_has_large_pages() {
    let memory = ram(&[(0, 0x10_0000)]);
    let put = |at: u64, entry: u32| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
    put(0x1000, 0x0080_0083);
    put(0x1004, 0x2003);
    put(0x2000, 0x0001_2003);
    let old = Paging {
        efer: 0,
        cr4: 1 << 4,
        ..LONG
    };
    assert_eq!(old.translate(&memory, 0x1234), Some(0x0080_1234));
    assert_eq!(old.translate(&memory, 0x40_0567), Some(0x1_2567));
    assert_eq!(old.translate(&memory, 0x80_0000), None);
}

const USER_3: Privilege = Privilege {
    is_user: true,
    is_ac_set: true,
};
const KERNEL: Privilege = Privilege {
    is_user: false,
    is_ac_set: false,
};

/// Memory that the guest may write everywhere.
fn all<M>(memory: &M) -> Tables<'_, M> {
    Tables {
        memory,
        writable: memory,
    }
}

/// Pages of the user (0) and of the kernel (1), both writable, one of the user to read (2), and
/// one that is not mapped (3).
fn pages() -> vm_memory::GuestMemoryMmap<()> {
    let memory = ram(&[(0, 0x10_0000)]);
    let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
    put(0x1000, 0x2007);
    put(0x2000, 0x3007);
    put(0x3000, 0x4007);
    put(0x4000, 0x8007);
    put(0x4008, 0x9003);
    put(0x4010, 0xa005);
    memory
}

#[test]
fn a_users_string_move_does_not_reach_the_kernels_pages() {
    let memory = pages();
    let paging = Paging {
        cr0: PG | WP,
        ..LONG
    };
    let access = |linear, kind| paging.access(&all(&memory), linear, kind, USER_3);
    assert_eq!(access(0x0123, Kind::Write), Ok(0x8123));
    assert_eq!(access(0x1123, Kind::Read), Err(Miss::Fault(5)));
    assert_eq!(access(0x1123, Kind::Write), Err(Miss::Fault(7)));
    assert_eq!(access(0x2123, Kind::Read), Ok(0xa123));
    assert_eq!(access(0x2123, Kind::Write), Err(Miss::Fault(7)));
    assert_eq!(access(0x3123, Kind::Read), Err(Miss::Fault(4)));
    assert_eq!(access(0x3123, Kind::Write), Err(Miss::Fault(6)));
    assert_eq!(access(1 << 47, Kind::Read), Err(Miss::NotCanonical));
    // A right that an upper table lacks is none.
    memory
        .write_obj(0x3003_u64, GuestAddress(0x2000))
        .expect("RAM");
    assert_eq!(access(0x0123, Kind::Read), Err(Miss::Fault(5)));
}

#[test]
fn the_kernel_is_kept_out_and_copies_on_write_as_it_asked_for() {
    let memory = pages();
    let access = |cr0, cr4, linear, kind, is_ac_set| {
        let paging = Paging { cr0, cr4, ..LONG };
        let privilege = Privilege {
            is_ac_set,
            ..KERNEL
        };
        paging.access(&all(&memory), linear, kind, privilege)
    };
    assert_eq!(access(PG, PAE, 0x2000, Kind::Write, false), Ok(0xa000));
    let read_only = access(PG | WP, PAE, 0x2000, Kind::Write, false);
    assert_eq!(read_only, Err(Miss::Fault(3)));
    let kept_out = access(PG | WP, PAE | SMAP, 0, Kind::Read, false);
    assert_eq!(kept_out, Err(Miss::Fault(1)));
    assert_eq!(access(PG | WP, PAE | SMAP, 0, Kind::Read, true), Ok(0x8000));
    assert_eq!(
        access(PG | WP, PAE | SMAP, 0x1000, Kind::Write, false),
        Ok(0x9000)
    );
}

#[test]
fn entries_are_marked_as_by_a_processor_and_only_by_an_access() {
    let memory = pages();
    let entry = |at| memory.read_obj::<u64>(GuestAddress(at)).expect("RAM");
    assert_eq!(LONG.translate(&memory, 0), Some(0x8000));
    assert_eq!((entry(0x1000), entry(0x4000)), (0x2007, 0x8007));
    let _ = LONG.access(&all(&memory), 0x1000, Kind::Read, USER_3);
    assert_eq!((entry(0x1000), entry(0x4008)), (0x2027, 0x9003));
    assert_eq!(
        LONG.access(&all(&memory), 0, Kind::Read, USER_3),
        Ok(0x8000)
    );
    assert_eq!((entry(0x3000), entry(0x4000)), (0x4027, 0x8027));
    assert_eq!(
        LONG.access(&all(&memory), 0, Kind::Write, USER_3),
        Ok(0x8000)
    );
    assert_eq!(entry(0x4000), 0x8067);
}

#[test]
fn old_tables_have_the_same_rights() {
    let memory = ram(&[(0, 0x10_0000)]);
    let put = |at: u64, entry: u32| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
    put(0x1000, 0x2007);
    put(0x1004, 0x0040_0083);
    put(0x2000, 0x8005);
    put(0x2004, 0x9003);
    let paging = Paging {
        cr0: PG | WP,
        cr4: PSE,
        efer: 0,
        ..LONG
    };
    let access = |linear, kind| paging.access(&all(&memory), linear, kind, USER_3);
    assert_eq!(access(0, Kind::Read), Ok(0x8000));
    assert_eq!(memory.read_obj(GuestAddress(0x2000)).ok(), Some(0x8025_u32));
    assert_eq!(access(0, Kind::Write), Err(Miss::Fault(7)));
    assert_eq!(access(0x1000, Kind::Read), Err(Miss::Fault(5)));
    assert_eq!(access(0x40_0000, Kind::Read), Err(Miss::Fault(5)));
    let kernel = paging.access(&all(&memory), 0x40_0000, Kind::Write, KERNEL);
    assert_eq!(kernel, Ok(0x40_0000));
}

#[test]
fn an_instruction_is_fetched_only_where_it_may_be_executed() {
    const NXE: u64 = 1 << 11;
    let memory = pages();
    let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
    put(0x4018, NO_EXECUTE | 0xb005);
    let fetch = |cr4, efer, linear, privilege| {
        let paging = Paging {
            cr0: PG | WP,
            cr4: PAE | cr4,
            efer: LMA | efer,
            ..LONG
        };
        paging.access(&all(&memory), linear, Kind::Fetch, privilege)
    };
    assert_eq!(fetch(0, NXE, 0x2123, USER_3), Ok(0xa123));
    assert_eq!(fetch(0, NXE, 0x3123, USER_3), Err(Miss::Fault(0x15)));
    assert_eq!(fetch(0, NXE, 0x1123, USER_3), Err(Miss::Fault(0x15)));
    assert_eq!(fetch(0, NXE, 0x4123, USER_3), Err(Miss::Fault(0x14)));
    // Without the means to forbid it, a fetch is a read, and is reported as one.
    put(0x4018, 0xb005);
    assert_eq!(fetch(0, 0, 0x3123, USER_3), Ok(0xb123));
    assert_eq!(fetch(0, 0, 0x4123, USER_3), Err(Miss::Fault(4)));
    assert_eq!(fetch(SMEP, 0, 0x1123, KERNEL), Ok(0x9123));
    assert_eq!(fetch(SMEP, 0, 0x2123, KERNEL), Err(Miss::Fault(0x11)));
    assert_eq!(fetch(0, 0, 0x2123, KERNEL), Ok(0xa123));
    // SMAP is about data.
    assert_eq!(fetch(SMAP, 0, 0x2123, KERNEL), Ok(0xa123));
    // A right that an upper table lacks is none.
    put(0x2000, NO_EXECUTE | 0x3007);
    assert_eq!(fetch(0, NXE, 0x2123, USER_3), Err(Miss::Fault(0x15)));
    assert_eq!(
        memory.read_obj::<u64>(GuestAddress(0x4008)).ok(),
        Some(0x9023),
        "a fetch marks no page dirty"
    );
}

#[test]
fn an_entry_is_not_marked_where_the_guest_must_not_write() {
    let memory = pages();
    let elsewhere = ram(&[(0x8_0000, 0x1000)]);
    let tables = Tables {
        memory: &memory,
        writable: &elsewhere,
    };
    let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).expect("RAM");
    let marked = [
        (0x1000, 0x2027),
        (0x2000, 0x3027),
        (0x3000, 0x4027),
        (0x4000, 0x8067),
    ];
    // One table after the other is marked, as another processor would.
    for (at, entry) in marked {
        for kind in [Kind::Read, Kind::Write, Kind::Fetch] {
            let found = LONG.access(&tables, 0x123, kind, USER_3);
            assert_eq!(found, Err(Miss::Protected), "{kind:?}, table {at:#x}");
        }
        let old: u64 = memory.read_obj(GuestAddress(at)).expect("RAM");
        assert_eq!(old, entry & !(ACCESSED | DIRTY));
        put(at, entry);
    }
    assert_eq!(LONG.access(&tables, 0x123, Kind::Write, USER_3), Ok(0x8123));
}
