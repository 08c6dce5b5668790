// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What L1 can't do by QEMU's chipset: write to memory that it does not share, or put a device in the
//! place of memory. [QEMU docs/specs/fw_cfg; IA-PC HPET 2.3; ICH9 13.1]

use super::Memory;
use crate::cpu::{peek, poke};
use crate::host;
use crate::pci;
use crate::tdx::{self, leaf};
use crate::vm::{Outcome, Vm, equal};

/// Memory of VTL0 that no other test uses: a private page with a request, and one for the answer.
const PAGES: u64 = 48 << 20;
const HOST_BRIDGE: pci::Device = pci::Device::at(0);
const LPC_BRIDGE: pci::Device = pci::Device::at(31);
/// Where configuration space is, and its second half.
const PCIEXBAR: u64 = 0x60;
/// Where the registers of the root complex are.
const RCBA: u64 = 0xf0;

pub fn fw_cfg_does_not_reach_private_pages(_: &mut Vm, memory: &Memory) -> Outcome {
    const SELECT_AND_READ: u32 = 8 | 2;
    const LEN_BYTES: u32 = 4;
    const ADDRESS_HIGH: u64 = 0x514;
    const ADDRESS_LOW: u64 = 0x518;
    const ALL_ONES: u64 = 0xffff_ffff;
    let request = memory.start + PAGES;
    let answer = request + 0x1000;
    for page in [request, answer] {
        equal!(tdx::call(leaf::MEM_PAGE_ACCEPT, page, 0, 0, 0)[0], 0);
    }
    poke(answer, 0x900d);
    // Item 0, the signature. All of it is in the order of the network.
    let [control, len_bytes] =
        [SELECT_AND_READ, LEN_BYTES].map(|word| u64::from(word.swap_bytes()));
    poke(request, control | (len_bytes << 32));
    poke(request + 8, answer.swap_bytes());
    let half = |address: u64| u64::from((address as u32).swap_bytes()); // CAST: one of the halves
    host::write_port32(ADDRESS_HIGH, half(request >> 32));
    host::write_port32(ADDRESS_LOW, half(request));
    equal!(peek(answer), 0x900d);
    equal!(host::read_port32(ADDRESS_HIGH), ALL_ONES);
    equal!(host::read_port(0x511), 0xff);
    Ok(())
}

pub fn high_precision_timers_are_out_of_reach(_: &mut Vm, _: &Memory) -> Outcome {
    const HPET: u64 = 0xfed0_0000;
    for register in [0, 0x10, 0x100, 0x110, 0x3f8] {
        equal!(u64::from(host::refuses_mmio32(HPET + register)), 1);
        equal!(u64::from(host::refuses_mmio32_write(HPET + register, 0)), 1);
    }
    Ok(())
}

pub fn no_write_to_memory_space_is_an_interrupt(_: &mut Vm, _: &Memory) -> Outcome {
    const NO_PROCESSOR: u64 = 0xff << 12;
    const FIXED: u64 = 0x51;
    for offset in [0, 0x300, 0x1000, NO_PROCESSOR, 0xf_fffc] {
        let address = 0xfee0_0000 + offset;
        equal!(u64::from(host::refuses_mmio32_write(address, FIXED)), 1);
        equal!(u64::from(host::refuses_mmio32(address)), 1);
    }
    Ok(())
}

/// By the ports, and in configuration space itself.
pub fn registers_of_the_chipset_do_not_move(_: &mut Vm, memory: &Memory) -> Outcome {
    const ENABLED: u64 = 1;
    let space = HOST_BRIDGE.config(PCIEXBAR);
    equal!(space & ENABLED, ENABLED);
    let in_memory = |device: u64, register| (space & !0xf) + (device << 15) + register;
    for (bridge, number, register) in [
        (HOST_BRIDGE, 0, PCIEXBAR),
        (HOST_BRIDGE, 0, 0x9c),
        (LPC_BRIDGE, 31, RCBA),
        (LPC_BRIDGE, 31, 0x40),
    ] {
        let before = bridge.config(register);
        equal!(host::read_mmio32(in_memory(number, register)), before);
        bridge.set_config(register, (memory.start + PAGES) | ENABLED);
        equal!(bridge.config(register), before);
        host::write_mmio32(
            in_memory(number, register),
            (memory.start + PAGES) | ENABLED,
        );
        equal!(bridge.config(register), before);
    }
    // Of the other registers and devices they can be written to.
    let line = LPC_BRIDGE.config(0x3c) ^ 0x55;
    LPC_BRIDGE.set_config(0x3c, line);
    equal!(LPC_BRIDGE.config(0x3c) & 0xff, line & 0xff);
    host::write_mmio(1, in_memory(31, 0x3c), (line ^ 0x55) & 0xff);
    equal!(LPC_BRIDGE.config(0x3c), line ^ 0x55);
    Ok(())
}

/// A system-management interrupt would enter firmware, with what it finds in L1's registers.
pub fn no_port_makes_an_smi(_: &mut Vm, _: &Memory) -> Outcome {
    const APM_COMMAND: u64 = 0xb2;
    for command in [0, 4, 0xff] {
        host::write_port(APM_COMMAND, command);
    }
    Ok(())
}
