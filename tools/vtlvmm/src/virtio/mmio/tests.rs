// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A driver, honest and hostile.

mod pieces;

use super::*;
use crate::memory::tests::ram;
use crate::platform::Gsi;
use crate::platform::interrupts::{Deliver, Interrupts};
use crate::platform::ioapic::Message;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

const DESCRIPTORS: u64 = 0x1000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const DATA: u64 = 0x5000;
const STATUS: u64 = 0x6000;
const RAM_LEN: u64 = 0x10_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

#[derive(Default)]
struct Pulses(AtomicUsize);

impl Deliver for Pulses {
    fn deliver(&self, _message: Message) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A device with its driver.
struct Rig {
    memory: GuestMemoryMmap<()>,
    transport: Transport,
    pulses: Arc<Pulses>,
    avail: u16,
}

impl Rig {
    fn new(device: Device) -> Self {
        let pulses = Arc::new(Pulses::default());
        let interrupts = Interrupts::new(Arc::clone(&pulses) as Arc<dyn Deliver>);
        interrupts.write(0, 0x18);
        interrupts.write(0x10, 0x41);
        Self {
            memory: ram(&[(0, RAM_LEN as usize)]),
            transport: Transport::new(device, interrupts.line(Gsi::SERIAL)),
            pulses,
            avail: 0,
        }
    }

    fn write(&mut self, register: u32, value: u32) {
        let limits = Limits {
            is_over: &AtomicBool::new(false),
            protected: &Protected::default(),
        };
        self.transport
            .write(&self.memory, &limits, register, 4, value.into());
    }

    fn read(&self, register: u32) -> u64 {
        self.transport.read(register, 4)
    }

    /// What a driver does until DRIVER_OK.
    fn start(&mut self) {
        self.write(register::VIRTIO_MMIO_STATUS, 3);
        self.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        self.write(register::VIRTIO_MMIO_DRIVER_FEATURES, 1);
        self.write(register::VIRTIO_MMIO_STATUS, 11);
        self.place_queue(8, DESCRIPTORS, AVAIL, USED);
        self.write(register::VIRTIO_MMIO_STATUS, 15);
    }

    fn place_queue(&mut self, len: u32, descriptors: u64, avail: u64, used: u64) {
        self.write(register::VIRTIO_MMIO_QUEUE_SEL, 0);
        self.write(register::VIRTIO_MMIO_QUEUE_NUM, len);
        for (low, address) in [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, used),
        ] {
            self.write(low, address as u32);
            self.write(low + 4, (address >> 32) as u32);
        }
        self.write(register::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    fn descriptor(&self, number: u64, address: u64, len: u32, flags: u16, next: u16) {
        let at = |offset| GuestAddress(DESCRIPTORS + 16 * number + offset);
        self.memory.write_obj(address, at(0)).expect("RAM");
        self.memory.write_obj(len, at(8)).expect("RAM");
        self.memory.write_obj(flags, at(12)).expect("RAM");
        self.memory.write_obj(next, at(14)).expect("RAM");
    }

    /// Makes the chain at `head` available.
    fn offer(&mut self, head: u16) {
        let slot = u64::from(self.avail % 8);
        self.memory
            .write_obj(head, GuestAddress(AVAIL + 4 + 2 * slot))
            .expect("RAM");
        self.avail = self.avail.wrapping_add(1);
        self.memory
            .write_obj(self.avail, GuestAddress(AVAIL + 2))
            .expect("RAM");
    }

    /// And notifies.
    fn submit(&mut self, head: u16) {
        self.offer(head);
        self.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    /// A request of the disk; its status, and what the device says it wrote.
    fn request(&mut self, kind: u32, sector: u64, len: u32) -> (u8, u32) {
        let data_flags = if kind == 1 { NEXT } else { NEXT | WRITE };
        self.memory
            .write_obj(kind, GuestAddress(HEADER))
            .expect("RAM");
        self.memory
            .write_obj(sector, GuestAddress(HEADER + 8))
            .expect("RAM");
        self.memory
            .write_obj(0xaa_u8, GuestAddress(STATUS))
            .expect("RAM");
        self.descriptor(0, HEADER, 16, NEXT, 1);
        self.descriptor(1, DATA, len, data_flags, 2);
        self.descriptor(2, STATUS, 1, WRITE, 0);
        let slot = u64::from(self.avail % 8);
        self.submit(0);
        let status = self.memory.read_obj(GuestAddress(STATUS)).expect("RAM");
        let used = self
            .memory
            .read_obj(GuestAddress(USED + 8 + 8 * slot))
            .expect("RAM");
        (status, used)
    }

    fn needs_reset(&self) -> bool {
        self.read(register::VIRTIO_MMIO_STATUS) & u64::from(VIRTIO_CONFIG_S_NEEDS_RESET) != 0
    }

    fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).expect("RAM")
    }
}

/// A file without a name.
fn file(len: u64) -> File {
    let path = std::env::temp_dir().join(format!(
        "vtlvmm-disk-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .expect("a file");
    std::fs::remove_file(path).expect("its name");
    file.set_len(len).expect("its length");
    file
}

fn disk(is_read_only: bool) -> (Rig, File) {
    let file = file(4096);
    let own = file.try_clone().expect("a descriptor");
    let mut rig = Rig::new(Device::Block(Block::new(file, 4096 + 100, is_read_only)));
    rig.start();
    (rig, own)
}

#[test]
fn a_driver_finds_the_device_and_its_capacity() {
    let (rig, _) = disk(true);
    assert_eq!(rig.read(register::VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(rig.read(register::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(rig.read(register::VIRTIO_MMIO_DEVICE_ID), 2);
    assert_ne!(
        rig.read(register::VIRTIO_MMIO_DEVICE_FEATURES) & (1 << 5),
        0
    );
    assert_eq!(rig.transport.read(register::VIRTIO_MMIO_CONFIG, 8), 8);
    assert_eq!(
        rig.transport.read(register::VIRTIO_MMIO_CONFIG + 0xfc, 4),
        0
    );
    assert!(!rig.needs_reset());
}

#[test]
fn sectors_go_to_the_file_and_come_back() {
    let (mut rig, file) = disk(false);
    rig.memory
        .write_slice(&[7; 1024], GuestAddress(DATA))
        .expect("RAM");
    assert_eq!(rig.request(1, 2, 1024), (0, 1));
    let mut bytes = [0; 1024];
    file.read_exact_at(&mut bytes, 1024).expect("the file");
    assert_eq!(bytes, [7; 1024]);
    file.write_all_at(&[9; 512], 0).expect("the file");
    assert_eq!(rig.request(0, 0, 512), (0, 513));
    let read: [u8; 8] = rig.memory.read_obj(GuestAddress(DATA)).expect("RAM");
    assert_eq!(read, [9; 8]);
    assert_eq!(rig.request(4, 0, 0).0, 0);
    assert_eq!(rig.request(8, 0, 20), (0, 21));
    assert_eq!(rig.pulses.0.load(Ordering::SeqCst), 4);
    assert_eq!(rig.read(register::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    rig.write(register::VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_eq!(rig.read(register::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

#[test]
fn requests_that_cannot_be_carried_out_fail_alone() {
    let (mut rig, file) = disk(true);
    for (kind, sector, len, expected) in [
        (0, 8, 512, 1),
        (0, 7, 1024, 1),
        (0, u64::MAX, 512, 1),
        (0, u64::MAX / 512 + 1, 512, 1),
        (0, 0, 511, 1),
        (1, 0, 512, 1),
        (99, 0, 512, 2),
    ] {
        assert_eq!(
            rig.request(kind, sector, len).0,
            expected,
            "{kind} {sector:#x} {len}"
        );
        assert!(!rig.needs_reset());
    }
    // The file is shorter than it was.
    file.set_len(512).expect("its length");
    assert_eq!(rig.request(0, 1, 512).0, 1);
    assert_eq!(rig.request(0, 0, 512).0, 0);
}

#[test]
fn chains_that_are_no_request_stop_the_device_until_it_is_reset() {
    type Chain = fn(&Rig);
    let chains: [(&str, Chain); 9] = [
        ("loop", |rig| rig.descriptor(0, HEADER, 16, NEXT, 0)),
        ("loop of writable ones", |rig| {
            rig.descriptor(0, DATA, 16, NEXT | WRITE, 0)
        }),
        ("outside of memory", |rig| {
            rig.descriptor(0, RAM_LEN, 16, 0, 0)
        }),
        ("across the end of memory", |rig| {
            rig.descriptor(0, RAM_LEN - 8, 16, 0, 0)
        }),
        ("wrapping", |rig| {
            rig.descriptor(0, u64::MAX, u32::MAX, 0, 0)
        }),
        ("next beyond the table", |rig| {
            rig.descriptor(0, HEADER, 16, NEXT, 999)
        }),
        ("no status", |rig| rig.descriptor(0, HEADER, 16, 0, 0)),
        ("short header", |rig| {
            rig.descriptor(0, HEADER, 15, NEXT, 1);
            rig.descriptor(1, STATUS, 1, WRITE, 0);
        }),
        ("indirect to nowhere", |rig| {
            rig.descriptor(0, RAM_LEN, 32, INDIRECT, 0)
        }),
    ];
    for (name, chain) in chains {
        let (mut rig, _) = disk(false);
        chain(&rig);
        rig.submit(0);
        assert!(rig.needs_reset(), "{name}");
        assert_eq!(
            rig.read(register::VIRTIO_MMIO_INTERRUPT_STATUS),
            2,
            "{name}"
        );
        let used = rig.used();
        rig.submit(0);
        assert_eq!(rig.used(), used, "{name}");
        rig.write(register::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(rig.read(register::VIRTIO_MMIO_STATUS), 0, "{name}");
        (rig.avail, _) = (
            0,
            rig.memory
                .write_obj(0_u32, GuestAddress(AVAIL))
                .expect("RAM"),
        );
        rig.start();
        assert_eq!(rig.request(0, 0, 512).0, 0, "{name}");
    }
}

#[test]
fn rings_outside_of_memory_are_never_used() {
    for (descriptors, avail, used) in [
        (RAM_LEN, AVAIL, USED),
        (DESCRIPTORS, RAM_LEN - 2, USED),
        (DESCRIPTORS, AVAIL, u64::MAX & !0xf),
    ] {
        let (mut rig, _) = disk(false);
        rig.write(register::VIRTIO_MMIO_QUEUE_READY, 0);
        rig.place_queue(8, descriptors, avail, used);
        assert!(rig.needs_reset());
        assert_eq!(rig.read(register::VIRTIO_MMIO_QUEUE_READY), 0);
        rig.submit(0);
        assert_eq!(rig.used(), 0);
    }
}

#[test]
fn an_index_that_ran_away_stops_the_device() {
    let (mut rig, _) = disk(false);
    rig.avail = 4711;
    rig.submit(0);
    assert!(rig.needs_reset());
    assert_eq!(rig.used(), 0);
}

#[test]
fn no_register_and_no_value_can_panic() {
    for (step, value) in (0_u32..).zip([0, 1, 7, 0xffff, u32::MAX, 1 << 31]) {
        let (mut rig, _) = disk(false);
        for offset in (0..0x200).rev() {
            rig.write(offset, value.rotate_left(step));
            let limits = Limits {
                is_over: &AtomicBool::new(false),
                protected: &Protected::default(),
            };
            for size in [1, 2, 8] {
                rig.transport
                    .write(&rig.memory, &limits, offset, size, u64::MAX);
                let _ = rig.transport.read(offset, size);
            }
        }
    }
}

#[test]
fn a_driver_that_wants_other_features_is_told() {
    let mut rig = Rig::new(Device::Random(Random::new(file(4096))));
    rig.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    rig.write(register::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    rig.write(register::VIRTIO_MMIO_STATUS, 11);
    assert_eq!(rig.read(register::VIRTIO_MMIO_STATUS), 3);
}

#[test]
fn random_numbers_fill_what_the_driver_gives() {
    let source = file(4096);
    source.write_all_at(&[0x5a; 4096], 0).expect("the file");
    let mut rig = Rig::new(Device::Random(Random::new(source)));
    rig.start();
    rig.descriptor(0, DATA, 100, WRITE, 0);
    rig.submit(0);
    let filled: [u8; 8] = rig.memory.read_obj(GuestAddress(DATA + 92)).expect("RAM");
    assert_eq!((filled, rig.used()), ([0x5a; 8], 1));
    // A chain without room is answered with nothing.
    rig.descriptor(0, DATA, 100, 0, 0);
    rig.submit(0);
    assert_eq!((rig.used(), rig.needs_reset()), (2, false));
}
