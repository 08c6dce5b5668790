// SPDX-License-Identifier: GPL-2.0
//! `MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT`: a vector of this kernel for an interrupt of VTL0.
//!
//! The host sends a device's interrupt to VTL2 directly, where it becomes one that the VP is asked to
//! take, without a message. A mapping belongs to the VTL file by which it was made, and goes with it.
//! `redirect.c` has the kernel's side.

// UNSAFETY: FFI with a callback.
#![allow(unsafe_code)]

use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uaccess::{UserPtr, UserSlice};

use crate::glue::abi::{self, safe_in_c};
use crate::nodes::device::VtlFile;
use crate::pure::apic::Vector;
use crate::vp::machine::Machine;

// They touch nothing but what `redirect.c` itself made.
safe_in_c! {
    fn vtl_redirect_init() -> c_int;
    fn vtl_redirect_exit();
}

/// The kernel's side is ready.
pub(crate) struct Ready(());

impl Ready {
    /// Before the first device node.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        to_result(vtl_redirect_init())?;
        Ok(Self(()))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        vtl_redirect_exit();
    }
}

/// Whom an interrupt is for.
struct Route {
    machine: Arc<Machine>,
    cpu: u32,
    vector: Vector,
}

/// One mapping.
///
/// # Invariants
///
/// `given` came from `vtl_redirect_new` and is given back in `drop` only; `_route` is what it calls
/// back with.
pub(crate) struct Mapping {
    given: abi::vtl_redirect,
    apic_id: u32,
    _route: KBox<Route>,
}

impl Mapping {
    fn new(route: Route, apic_id: u32) -> Result<Self> {
        let cpu = route.cpu;
        let route = KBox::new(route, GFP_KERNEL)?;
        let argument: *const Route = &*route;
        let mut given = abi::vtl_redirect::default();
        // SAFETY: The callback gets a route that stays where it is until the mapping's `drop` has
        // stopped the interrupt; in a task that may sleep.
        to_result(unsafe {
            abi::vtl_redirect_new(
                cpu,
                Some(arrived),
                argument.cast_mut().cast::<c_void>(),
                &mut given,
            )
        })?;
        // INVARIANT: just made.
        Ok(Self {
            given,
            apic_id,
            _route: route,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the invariant; in a task that may sleep.
        unsafe { abi::vtl_redirect_free(self.given.irq) }
    }
}

/// An interrupt of a device for VTL0, with interrupts off.
extern "C" fn arrived(route: *mut c_void) {
    // SAFETY: `Mapping::new` gave a route that outlives the interrupt.
    let route = unsafe { &*route.cast::<Route>() };
    if let Some(vp) = route.machine.vp(route.cpu) {
        if vp.run_page.ask_for(route.vector) {
            vp.wake.kick();
        }
    }
}

/// `MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT`.
///
/// # Errors
///
/// EFAULT, ENOMEM. EINVAL: a vector that no interrupt can have, neither 0 nor 1, or nothing to take
/// back. ENXIO: no VP with this APIC ID. ENOSPC: the CPU has no vector left. Then nothing has
/// changed.
pub(crate) fn map(vtl: &VtlFile, argument: UserPtr) -> Result<isize> {
    let operand = UserSlice::new(argument, size_of::<[u64; 2]>());
    let (mut reader, mut writer) = operand.reader_writer();
    let [names, is_new]: [u64; 2] = reader.read()?;
    let (vector, apic_id) = (names as u32, (names >> 32) as u32); // CAST: the two halves
                                                                  // The other bytes are padding.
    match is_new & 0xff {
        0 => unmap(vtl, vector, apic_id),
        1 => {
            let mapping = new_mapping(vtl, vector, apic_id)?;
            let mut mappings = vtl.redirects().lock();
            mappings.reserve(1, GFP_KERNEL)?;
            writer.write(&mapping.given.vector)?;
            mappings.push(mapping, GFP_KERNEL)?;
            Ok(0)
        }
        _ => Err(EINVAL),
    }
}

fn new_mapping(vtl: &VtlFile, vector: u32, apic_id: u32) -> Result<Mapping> {
    let vector = u8::try_from(vector).ok().and_then(Vector::new);
    let vector = vector.ok_or(EINVAL)?;
    let machine = vtl.shared_machine();
    let mut vps = (0..machine.num_cpus()).filter_map(|cpu| machine.vp(cpu));
    let vp = vps.find(|vp| vp.apic_id == apic_id).ok_or(ENXIO)?;
    let cpu = u32::from(vp.cpu);
    let route = Route {
        machine: machine.clone(),
        cpu,
        vector,
    };
    Mapping::new(route, apic_id)
}

/// Takes back what an earlier call answered with.
fn unmap(vtl: &VtlFile, vector: u32, apic_id: u32) -> Result<isize> {
    let mut mappings = vtl.redirects().lock();
    let mut known = mappings.iter();
    let index = known
        .position(|mapping| mapping.given.vector == vector && mapping.apic_id == apic_id)
        .ok_or(EINVAL)?;
    drop(mappings.remove(index));
    Ok(0)
}
