// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The devices that the guest can't discover by itself: serial port, real-time clock, virtio
//! devices, the secure kernel at VTL1; and the value that powers the machine off.

use super::aml;
use crate::memory::Range;
use crate::platform::{Gsi, Ports};
use crate::virtio::Slot;

/// The contents of the DSDT.
pub(super) fn terms(virtio: &[Slot], vtl1: Option<Range>) -> Vec<u8> {
    let mut devices = vec![serial_port(), clock()];
    devices.extend(
        (0_u32..)
            .zip(virtio)
            .map(|(uid, slot)| virtio_device(uid, *slot)),
    );
    devices.extend(vtl1.map(secure_kernel));
    let soft_off = aml::package(&[aml::integer(u32::from(Ports::SOFT_OFF)), aml::integer(0)]);
    [aml::scope("\\_SB", &devices), aml::name("\\_S5", &soft_off)].concat()
}

fn serial_port() -> Vec<u8> {
    let resources = [
        aml::ports(Ports::SERIAL, Ports::SERIAL_LEN),
        aml::interrupt(Gsi::SERIAL.number()),
    ];
    aml::device(
        "COM1",
        &[
            aml::name("_HID", &aml::eisa_id(*b"PNP", 0x0501)),
            aml::name("_UID", &aml::integer(0)),
            aml::name("_CRS", &aml::resources(&resources)),
        ],
    )
}

/// Without an interrupt: the guest has better timers.
fn clock() -> Vec<u8> {
    let resources = [aml::ports(Ports::CLOCK, Ports::CLOCK_LEN)];
    aml::device(
        "RTC0",
        &[
            aml::name("_HID", &aml::eisa_id(*b"PNP", 0x0b00)),
            aml::name("_CRS", &aml::resources(&resources)),
        ],
    )
}

/// Found by this identifier, Linux' driver (`tools/vtl1/driver`) makes VTL calls. The memory is named
/// so that the guest places nothing else there.
fn secure_kernel(memory: Range) -> Vec<u8> {
    // CAST: memory of a guest is below 3 GiB.
    let resources = [aml::memory(memory.start as u32, memory.len() as u32)];
    aml::device(
        "VTL1",
        &[
            aml::name("_HID", &aml::string("MVTL0001")),
            aml::name("_UID", &aml::integer(0)),
            aml::name("_CCA", &aml::integer(1)),
            aml::name("_CRS", &aml::resources(&resources)),
        ],
    )
}

fn virtio_device(uid: u32, slot: Slot) -> Vec<u8> {
    let resources = [
        aml::memory(slot.base(), Slot::LEN),
        aml::interrupt(slot.gsi().number()),
    ];
    aml::device(
        &format!("VIO{uid}"),
        &[
            aml::name("_HID", &aml::string("LNRO0005")),
            aml::name("_UID", &aml::integer(uid)),
            aml::name("_CCA", &aml::integer(1)),
            aml::name("_CRS", &aml::resources(&resources)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secure_kernel_is_a_device_with_its_memory() {
        let find = |terms: &[u8], part: &[u8]| terms.windows(part.len()).any(|it| it == part);
        let own = Range::new(0x7e0_0000, 0x800_0000);
        let with = terms(&[], Some(own));
        assert!(find(&with, b"MVTL0001\0"));
        // Memory32Fixed, writable.
        let memory = [0x86, 9, 0, 1, 0, 0, 0xe0, 7, 0, 0, 0x20, 0];
        assert!(find(&with, &memory));
        assert!(!find(&terms(&[], None), b"MVTL0001"));
    }
}
