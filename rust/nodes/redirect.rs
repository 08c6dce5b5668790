// SPDX-License-Identifier: GPL-2.0
//! `MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT`: a vector of this kernel for an interrupt of VTL0.
//!
//! The host sends a device's interrupt to VTL2 directly, where the handler posts it to the VP
//! without a message. A mapping belongs to the VTL file by which it was made, and ends with it.
//! `redirect.c` has the kernel's side.

// UNSAFETY: FFI with a callback.
#![allow(unsafe_code)]

use core::mem::offset_of;

use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::glue::abi::{self, mshv_map_device_intr, safe_in_c, Made, TakenBack, Valid};
use crate::glue::ffi::{call_back, Callback};
use crate::nodes::args::Argument;
use crate::nodes::device::VtlFile;
use crate::pure::apic::Vector;
use crate::pure::field::VmIndex;
use crate::pure::hv_vectors::{self, Quota};
use crate::vp::machine::Machine;
use crate::vp::Vp;

// They only access what `redirect.c` itself made.
safe_in_c! {
    fn vtl_redirect_init() -> c_int;
    fn vtl_redirect_exit();
    fn vtl_redirect_vector(
        redirect: Valid<'_, abi::vtl_redirect> as *const abi::vtl_redirect
    ) -> u32;
}

/// The interrupt domain exists.
pub(crate) struct RedirectReady(());

impl RedirectReady {
    /// To be created before the first device node.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        to_result(vtl_redirect_init())?;
        Ok(Self(()))
    }
}

impl Drop for RedirectReady {
    fn drop(&mut self) {
        vtl_redirect_exit();
    }
}

/// Where an interrupt goes: the VP, and the vector in VTL0.
struct Route {
    machine: Arc<Machine>,
    cpu: u32,
    vector: Vector,
}

impl Route {
    fn vp(&self) -> Option<&Vp> {
        self.machine.vp(self.cpu)
    }
}

/// A vector of a CPU's quota for redirection, held.
struct RedirectSlot {
    route: KBox<Route>,
}

impl RedirectSlot {
    /// # Errors
    ///
    /// ENOSPC: the quota is exhausted. ENOMEM.
    fn take(route: Route) -> Result<Self> {
        let route = KBox::new(route, GFP_KERNEL)?;
        let vp = route.vp().ok_or(ENXIO)?;
        if !vp.redirected.take() {
            return Err(ENOSPC);
        }
        Ok(Self { route })
    }
}

impl Drop for RedirectSlot {
    fn drop(&mut self) {
        if let Some(vp) = self.route.vp() {
            vp.redirected.give_back();
        }
    }
}

/// One mapping.
///
/// # Invariants
///
/// `given` was made with the route in `_place`, which is dropped after it.
pub(crate) struct Mapping {
    given: Made<abi::vtl_redirect>,
    apic_id: u32,
    _place: RedirectSlot,
}

// SAFETY: Any task may free it that may sleep. A `Mapping` is dropped in such a task, by a command or with
// its file.
unsafe impl TakenBack for abi::vtl_redirect {
    const TAKE_BACK: unsafe extern "C" fn(*mut Self) = abi::vtl_redirect_free;
}

impl Mapping {
    fn new(route: Route, apic_id: u32) -> Result<Self> {
        let cpu = route.cpu;
        let place = RedirectSlot::take(route)?;
        let route = core::ptr::from_ref(&*place.route).cast_mut().cast();
        // SAFETY: The callback gets a route whose address is fixed, and which lives until the interrupt
        // has been freed, by the invariant of the mapping. Only the new `Made` frees the result. This
        // runs in a task that may sleep.
        let given = unsafe { Made::new(abi::vtl_redirect_new(cpu, Some(on_interrupt), route)) };
        // INVARIANT: made with the route in `place`; fields are dropped in order.
        Ok(Self {
            given: given?,
            apic_id,
            _place: place,
        })
    }

    /// Returns the vector of VTL2.
    fn vector(&self) -> u32 {
        vtl_redirect_vector((&self.given).into())
    }
}

/// An interrupt of a device for VTL0. Called with interrupts disabled.
struct Arrived;

impl Callback for Arrived {
    type About = Route;
    type Output = ();

    fn call(route: &Route) {
        if let Some(vp) = route.vp() {
            vp.run_page.post(route.vector);
            vp.wake.kick();
        }
    }
}

/// Interrupt handler.
///
/// # Safety
///
/// `route` is the argument that the interrupt was requested with.
unsafe extern "C" fn on_interrupt(_irq: c_int, route: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `Mapping::new` passed a route, which outlives the interrupt.
    unsafe { call_back::<Arrived, _>(route) };
    bindings::irqreturn::IRQ_HANDLED
}

/// `MSHV_MAP_REDIRECTED_DEVICE_INTERRUPT`.
///
/// # Errors
///
/// EFAULT, ENOMEM. EINVAL: a vector that the host may not send, a flag other than 0 and 1, or no
/// such mapping. ENXIO: no VP with this APIC ID. EMFILE: the file has reached its limit on that
/// CPU. ENOSPC: the CPU's quota or its vectors are exhausted. Then nothing has changed.
pub(crate) fn map(vtl: &VtlFile, argument: Argument) -> Result<isize> {
    let mshv_map_device_intr {
        vector,
        apic_id,
        create_mapping,
        padding: _,
    } = argument.read()?;
    match create_mapping {
        0 => unmap(vtl, vector, apic_id),
        1 => {
            let route = find_route(vtl, vector, apic_id)?;
            let vector = add(vtl, route, apic_id)?;
            let written = argument
                .field(offset_of!(mshv_map_device_intr, vector))
                .write(&vector);
            if written.is_err() {
                // Another thread may have guessed the vector and unmapped it already.
                let _ = unmap(vtl, vector, apic_id);
            }
            written.map(|()| 0)
        }
        _ => Err(EINVAL),
    }
}

fn find_route(vtl: &VtlFile, vector: u32, apic_id: u32) -> Result<Route> {
    let vector = u8::try_from(vector).ok().and_then(Vector::new);
    let is_allowed = |vector: &Vector| hv_vectors::is_allowed(VmIndex::VM1, *vector);
    let vector = vector.filter(is_allowed).ok_or(EINVAL)?;
    let machine = vtl.shared_machine();
    let mut vps = (0..machine.num_cpus()).filter_map(|cpu| machine.vp(cpu));
    let vp = vps.find(|vp| vp.apic_id == apic_id).ok_or(ENXIO)?;
    let cpu = u32::from(vp.cpu);
    Ok(Route {
        machine: machine.clone(),
        cpu,
        vector,
    })
}

/// Makes a mapping. Returns the vector of this kernel.
fn add(vtl: &VtlFile, route: Route, apic_id: u32) -> Result<u32> {
    // Held throughout, so that two threads can't both take the last mapping that the file may have.
    let mut mappings = vtl.redirects().lock();
    let of_cpu = mappings.iter().filter(|mapping| mapping.apic_id == apic_id);
    if of_cpu.count() >= Quota::PER_FILE {
        return Err(EMFILE);
    }
    mappings.reserve(1, GFP_KERNEL)?;
    let mapping = Mapping::new(route, apic_id)?;
    let vector = mapping.vector();
    mappings.push(mapping, GFP_KERNEL)?;
    Ok(vector)
}

/// Removes a mapping by the vector that an earlier call returned.
fn unmap(vtl: &VtlFile, vector: u32, apic_id: u32) -> Result<isize> {
    let mut mappings = vtl.redirects().lock();
    let mut known = mappings.iter();
    let index = known
        .position(|mapping| mapping.vector() == vector && mapping.apic_id == apic_id)
        .ok_or(EINVAL)?;
    drop(mappings.remove(index));
    Ok(0)
}
