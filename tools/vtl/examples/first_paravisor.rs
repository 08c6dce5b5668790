// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A first paravisor: runs a guest of a few bytes at VTL0 and prints what it says.

use vtl::{Exit, GpaRange, Gpr, Mode, Mshv, PageRights, Vm};

/// `1: lodsb; test al, al; jz 2f; out 0xe9, al; jmp 1b; 2: hlt`, then what it says.
const GUEST: &[u8] = b"\xac\x84\xc0\x74\x04\xe6\xe9\xeb\xf7\xf4hello from VTL0\n\0";
const CODE_LEN: u64 = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One page of the memory that the module claimed for lower VTLs.
    let list = std::fs::read_to_string("/sys/module/mshv_vtl_tdx/parameters/vtl0_mem")?;
    let first = list.split(',').next().unwrap_or_default();
    let base = u64::from_str_radix(first.trim().trim_start_matches("0x"), 16)?;
    let page = GpaRange::new(base, 4096)?;

    let vtl = Mshv::open()?.create_vtl()?;
    let memory = vtl.accept_zeroed(page)?;
    vtl.lower(Vm::VTL0).set_rights(&page, PageRights::ALL)?;
    memory.write(0, GUEST)?;

    let mut vp = vtl.bind(0, Vm::VTL0)?;
    vp.reset(Mode::Protected32, base)?;
    vp.page().set_gpr(Gpr::Rsi, base + CODE_LEN);
    loop {
        match vp.run()? {
            Exit::Port(access) => {
                let byte = access.value().to_le_bytes()[0];
                print!("{}", char::from(byte));
                access.complete();
            }
            Exit::Halt(halt) => {
                halt.complete();
                return Ok(());
            }
            // Nothing here cancels a run: somebody else has, earlier.
            Exit::Interrupted => vp.canceller().clear(),
            Exit::NotEntered(_) => {}
            other => return Err(format!("unexpected exit {}", other.name()).into()),
        }
    }
}
