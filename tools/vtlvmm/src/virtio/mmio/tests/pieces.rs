// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A request of many pieces, during which the machine ends or a page is protected.

use std::thread;

use vm_memory::{
    GuestMemory as _, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, VolatileSlice,
};

use super::*;
use crate::memory::Range;
use crate::virtio::block::PIECE;

const PIECES: u16 = 4;
const LEN: usize = PIECES as usize * PIECE;
/// The buffers, a piece each.
const BUFFERS: u64 = 0x8_0000;
const IN: u32 = 0;
const OUT: u32 = 1;

const fn buffer(number: u16) -> u64 {
    BUFFERS + number as u64 * PIECE as u64
}

/// A disk of [`LEN`] bytes and an available request for all of them.
fn rig(kind: u32) -> (Rig, File) {
    let file = file(LEN as u64);
    let own = file.try_clone().expect("a descriptor");
    let mut rig = Rig::new(Device::Block(Block::new(file, LEN as u64, false)));
    rig.start();
    let put = |value: u32, at| {
        let written = rig.memory.write_obj(value, GuestAddress(at));
        written.expect("RAM");
    };
    put(kind, HEADER);
    put(0, HEADER + 8);
    put(0xaa, STATUS);
    rig.descriptor(0, HEADER, 16, NEXT, 1);
    for number in 0..PIECES {
        let flags = if kind == OUT { NEXT } else { NEXT | WRITE };
        let (at, next) = (buffer(number), number + 2);
        rig.descriptor(u64::from(number) + 1, at, PIECE as u32, flags, next);
    }
    rig.descriptor(u64::from(PIECES) + 1, STATUS, 1, WRITE, 0);
    rig.offer(0);
    (rig, own)
}

/// Status and the length that the device tells.
fn answer(rig: &Rig) -> (u8, u32) {
    let status = rig.memory.read_obj(GuestAddress(STATUS)).expect("RAM");
    let used = rig.memory.read_obj(GuestAddress(USED + 8)).expect("RAM");
    (status, used)
}

#[test]
fn the_disk_of_a_machine_that_is_over_changes_by_one_piece_at_most() {
    let (mut rig, file) = rig(OUT);
    let data = rig.memory.write_slice(&[7; LEN], GuestAddress(BUFFERS));
    data.expect("RAM");
    let limits = Limits {
        is_over: &AtomicBool::new(true),
        protected: &Protected::default(),
    };
    let Device::Block(block) = &mut rig.transport.device else {
        unreachable!("it is a disk");
    };
    let chains = virtio_queue::QueueOwnedT::iter(&mut rig.transport.queue, &rig.memory);
    let chain = chains.expect("a queue").next().expect("a request");
    assert_eq!(block.serve(&rig.memory, &limits, chain), Some(1));
    let mut bytes = vec![0; LEN];
    file.read_exact_at(&mut bytes, 0).expect("the file");
    let changed = bytes.iter().filter(|byte| **byte != 0).count();
    assert!(changed <= PIECE, "{changed:#x}");
    assert_eq!(answer(&rig).0, 1);
}

/// Memory without what is protected. When a device writes to the first buffer, something happens.
struct Eventful<F> {
    memory: GuestMemoryMmap<()>,
    protected: Arc<Protected>,
    looks: AtomicUsize,
    event: F,
}

impl<F: Fn()> GuestMemoryRegion for Eventful<F> {
    type B = ();

    fn len(&self) -> GuestUsize {
        RAM_LEN
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(0)
    }

    fn bitmap(&self) {}

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        // The first look is a check of the whole request.
        if offset.0 == BUFFERS && self.looks.fetch_add(1, Ordering::SeqCst) == 1 {
            (self.event)();
        }
        let range = Range::new(offset.0, offset.0 + count as u64);
        if self.protected.overlaps(range) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        self.memory.get_slice(GuestAddress(offset.0), count)
    }
}

impl<F: Fn()> GuestMemoryRegionBytes for Eventful<F> {}

/// Reads the whole disk. When the first piece is written to memory, `event` happens. Returns how much was
/// written to each buffer, and the answer.
fn read_during(
    limits: &Limits<'_>,
    protected: &Arc<Protected>,
    event: impl Fn(),
) -> (Vec<usize>, (u8, u32)) {
    let (mut rig, file) = rig(IN);
    file.write_all_at(&[7; LEN], 0).expect("the file");
    let eventful = Eventful {
        memory: rig.memory.clone(),
        protected: Arc::clone(protected),
        looks: AtomicUsize::new(0),
        event,
    };
    let memory = GuestRegionCollection::from_regions(vec![eventful]).expect("one region");
    let notify = register::VIRTIO_MMIO_QUEUE_NOTIFY;
    rig.transport.write(&memory, limits, notify, 4, 0);
    assert!(!rig.needs_reset());
    let written = (0..PIECES).map(|number| {
        let mut bytes = vec![0; PIECE];
        let read = rig
            .memory
            .read_slice(&mut bytes, GuestAddress(buffer(number)));
        read.expect("RAM");
        bytes.iter().filter(|byte| **byte != 0).count()
    });
    (written.collect(), answer(&rig))
}

#[test]
fn nothing_is_read_from_the_disk_after_the_piece_during_which_the_machine_ends() {
    let (is_over, protected) = (AtomicBool::new(false), Arc::new(Protected::default()));
    let limits = Limits {
        is_over: &is_over,
        protected: &protected,
    };
    let read = read_during(&limits, &protected, || {
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(read, (vec![PIECE, 0, 0, 0], (1, PIECE as u32 + 1)));
}

#[test]
fn a_page_that_is_protected_during_a_request_is_not_written_by_it() {
    let protected = Arc::new(Protected::default());
    let limits = Limits {
        is_over: &AtomicBool::new(false),
        protected: &protected,
    };
    let page = Range::new(buffer(2) + 0x1000, buffer(2) + 0x2000);
    let read = read_during(&limits, &protected, || {
        // It waits for this piece, and for no more.
        let protected = Arc::clone(&protected);
        let adder = Arc::clone(&protected);
        thread::spawn(move || adder.add([page]));
        while !protected.overlaps(page) {
            thread::yield_now();
        }
    });
    assert_eq!(read, (vec![PIECE, PIECE, 0, 0], (1, 2 * PIECE as u32 + 1)));
}
