// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The devices that the guest can't discover by itself: serial port, real-time clock, virtio
//! devices; and the value that powers the machine off.

use super::aml;
use crate::platform::{Gsi, Ports};
use crate::virtio::Slot;

/// The contents of the DSDT.
pub(super) fn terms(virtio: &[Slot]) -> Vec<u8> {
    let mut devices = vec![serial_port(), clock()];
    devices.extend(
        (0_u32..)
            .zip(virtio)
            .map(|(uid, slot)| virtio_device(uid, *slot)),
    );
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
