// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! EnablePartitionVtl and EnableVpVtl: VTL1 becomes known to the host, which has nothing to do with
//! it, because the VTLs of a TD are L2 VMs. RetargetDeviceInterrupt, of a host without devices.

use super::{Call, Outcome};
use crate::hyperv::status;
use crate::vp::Vp;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// True once the partition has VTL1.
static PARTITION_HAS_VTL1: AtomicBool = AtomicBool::new(false);
/// Processors that have VTL1, by their number.
static VPS_WITH_VTL1: AtomicU64 = AtomicU64::new(0);

const VTL1: u8 = 1;
/// Partition, processor, VTL and the state to start with.
const ENABLE_VP_BYTES: u64 = 16 + 224;

impl Call {
    /// HvCallEnablePartitionVtl: partition, VTL, flags.
    pub(super) fn enable_partition_vtl(&self, vp: &mut Vp) -> Outcome {
        self.check_simple(vp, 16)?;
        self.check_partition(vp)?;
        let word = self.word(vp, 8)?;
        // CAST: the VTL is the low byte. The flag enables mode-based execution control.
        if word as u8 != VTL1 || word >> 9 != 0 {
            return Err(status::INVALID_PARAMETER);
        }
        // ORDERING: a flag that orders nothing else.
        if PARTITION_HAS_VTL1.swap(true, Ordering::Relaxed) {
            return Err(status::VTL_ALREADY_ENABLED);
        }
        Ok(())
    }

    /// HvCallEnableVpVtl: partition, processor, VTL, state.
    pub(super) fn enable_vp_vtl(&self, vp: &mut Vp) -> Outcome {
        self.check_simple(vp, ENABLE_VP_BYTES)?;
        let index = self.target(vp)?;
        let vtl = (self.word(vp, 8)? >> 32) as u32; // CAST: the upper half
        // ORDERING: flags that order nothing else.
        if vtl != u32::from(VTL1) || !PARTITION_HAS_VTL1.load(Ordering::Relaxed) {
            return Err(status::INVALID_PARAMETER);
        }
        let bit = 1 << index;
        if VPS_WITH_VTL1.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return Err(status::VTL_ALREADY_ENABLED);
        }
        Ok(())
    }

    /// HvCallRetargetDeviceInterrupt: partition, device, and what no device of this host needs.
    pub(super) fn retarget_device_interrupt(&self, vp: &mut Vp) -> Outcome {
        self.check_simple(vp, 64)?;
        self.check_partition(vp)?;
        Err(status::INVALID_DEVICE_ID)
    }
}
