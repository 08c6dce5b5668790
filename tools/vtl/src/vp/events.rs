// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Events for a lower VTL: exceptions, interrupts, NMIs, by the VM-entry fields of its L2 VMCS.

use super::Vp;
use crate::field::L2Field;
use crate::run_page::SwitchedState;
use crate::{Error, Result};

/// An exception to raise in the lower VTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exception {
    /// #DE.
    DivideError,
    /// #UD.
    InvalidOpcode,
    /// #NM.
    DeviceNotAvailable,
    /// #GP(0).
    GeneralProtection,
    /// #PF; the address is loaded into CR2.
    PageFault {
        /// Linear address of the access.
        linear_address: u64,
        /// Error code.
        error_code: u32,
    },
    /// Any other hardware exception.
    Other {
        /// Vector, 0 to 31.
        vector: u8,
        /// Error code, for those that have one.
        error_code: Option<u16>,
    },
}

/// An event that the next entry injects, before the next instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An exception.
    Exception(Exception),
    /// An external interrupt with this vector. The guest must be able to accept it:
    /// [`Vp::can_take_interrupt`].
    Interrupt(u8),
    /// An NMI.
    Nmi,
}

impl From<Exception> for Event {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

const VALID: u64 = 1 << 31;
const DELIVER_ERROR_CODE: u64 = 1 << 11;

/// VM-entry interruption information and error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EntryEvent {
    info: u64,
    error_code: u64,
}

impl Event {
    fn entry_event(self) -> EntryEvent {
        const EXTERNAL_INTERRUPT: u64 = 0 << 8;
        const NMI: u64 = 2 << 8;
        let without_code = |info| EntryEvent {
            info: VALID | info,
            error_code: 0,
        };
        match self {
            Self::Exception(exception) => exception.entry_event(),
            Self::Interrupt(vector) => without_code(EXTERNAL_INTERRUPT | u64::from(vector)),
            Self::Nmi => without_code(NMI | 2),
        }
    }
}

impl Exception {
    fn entry_event(self) -> EntryEvent {
        const HARDWARE_EXCEPTION: u64 = 3 << 8;
        let (vector, error_code) = match self {
            Self::DivideError => (0, None),
            Self::InvalidOpcode => (6, None),
            Self::DeviceNotAvailable => (7, None),
            Self::GeneralProtection => (13, Some(0)),
            Self::PageFault { error_code, .. } => (14, Some(error_code)),
            Self::Other { vector, error_code } => (vector & 0x1f, error_code.map(u32::from)),
        };
        let code_flag = error_code.map_or(0, |_| DELIVER_ERROR_CODE);
        EntryEvent {
            info: VALID | HARDWARE_EXCEPTION | code_flag | u64::from(vector),
            error_code: error_code.unwrap_or(0).into(),
        }
    }
}

impl Vp {
    /// Injects an event at the next entry, before the next instruction.
    ///
    /// An exception replaces an event that is already pending. An interrupt or an NMI does not: the
    /// caller has to keep it until it can be injected.
    ///
    /// ```no_run
    /// # use vtl::{Event, Exception};
    /// # fn f(vp: &mut vtl::Vp) -> vtl::Result<()> {
    /// vp.inject(Exception::GeneralProtection)?;
    /// if vp.can_take_interrupt()? {
    ///     vp.inject(Event::Interrupt(0x31))?;
    /// } else {
    ///     vp.watch_interrupt_window()?; // comes as Exit::InterruptWindow
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::EventPending`], or [`Error::Tdcall`] with the status.
    pub fn inject(&self, event: impl Into<Event>) -> Result<()> {
        const CR0_PE: u64 = 1;
        let event = event.into();
        let EntryEvent {
            mut info,
            error_code,
        } = event.entry_event();
        if !matches!(event, Event::Exception(_)) {
            if let Some(entry_info) = self.pending_event()? {
                return Err(Error::EventPending { entry_info });
            }
        }
        // In real mode an exception pushes no error code, and the VM-entry checks refuse one.
        if info & DELIVER_ERROR_CODE != 0 && self.read(L2Field::GUEST_CR0)? & CR0_PE == 0 {
            info &= !DELIVER_ERROR_CODE;
        }
        if info & DELIVER_ERROR_CODE != 0 {
            self.write(L2Field::ENTRY_EXCEPTION_ERROR_CODE, error_code)?;
        }
        self.write(L2Field::ENTRY_INTERRUPTION_INFO, info)?;
        if let Event::Exception(Exception::PageFault { linear_address, .. }) = event {
            self.page.set_switched(SwitchedState::Cr2, linear_address);
        }
        Ok(())
    }

    /// VM-entry interruption information of the event that the next entry injects, if there is one.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn pending_event(&self) -> Result<Option<u64>> {
        let info = self.read(L2Field::ENTRY_INTERRUPTION_INFO)?;
        Ok(Some(info).filter(|info| info & VALID != 0))
    }

    /// Returns true if an interrupt can be injected: RFLAGS.IF is set, nothing blocks interrupts,
    /// and no other event is pending.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn can_take_interrupt(&self) -> Result<bool> {
        const RFLAGS_IF: u64 = 1 << 9;
        /// Blocking by STI, and by MOV SS.
        const BLOCKING: u64 = 3;
        if self.page.rflags() & RFLAGS_IF == 0 {
            return Ok(false);
        }
        let is_blocked = self.read(L2Field::GUEST_INTERRUPTIBILITY)? & BLOCKING != 0;
        Ok(!is_blocked && self.pending_event()?.is_none())
    }

    /// Makes the lower VTL exit with [`crate::Exit::InterruptWindow`] as soon as it can accept an
    /// interrupt, until [`Self::ignore_interrupt_window`] is called.
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn watch_interrupt_window(&self) -> Result<()> {
        self.write_masked(
            L2Field::PRIMARY_CONTROLS,
            INTERRUPT_WINDOW,
            INTERRUPT_WINDOW,
        )
    }

    /// Undoes [`Self::watch_interrupt_window`].
    ///
    /// # Errors
    /// [`Error::Tdcall`] with the status.
    pub fn ignore_interrupt_window(&self) -> Result<()> {
        self.write_masked(L2Field::PRIMARY_CONTROLS, 0, INTERRUPT_WINDOW)
    }
}

const INTERRUPT_WINDOW: u64 = 1 << 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_have_their_types_and_vectors() {
        let info = |event: Event| event.entry_event().info;
        assert_eq!(info(Exception::GeneralProtection.into()), 0x8000_0b0d);
        assert_eq!(info(Exception::InvalidOpcode.into()), 0x8000_0306);
        assert_eq!(info(Event::Interrupt(0x31)), 0x8000_0031);
        assert_eq!(info(Event::Nmi), 0x8000_0202);
        let fault = Exception::PageFault {
            linear_address: 1,
            error_code: 0x15,
        };
        let expected = EntryEvent {
            info: 0x8000_0b0e,
            error_code: 0x15,
        };
        assert_eq!(fault.entry_event(), expected);
    }

    proptest! {
        #[test]
        fn no_exception_is_one_that_the_kernel_refuses(vector: u8, code: Option<u16>) {
            let exception = Exception::Other { vector, error_code: code };
            let EntryEvent { info, error_code } = exception.entry_event();
            prop_assert_eq!(info & !0xb1f, VALID);
            prop_assert!(error_code <= 0xffff);
            prop_assert_eq!(info & DELIVER_ERROR_CODE != 0, code.is_some());
        }
    }
}
