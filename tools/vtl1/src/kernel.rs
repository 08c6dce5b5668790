// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The secure kernel: one request at a time, from its address to its status.

mod protected;
#[cfg(test)]
mod tests;

use zeroize::Zeroize as _;

use crate::boot::Boot;
use crate::keys::Keys;
use crate::memory::{LowerMemory, Paravisor};
use crate::ranges::{Range, Vtl0Memory};
use crate::request::{Command, MAX_INPUT, MAX_OUTPUT, REQUEST_LEN, Request, Status};

use protected::Protected;
pub use protected::{MOST_ENTRIES, MOST_PROTECTED, PROTECT_ENTRY, is_protect_len};

/// Version of the interface.
pub const VERSION: u32 = 1;
/// Bytes of the output of [`Command::Identify`]: version and [`MAX_INPUT`], both u32, then the
/// identifier of the keys.
pub const IDENTITY_LEN: usize = 24;

/// Working memory of requests; overwritten after each.
pub type Buffer = [u8; MAX_OUTPUT];

/// What VTL0 gets: RAX and RCX after the return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// RAX.
    pub status: Status,
    /// RCX: bytes written, or what the status says.
    pub value: u64,
}

impl From<Status> for Reply {
    fn from(status: Status) -> Self {
        Self { status, value: 0 }
    }
}

/// State of the services.
pub struct SecureKernel {
    keys: Keys,
    memory: Vtl0Memory,
    counter: u64,
    protected: Protected,
}

impl SecureKernel {
    /// Starts with what VTL2 has given; `None` without a seed, or if VTL0's memory is not separate
    /// from VTL1's.
    pub fn new(boot: &Boot) -> Option<Self> {
        Some(Self {
            keys: Keys::derive(&boot.seed)?,
            memory: boot.memory()?,
            counter: boot.counter,
            protected: Protected::new(),
        })
    }

    /// Handles the request at `gpa`, an address of VTL0's choice.
    pub fn handle(
        &mut self,
        gpa: u64,
        buffer: &mut Buffer,
        lower: &mut impl LowerMemory,
        vtl2: &mut impl Paravisor,
    ) -> Reply {
        let request = match self.read_request(gpa, lower) {
            Ok(request) => request,
            Err(reply) => return reply,
        };
        // CAST: the input is at most as long as the buffer, which `Request::decode` checked.
        let input_len = request.input.len() as usize;
        lower.read(request.input.base(), &mut buffer[..input_len]);
        let outcome = self.serve(request.command, buffer, input_len, vtl2);
        let reply = match outcome {
            Ok(output) => {
                lower.write(request.output.base(), &buffer[output.clone()]);
                Reply {
                    status: Status::Done,
                    // CAST: widening.
                    value: output.len() as u64,
                }
            }
            Err(reply) => reply,
        };
        buffer.zeroize();
        reply
    }

    /// Copies the request, and checks all of it but the contents of the input.
    fn read_request(&self, gpa: u64, lower: &impl LowerMemory) -> Result<Request, Reply> {
        // CAST: widening.
        let place = Range::new(gpa, REQUEST_LEN as u64).ok_or(Status::BadAddress)?;
        if gpa % REQUEST_LEN as u64 != 0 || !self.memory.contains(place) {
            return Err(Status::BadAddress.into());
        }
        let mut bytes = [0; REQUEST_LEN];
        lower.read(gpa, &mut bytes);
        let request = Request::decode(&bytes)?;
        let Request {
            command,
            input,
            output,
        } = request;
        if !self.memory.contains(input) || !self.memory.contains(output) {
            return Err(Status::BadRange.into());
        }
        // VTL0 may not have written there itself: VTL1 must not do it in its place.
        if self.protected.overlaps(output) {
            return Err(Status::BadRange.into());
        }
        if input.overlaps(output) || place.overlaps(input) || place.overlaps(output) {
            return Err(Status::Overlap.into());
        }
        // CAST: widening, and the length was checked by `Request::decode`.
        let needed = command.output_len(input.len() as usize) as u64;
        if output.len() < needed {
            return Err(Reply {
                status: Status::NoRoom,
                value: needed,
            });
        }
        Ok(request)
    }

    /// Carries out a command on the copy of its input; returns where the output is in the buffer.
    fn serve(
        &mut self,
        command: Command,
        buffer: &mut Buffer,
        input_len: usize,
        vtl2: &mut impl Paravisor,
    ) -> Result<core::ops::Range<usize>, Reply> {
        let len = match command {
            Command::Identify => self.identify(buffer),
            Command::Sign => {
                let tag = self.keys.sign(&buffer[..input_len]);
                put(buffer, &tag)
            }
            Command::Count => {
                self.counter = self.counter.checked_add(1).ok_or(Status::CounterEnd)?;
                put(buffer, &self.counter.to_le_bytes())
            }
            Command::Seal => {
                let sealed = self.keys.seal(buffer, input_len);
                sealed.ok_or(Status::Malformed)?
            }
            Command::Unseal => {
                let found = self.keys.unseal(&mut buffer[..input_len]);
                return found.ok_or(Status::NotSealed.into());
            }
            Command::Protect => {
                self.protect(&buffer[..input_len], vtl2)?;
                0
            }
        };
        Ok(0..len)
    }

    fn identify(&self, buffer: &mut Buffer) -> usize {
        let mut identity = [0; IDENTITY_LEN];
        identity[..4].copy_from_slice(&VERSION.to_le_bytes());
        // CAST: 16 KiB.
        identity[4..8].copy_from_slice(&(MAX_INPUT as u32).to_le_bytes());
        identity[8..].copy_from_slice(&self.keys.id());
        put(buffer, &identity)
    }

    /// Takes VTL0's right to write from all ranges of the list, or from none if one is invalid.
    fn protect(&mut self, list: &[u8], vtl2: &mut impl Paravisor) -> Result<(), Reply> {
        let (ranges, protected) = self.protected.plan(list, &self.memory)?;
        // From now on no output goes there, even if VTL2 refuses some pages.
        self.protected = protected;
        protected::carry_out(&ranges, vtl2)
    }
}

fn put(buffer: &mut Buffer, bytes: &[u8]) -> usize {
    buffer[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}
