// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A thread on the CPU of its virtual processor.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;
use std::rc::{Rc, Weak};

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Error, Result};

/// Binds this thread to one CPU, however many handles there are; when the last of them is dropped
/// the thread gets its old affinity back.
#[derive(Debug)]
pub(super) struct Binding {
    cpu: u32,
    affinity_before: CpuSet,
    /// How often the virtual processor was renewed.
    renewals: Cell<u64>,
    /// It belongs to this thread.
    not_send: PhantomData<*const ()>,
}

thread_local! {
    static CURRENT: RefCell<Weak<Binding>> = const { RefCell::new(Weak::new()) };
}

impl Binding {
    /// The binding of this thread to `cpu`: a thread can't be on two CPUs, so there is one at most.
    pub(super) fn new(cpu: u32) -> Result<Rc<Self>> {
        let bind_error = |errno: Errno| Error::Bind {
            cpu,
            errno: errno.into(),
        };
        CURRENT.with_borrow_mut(|current| match current.upgrade() {
            Some(binding) if binding.cpu == cpu => Ok(binding),
            Some(_) => Err(bind_error(Errno::BUSY)),
            None => {
                let binding = Rc::new(Self::bind(cpu).map_err(bind_error)?);
                *current = Rc::downgrade(&binding);
                Ok(binding)
            }
        })
    }

    fn bind(cpu: u32) -> core::result::Result<Self, Errno> {
        let affinity_before = sched_getaffinity(None)?;
        let mut only_this = CpuSet::new();
        // CAST: widening.
        let index = cpu as usize;
        if index >= CpuSet::MAX_CPU {
            return Err(Errno::INVAL);
        }
        only_this.set(index);
        sched_setaffinity(None, &only_this)?;
        Ok(Self {
            cpu,
            affinity_before,
            renewals: Cell::new(0),
            not_send: PhantomData,
        })
    }

    pub(super) fn cpu(&self) -> u32 {
        self.cpu
    }

    /// How often the virtual processor was renewed, by whichever handle.
    pub(super) fn renewals(&self) -> u64 {
        self.renewals.get()
    }

    /// Counts one more.
    pub(super) fn count_renewal(&self) {
        self.renewals.set(self.renewals.get() + 1);
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // If the old CPUs are offline now, the thread stays where it is.
        let _ = sched_setaffinity(None, &self.affinity_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> core::result::Result<Vec<usize>, Errno> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect())
    }

    #[test]
    fn a_thread_is_bound_as_long_as_the_binding_lives() -> core::result::Result<(), Errno> {
        let before = allowed()?;
        let cpu = before.last().copied().unwrap_or(0);
        let number = u32::try_from(cpu).unwrap_or(0);
        match Binding::new(number) {
            Ok(binding) => {
                assert_eq!(allowed()?, [cpu]);
                assert_eq!(binding.cpu(), number);
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(allowed()?, before);
        Ok(())
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_and_nothing_changes() -> core::result::Result<(), Errno> {
        let before = allowed()?;
        for cpu in [1023, 1024, u32::MAX] {
            match Binding::new(cpu) {
                Err(error) => assert_eq!(error.errno(), Some(crate::Errno::EINVAL)),
                Ok(_) => panic!("cpu {cpu}"),
            }
        }
        assert_eq!(allowed()?, before);
        Ok(())
    }

    #[test]
    fn a_second_processor_on_the_same_thread_is_refused() -> core::result::Result<(), Errno> {
        let before = allowed()?;
        let cpu = before.last().copied().unwrap_or(0);
        let number = u32::try_from(cpu).unwrap_or(0);
        let Ok(first) = Binding::new(number) else {
            panic!("cpu {number}");
        };
        match Binding::new(number + 1) {
            Err(error) => assert_eq!(error.errno(), Some(crate::Errno::EBUSY)),
            Ok(_) => panic!("two processors"),
        }
        let Ok(second) = Binding::new(number) else {
            panic!("the same one again");
        };
        assert!(Rc::ptr_eq(&first, &second));
        drop(first);
        assert_eq!(allowed()?, [cpu], "a handle is left");
        drop(second);
        assert_eq!(allowed()?, before);
        Ok(())
    }
}
