# SPDX-License-Identifier: GPL-2.0
#
# What `vtl1ctl sign NAME` prints for a file, if VTL1 has the keys of a seed:
#   vtl1-sign.py SEED FILE NAME
# Computed from the description of HKDF and HMAC (RFC 5869, RFC 2104) alone, and from the words that
# Documentation/vtl1.rst gives: nothing here is shared with VTL1's own code.
import hashlib
import hmac
import sys


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


seed_file, file, name = sys.argv[1:]
with open(seed_file, "rb") as seed:
    extracted = mac(b"mshv_vtl_tdx vtl1", seed.read())
key = mac(extracted, b"sign" + b"\x01")
with open(file, "rb") as signed:
    print(mac(key, signed.read()).hex() + "  " + name)
