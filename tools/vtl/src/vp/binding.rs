// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A thread on the CPU of its virtual processor.

use core::marker::PhantomData;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Error, Result};

/// Binds this thread to one CPU; on drop the thread gets its old affinity back.
#[derive(Debug)]
pub(super) struct Binding {
    cpu: u32,
    affinity_before: CpuSet,
    /// It belongs to this thread.
    not_send: PhantomData<*const ()>,
}

impl Binding {
    pub(super) fn new(cpu: u32) -> Result<Self> {
        let bind_error = |errno: Errno| Error::Bind {
            cpu,
            errno: errno.into(),
        };
        let affinity_before = sched_getaffinity(None).map_err(bind_error)?;
        let mut only_this = CpuSet::new();
        // CAST: widening.
        let index = cpu as usize;
        if index >= CpuSet::MAX_CPU {
            return Err(bind_error(Errno::INVAL));
        }
        only_this.set(index);
        sched_setaffinity(None, &only_this).map_err(bind_error)?;
        Ok(Self {
            cpu,
            affinity_before,
            not_send: PhantomData,
        })
    }

    pub(super) fn cpu(&self) -> u32 {
        self.cpu
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
}
