/* SPDX-License-Identifier: GPL-2.0 */
/* SHA-256 and SHA-384 of bytes that are all there. [FIPS 180-4] */
#ifndef VTL_SHA2_H
#define VTL_SHA2_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA384_BYTES 48

void sha256(const void *bytes, size_t size, uint8_t *hash);
void sha384(const void *bytes, size_t size, uint8_t *digest);

#endif /* VTL_SHA2_H */
