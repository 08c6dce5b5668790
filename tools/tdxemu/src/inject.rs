// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Injects events into L1: exceptions that a TDX processor would have raised.

use svm::vmcb::Event;
use tdx_model::ve::{VeDelivery, VeInfo};

use crate::vp::Vp;

const NMI: u8 = 2;
const UD: u8 = 6;
const DF: u8 = 8;
const GP: u8 = 13;
const PF: u8 = 14;
const VE: u8 = 20;

impl Vp {
    /// #UD.
    pub fn inject_ud(&mut self) {
        self.l1.inject(Event::exception(UD));
    }

    /// #GP(0).
    pub fn inject_gp(&mut self) {
        self.l1.inject(Event::exception_with_error(GP, 0));
    }

    /// #DF(0).
    pub fn inject_df(&mut self) {
        self.l1.inject(Event::exception_with_error(DF, 0));
    }

    /// #VE whose information the model already keeps.
    pub fn inject_ve(&mut self) {
        self.l1.inject(Event::exception(VE));
    }

    /// #PF.
    pub fn inject_pf(&mut self, error: u32, linear: u64) {
        self.l1.vmcb.save.cr2 = linear;
        self.l1.inject(Event::exception_with_error(PF, error));
    }

    /// NMI.
    pub fn inject_nmi(&mut self) {
        self.l1.inject(
            Event::new()
                .with_vector(NMI)
                .with_kind(Event::NMI)
                .with_is_valid(true),
        );
    }

    /// #VE, or #DF if L1 has not yet fetched the information about the previous one.
    pub fn raise_ve(&mut self, info: VeInfo) {
        match self.model.raise_ve(info) {
            VeDelivery::InjectVe => self.inject_ve(),
            VeDelivery::InjectDf => self.inject_df(),
        }
    }
}
