// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! PostMessage and SignalEvent. There is one connection, [`ECHO`], which sends everything back; and
//! the direct forms, by which VTL2 reaches the SynIC that the host keeps for VTL0.

use super::{Call, Outcome, SELF_PARTITION, SELF_VP, check_list};
use crate::host::synic::{self, Undelivered};
use crate::hyperv::{self, MESSAGE_BYTES, PAYLOAD_BYTES, status};
use crate::smp;
use crate::vp::Vp;

/// What is sent to it is returned to SINT 7 of processor 0.
const ECHO: u32 = 1;
/// The source of VTL2's VMBus.
const ECHO_SINT: u8 = 7;
/// Types with this bit are the hypervisor's own.
const RESERVED_TYPE: u32 = 1 << 31;

fn outcome(result: Result<(), Undelivered>) -> Outcome {
    result.map_err(|undelivered| match undelivered {
        Undelivered::NoProcessor => status::INVALID_VP_INDEX,
        Undelivered::Off => status::INVALID_SYNIC_STATE,
        Undelivered::Full => status::INSUFFICIENT_BUFFERS,
    })
}

/// The halves of a word.
fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32) // CAST: halves
}

impl Call {
    /// HvCallPostMessage: connection, type, size, payload.
    pub(super) fn post(&self, vp: &mut Vp) -> Outcome {
        self.check_simple(vp, 16)?;
        let (connection, _) = halves(self.word(vp, 0)?);
        let (kind, size) = halves(self.word(vp, 8)?);
        if connection != ECHO {
            return Err(status::INVALID_CONNECTION_ID);
        }
        let size = size as usize; // CAST: u32 fits
        if kind & RESERVED_TYPE != 0 || kind == 0 || size > PAYLOAD_BYTES {
            return Err(status::INVALID_PARAMETER);
        }
        self.check_simple(vp, 16 + size as u64)?;
        let mut payload = [0; PAYLOAD_BYTES];
        self.bytes(vp, 16, &mut payload[..size])?;
        let message = hyperv::message(kind, &payload[..size]);
        outcome(synic::post_message(vp, 0, ECHO_SINT, &message))
    }

    /// HvCallSignalEvent: connection and flag, in the page or in RDX.
    pub(super) fn signal(&self, vp: &mut Vp) -> Outcome {
        let word = if self.control.is_fast {
            self.input
        } else {
            self.check_simple(vp, 8)?;
            self.word(vp, 0)?
        };
        let (connection, flag) = halves(word);
        if connection != ECHO {
            return Err(status::INVALID_CONNECTION_ID);
        }
        if flag >= hyperv::FLAGS_PER_SINT {
            return Err(status::INVALID_PARAMETER);
        }
        outcome(synic::signal_event(vp, 0, ECHO_SINT, flag))
    }

    /// HvCallPostMessageDirect: partition, processor, VTL 0, source, a whole message.
    pub(super) fn post_direct(&self, vp: &mut Vp) -> Outcome {
        const SINT_OFFSET: u64 = 16;
        const MESSAGE_OFFSET: u64 = 20;
        self.check_simple(vp, MESSAGE_OFFSET + MESSAGE_BYTES)?;
        let index = self.direct_target(vp, 0)?;
        let sint = self.word(vp, SINT_OFFSET)? as u8; // CAST: one byte
        let mut message = [0; MESSAGE_BYTES as usize];
        self.bytes(vp, MESSAGE_OFFSET, &mut message)?;
        outcome(synic::post_to_vtl0(vp, index, sint, &message))
    }

    /// HvCallSignalEventDirect: partition, processor, VTL 0, SINT, flag. The output is 1 if the
    /// flag was clear.
    pub(super) fn signal_direct(&self, vp: &mut Vp) -> Outcome {
        const OUTPUT_BYTES: u64 = 8;
        self.check_simple(vp, 16)?;
        check_list(vp, self.output, OUTPUT_BYTES)?;
        let word = self.word(vp, 8)?;
        // CAST: fields of the word.
        let (sint, flag) = ((word >> 40) as u8, (word >> 48) as u32);
        let index = self.direct_target(vp, 0xff)?;
        if flag >= hyperv::FLAGS_PER_SINT {
            return Err(status::INVALID_PARAMETER);
        }
        let was_clear = synic::signal_to_vtl0(vp, index, sint, flag);
        let is_new = outcome(was_clear.map(|_| ())).map(|()| was_clear == Ok(true))?;
        self.write_output(vp, 0, &u64::from(is_new).to_le_bytes())
    }

    /// Partition, processor and VTL at the start of the direct calls. `ignored`: bits of the second
    /// byte after the VTL that have another meaning.
    fn direct_target(&self, vp: &Vp, ignored: u8) -> Result<usize, u16> {
        if self.word(vp, 0)? != SELF_PARTITION {
            return Err(status::INVALID_PARTITION_ID);
        }
        let (index, vtl) = halves(self.word(vp, 8)?);
        let vtl_and_next = vtl & !(u32::from(ignored) << 8);
        if vtl_and_next as u16 != 0 {
            // CAST: the low two bytes
            return Err(status::INVALID_PARAMETER);
        }
        match usize::try_from(index) {
            _ if index == SELF_VP => Ok(vp.index),
            Ok(index) if index < smp::count() => Ok(index),
            _ => Err(status::INVALID_VP_INDEX),
        }
    }
}
